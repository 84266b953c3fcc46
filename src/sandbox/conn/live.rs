//! Who is connected: connections by key, MTProto sessions by key and id, and the way out to each. A session outlives its
//! connection, so that unacknowledged answers find their way to the next one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::domain::clock::Clock;
use crate::lifecycle::SystemClock;

use super::super::host::Host;
use super::super::hub::KnownKey;
use super::super::wire::envelope::Message;
use super::super::wire::session::Kind;
use super::super::wire::session::Session;
use super::super::world::DeviceId;

/// How many sessions of one key are remembered; the one unused longest gives way.
const MAX_SESSIONS_PER_KEY: usize = 64;

/// How much may wait for a slow reader, bytes. More than what a session keeps to send again.
const MAX_WAITING: usize = 8 << 20;

/// Something for a connection's writer.
#[derive(Debug)]
pub(crate) enum Out {
    /// An unencrypted answer of the key exchange.
    Plain(Vec<u8>),
    /// One message of a session.
    Message(Arc<KnownKey>, Arc<LiveSession>, Message),
    /// A transport error, after which the connection is closed.
    Error(i32),
    /// Nothing more: close when all before this is written.
    Close,
}

impl Out {
    /// About how long it will be, bytes.
    pub(crate) fn length(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Message(_, _, message) => message.body.len(),
            Self::Error(_) | Self::Close => 0,
        }
    }
}

/// The way out to one connection.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub(crate) connection: u64,
    pub(crate) queue: mpsc::Sender<Out>,
    /// How much waits to be written, bytes; the writer takes off what it has written.
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) ended: CancellationToken,
    /// Nothing is answered any more, and nothing says so.
    pub(crate) frozen: CancellationToken,
}

impl Outlet {
    /// Queues something. A connection whose queue is full does not read what it asks for: it is closed.
    pub(crate) fn send(&self, out: Out) {
        let length = out.length();
        let waiting = self.waiting.fetch_add(length, Ordering::SeqCst).saturating_add(length);
        if waiting > MAX_WAITING || self.queue.try_send(out).is_err() {
            self.ended.cancel();
        }
    }
}

/// A session and the connection that it currently speaks through.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub(crate) id: i64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    link: Option<(Outlet, Arc<KnownKey>)>,
    /// The open connections that have carried this session.
    carried_by: Vec<u64>,
    announced: bool,
    wants_updates: bool,
    used: u64,
}

impl LiveSession {
    /// Works on the MTProto state.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        work(&mut self.inner().session)
    }

    /// Whether the client has been told of this session; from now on it has.
    pub(crate) fn announce(&self) -> bool {
        !std::mem::replace(&mut self.inner().announced, true)
    }

    /// Updates go to this session from now on.
    pub(crate) fn want_updates(&self) {
        self.inner().wants_updates = true;
    }

    /// Numbers a message and sends it, if a connection is there.
    pub(crate) fn send(self: &Arc<Self>, kind: Kind, body: Vec<u8>) {
        let mut inner = self.inner();
        let message = inner.session.outgoing(SystemClock.now().as_millis(), kind, body);
        // Queued under the lock, so that ids leave in order.
        if let Some((outlet, key)) = &inner.link {
            outlet.send(Out::Message(Arc::clone(key), Arc::clone(self), message));
        }
    }

    /// Numbers an answer and keeps it without sending it: the connection is about to be cut.
    pub(crate) fn keep(&self, kind: Kind, body: Vec<u8>) {
        self.inner().session.outgoing(SystemClock.now().as_millis(), kind, body);
    }

    /// Sends a message once more, as it was.
    pub(crate) fn send_again(self: &Arc<Self>, message: Message) {
        if let Some((outlet, key)) = &self.inner().link {
            outlet.send(Out::Message(Arc::clone(key), Arc::clone(self), message));
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that has used a key.
#[derive(Debug)]
struct LiveConnection {
    peer: SocketAddr,
    host: Option<Host>,
    ended: CancellationToken,
}

#[derive(Debug, Default)]
struct LiveKey {
    /// Destroyed because two hosts used it at once; those who have it open are told so.
    duplicated: bool,
    connections: HashMap<u64, LiveConnection>,
    sessions: HashMap<i64, Arc<LiveSession>>,
}

/// What can be done to a connection from outside.
#[derive(Clone, Debug)]
struct Switches {
    ended: CancellationToken,
    frozen: CancellationToken,
}

/// All that is connected.
#[derive(Debug, Default)]
pub(crate) struct Live {
    keys: Mutex<HashMap<i64, LiveKey>>,
    all: Mutex<HashMap<u64, Switches>>,
    next: AtomicU64,
}

impl Live {
    /// Counts a new connection in; `None` when there are `limit` already.
    pub(crate) fn enter(
        &self,
        ended: &CancellationToken,
        frozen: &CancellationToken,
        limit: usize,
    ) -> Option<u64> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= limit {
            return None;
        }
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        all.insert(connection, Switches { ended: ended.clone(), frozen: frozen.clone() });
        Some(connection)
    }

    /// Counts a connection out. Its sessions stay, without a way out.
    pub(crate) fn leave(&self, connection: u64) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&connection);
        let mut keys = self.keys();
        keys.retain(|_, key| {
            if key.connections.remove(&connection).is_none() {
                return true;
            }
            for session in key.sessions.values() {
                let mut inner = session.inner();
                inner.carried_by.retain(|carrier| *carrier != connection);
                if inner.link.as_ref().is_some_and(|(outlet, _)| outlet.connection == connection) {
                    inner.link = None;
                }
            }
            // Nobody is left who would have to be told.
            !(key.duplicated && key.connections.is_empty())
        });
    }

    /// A key is no more: its sessions are forgotten. Who has one open that two hosts used is still told so.
    pub(crate) fn forget(&self, key: i64) {
        let mut keys = self.keys();
        if keys.get(&key).is_some_and(|live| !live.duplicated || live.connections.is_empty()) {
            keys.remove(&key);
        }
    }

    /// Closes every connection.
    pub(crate) fn end_all(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in all.values() {
            connection.ended.cancel();
        }
    }

    /// Has every connection that is open now fall silent for good.
    pub(crate) fn freeze_all(&self) {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in all.values() {
            connection.frozen.cancel();
        }
    }

    /// Notes that a connection uses a key, and returns the other open ones that do.
    pub(crate) fn attach(
        &self,
        key: i64,
        outlet: &Outlet,
        peer: SocketAddr,
    ) -> Vec<(u64, SocketAddr, Option<Host>)> {
        let mut keys = self.keys();
        let live = keys.entry(key).or_default();
        live.connections
            .insert(outlet.connection, LiveConnection { peer, host: None, ended: outlet.ended.clone() });
        live.connections
            .iter()
            .filter(|(id, other)| **id != outlet.connection && !other.ended.is_cancelled())
            .map(|(id, other)| (*id, other.peer, other.host))
            .collect()
    }

    /// Notes that a key was used by two hosts at once.
    pub(crate) fn mark_duplicated(&self, key: i64) {
        self.keys().entry(key).or_default().duplicated = true;
    }

    /// Whether a key was used by two hosts at once.
    pub(crate) fn is_duplicated(&self, key: i64) -> bool {
        self.keys().get(&key).is_some_and(|live| live.duplicated)
    }

    /// Remembers the host of a connection.
    pub(crate) fn set_host(&self, key: i64, connection: u64, host: Host) {
        if let Some(live) = self.keys().get_mut(&key).and_then(|live| live.connections.get_mut(&connection)) {
            live.host = Some(host);
        }
    }

    /// The session of a key, made if need be, speaking through this connection from now on. A connection that is
    /// new to the session gets what is not acknowledged.
    pub(crate) fn session(
        &self,
        key: &Arc<KnownKey>,
        key_id: i64,
        id: i64,
        outlet: &Outlet,
    ) -> Arc<LiveSession> {
        let used = self.next.fetch_add(1, Ordering::Relaxed);
        let session = {
            let mut keys = self.keys();
            let sessions = &mut keys.entry(key_id).or_default().sessions;
            let session = sessions.entry(id).or_insert_with(|| {
                Arc::new(LiveSession {
                    id,
                    inner: Mutex::new(Inner {
                        session: Session::default(),
                        link: None,
                        carried_by: Vec::new(),
                        announced: false,
                        wants_updates: false,
                        used,
                    }),
                })
            });
            let session = Arc::clone(session);
            if sessions.len() > MAX_SESSIONS_PER_KEY {
                let others = sessions.iter().filter(|(other, _)| **other != id);
                let oldest = others.map(|(other, session)| (session.inner().used, *other)).min();
                if let Some((_, oldest)) = oldest {
                    sessions.remove(&oldest);
                }
            }
            session
        };
        let mut inner = session.inner();
        inner.used = used;
        let linked = inner.link.as_ref().is_some_and(|(old, _)| old.connection == outlet.connection);
        if !linked {
            if !inner.carried_by.contains(&outlet.connection) {
                inner.carried_by.push(outlet.connection);
                for message in inner.session.unacknowledged() {
                    outlet.send(Out::Message(Arc::clone(key), Arc::clone(&session), message));
                }
            }
            inner.link = Some((outlet.clone(), Arc::clone(key)));
        }
        drop(inner);
        session
    }

    /// Ends a session; whether there was one.
    pub(crate) fn destroy_session(&self, key: i64, id: i64) -> bool {
        self.keys().get_mut(&key).is_some_and(|live| live.sessions.remove(&id).is_some())
    }

    /// The sessions of these devices that want updates and have a connection.
    pub(crate) fn listening(&self, devices: &[DeviceId]) -> Vec<Arc<LiveSession>> {
        let keys = self.keys();
        let sessions = devices
            .iter()
            .filter_map(|device| keys.get(&device.0))
            .flat_map(|live| live.sessions.values())
            .filter(|session| {
                let inner = session.inner();
                inner.wants_updates && inner.link.is_some()
            });
        sessions.cloned().collect()
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, HashMap<i64, LiveKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(connection: u64) -> (Outlet, mpsc::Receiver<Out>) {
        let (queue, outgoing) = mpsc::channel(100);
        let (ended, frozen) = <(CancellationToken, CancellationToken)>::default();
        (Outlet { connection, queue, waiting: Arc::default(), ended, frozen }, outgoing)
    }

    #[test]
    fn who_lets_too_much_wait_is_closed() {
        let (outlet, _outgoing) = outlet(1);
        outlet.send(Out::Plain(vec![0; MAX_WAITING / 2]));
        outlet.send(Out::Plain(vec![0; MAX_WAITING / 2]));
        assert!(!outlet.ended.is_cancelled());
        outlet.send(Out::Plain(vec![0]));
        assert!(outlet.ended.is_cancelled());
    }

    #[test]
    fn a_forgotten_key_is_let_go_once_nobody_has_to_be_told() {
        let (live, (outlet, _outgoing)) = (Live::default(), outlet(1));
        let peer = "127.0.0.1:1".parse().unwrap();
        for key in [1, 2] {
            live.attach(key, &outlet, peer);
        }
        live.mark_duplicated(2);
        live.forget(1);
        live.forget(2);
        assert!(live.is_duplicated(2), "whoever has it open is told");
        assert_eq!(live.keys().len(), 1);
        live.leave(1);
        assert_eq!(live.keys().len(), 0);
    }
}
