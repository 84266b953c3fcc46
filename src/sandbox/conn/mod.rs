//! One TCP connection of a client: accepts it, makes keys, opens packets, keeps the rules of MTProto, and hands requests
//! to `rpc`. Hostile bytes end this connection and nothing else.

pub(crate) mod live;
mod messages;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::clock::Clock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::network_sleep;

use super::host::Host;
use super::hub::Hub;
use super::hub::KnownKey;
use super::wire::Input;
use super::wire::envelope;
use super::wire::framing::FrameError;
use super::wire::framing::Reader;
use super::wire::keyex::Exchange;
use super::wire::keyex::Step;
use super::wire::keyex::Surroundings;

use live::Out;
use live::Outlet;

/// How many messages may wait for a slow reader.
const QUEUE: usize = 1024;

/// What connections may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most at once, over all data centres.
    pub(crate) connections: usize,
    /// The first encrypted packet must have come by then.
    pub(crate) handshake: Duration,
    /// A connection without any packet for this long is closed.
    pub(crate) idle: Duration,
    /// How long a bot has for its answer to a press. Real time: the person watches.
    pub(crate) callback: Duration,
    /// How many keys may be kept on which nobody is signed in.
    pub(crate) unused_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            handshake: Duration::from_secs(30),
            idle: Duration::from_secs(15 * 60),
            callback: Duration::from_secs(15),
            unused_keys: 10_000,
        }
    }
}

/// Accepts connections to one data centre until the sandbox stops.
pub(crate) async fn accept(hub: Arc<Hub>, dc: i32, listener: TcpListener) {
    let stopping = hub.tasks.stopping();
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of file descriptors, most likely: let others finish first.
            network_sleep(Duration::from_millis(50)).await;
            continue;
        };
        if hub.faults.refuse_connections() {
            continue;
        }
        let serving = Arc::clone(&hub);
        hub.tasks.spawn("sandbox connection", async move {
            serve(serving, dc, stream, peer).await;
        });
    }
}

async fn serve(hub: Arc<Hub>, dc: i32, stream: TcpStream, peer: SocketAddr) {
    let ended = hub.tasks.stopping().child_token();
    let frozen = CancellationToken::new();
    let Some(id) = hub.live.enter(&ended, &frozen, hub.limits.connections) else {
        tracing::warn!("too many connections to the sandbox");
        return;
    };
    // Answers are small and each is waited for.
    let _ = stream.set_nodelay(true);
    let (read, write) = stream.into_split();
    let (queue, outgoing) = mpsc::channel(QUEUE);
    let waiting = Arc::default();
    let outlet = Outlet {
        connection: id,
        queue,
        waiting: Arc::clone(&waiting),
        ended: ended.clone(),
        frozen: frozen.clone(),
    };
    let mut deadline = Instant::now() + hub.limits.handshake;
    let reader = tokio::select! {
        () = ended.cancelled() => None,
        () = until(deadline) => None,
        reader = Reader::detect(BufReader::new(read)) => reader.ok(),
    };
    if let Some(mut reader) = reader {
        let outgoing = writer::Outgoing { queue: outgoing, waiting };
        hub.tasks.spawn(
            "sandbox writer",
            writer::run(Arc::clone(&hub), write, reader.framing(), outgoing, outlet.clone()),
        );
        let mut connection = Connection {
            hub: Arc::clone(&hub),
            dc,
            peer,
            outlet,
            exchange: Exchange::new(dc),
            plain_ids: super::wire::session::Session::default(),
            key: None,
            ping_deadline: None,
            inflatable: 0,
            under_way: Arc::default(),
        };
        loop {
            let packet = tokio::select! {
                () = ended.cancelled() => break,
                // What is frozen does not hang up either.
                () = until(deadline), if !frozen.is_cancelled() => break,
                packet = reader.next() => packet,
            };
            match packet {
                Ok(packet) => {
                    if !connection.on_packet(&packet).await {
                        break;
                    }
                }
                Err(FrameError::Ended(_)) => break,
                Err(error) => {
                    tracing::debug!(%error, "closing a sandbox connection");
                    break;
                }
            }
            if connection.key.is_some() {
                let idle = Instant::now() + hub.limits.idle;
                deadline = connection.ping_deadline.map_or(idle, |ping| ping.min(idle));
            }
        }
    }
    ended.cancel();
    hub.live.leave(id);
}

async fn until(deadline: Instant) {
    network_sleep(deadline.saturating_duration_since(Instant::now())).await;
}

/// The state of a connection that has shown which transport it speaks.
struct Connection {
    hub: Arc<Hub>,
    dc: i32,
    peer: SocketAddr,
    outlet: Outlet,
    exchange: Exchange,
    plain_ids: super::wire::session::Session,
    /// The key used last. It is kept here, because it may be forgotten elsewhere.
    key: Option<(i64, Arc<KnownKey>)>,
    /// When the connection ends unless another ping comes.
    ping_deadline: Option<Instant>,
    /// What the packet at hand may still inflate to, bytes.
    inflatable: u64,
    /// Requests that are being delayed.
    under_way: Arc<std::sync::atomic::AtomicUsize>,
}

impl Connection {
    /// Takes one packet. Whether the connection goes on.
    async fn on_packet(&mut self, packet: &[u8]) -> bool {
        if self.hub.faults.silent() || self.outlet.frozen.is_cancelled() {
            return true;
        }
        let mut input = Input(packet);
        match input.long() {
            None => false,
            Some(0) => self.on_plain(input),
            Some(key_id) => self.on_encrypted(key_id, packet).await,
        }
    }

    /// An unencrypted message: key exchange only.
    fn on_plain(&mut self, mut input: Input<'_>) -> bool {
        let (Some(_), Some(length)) = (input.long(), input.length()) else {
            return false;
        };
        let Some(body) = input.take(length).filter(|_| input.0.is_empty()) else {
            return false;
        };
        let hub = Arc::clone(&self.hub);
        let around = Surroundings {
            rsa: &hub.rsa,
            ids: &hub.ids,
            now: SystemClock.now().as_secs(),
            taken: &|id| hub.knows_key(id),
        };
        let reply = match self.exchange.step(around, body) {
            Step::Reply(reply) => reply,
            Step::Done(reply, made) => {
                if self.hub.add_key(self.dc, &made).is_err() {
                    return false;
                }
                tracing::debug!(dc = self.dc, "a new authorisation key");
                reply
            }
            Step::Refused => {
                self.outlet.send(Out::Error(404));
                return true;
            }
        };
        let id = self.plain_ids.next_id(SystemClock.now().as_millis(), true);
        let mut packet = vec![0; 8];
        packet.extend(id.to_le_bytes());
        packet.extend(u32::try_from(reply.len()).unwrap_or(u32::MAX).to_le_bytes());
        packet.extend(reply);
        self.outlet.send(Out::Plain(packet));
        true
    }

    async fn on_encrypted(&mut self, key_id: i64, packet: &[u8]) -> bool {
        let known = self.hub.key(key_id, self.dc);
        let duplicated = known.is_none();
        let remembered = || {
            let (id, key) = self.key.as_ref()?;
            (*id == key_id && self.hub.live.is_duplicated(key_id)).then(|| Arc::clone(key))
        };
        let Some(key) = known.or_else(remembered) else {
            self.outlet.send(Out::Error(404));
            return true;
        };
        let Some(opened) = envelope::open(&key.key, packet) else {
            return false;
        };
        if duplicated {
            self.refuse_duplicated(key_id, &key, opened);
            return true;
        }
        if self.key.as_ref().is_none_or(|(id, _)| *id != key_id) {
            self.key = Some((key_id, Arc::clone(&key)));
            if self.comes_from_another_host(key_id).await {
                tracing::info!("a key is used by two processes at once: destroying it");
                self.hub.live.mark_duplicated(key_id);
                if self.hub.forget_keys(&[key_id]).is_err() {
                    return false;
                }
                self.refuse_duplicated(key_id, &key, opened);
                return true;
            }
        }
        self.on_opened(key_id, &key, opened).await
    }

    /// Whether another open connection of this key has another process, or another address, at its end.
    async fn comes_from_another_host(&self, key_id: i64) -> bool {
        let others = self.hub.live.attach(key_id, &self.outlet, self.peer);
        if others.is_empty() {
            return false;
        }
        let mine = self.find_host(self.peer).await;
        self.hub.live.set_host(key_id, self.outlet.connection, mine);
        for (connection, peer, host) in others {
            let theirs = match host {
                Some(host) => host,
                None => self.find_host(peer).await,
            };
            self.hub.live.set_host(key_id, connection, theirs);
            if mine.differs(theirs) {
                return true;
            }
        }
        false
    }

    async fn find_host(&self, peer: SocketAddr) -> Host {
        let hosts = self.hub.hosts.clone();
        tokio::task::spawn_blocking(move || hosts.find(peer)).await.unwrap_or(Host::Unknown)
    }
}
