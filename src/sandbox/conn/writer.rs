//! The sending half of a connection: joins waiting messages into containers, encrypts and frames them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;

use crate::domain::clock::Clock;
use crate::lifecycle::SystemClock;
use crate::lifecycle::network_sleep;

use super::super::hub::Hub;
use super::super::hub::KnownKey;
use super::super::wire::envelope;
use super::super::wire::envelope::Message;
use super::super::wire::framing::Framing;
use super::super::wire::framing::Packer;
use super::super::wire::salts;
use super::live::LiveSession;
use super::live::Out;
use super::live::Outlet;

/// A peer that takes longer than this to read a batch is closed.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How many messages go into one container.
const BATCH: usize = 50;
/// A container is closed when it is this long, bytes.
const CONTAINER_BYTES: usize = 512 << 10;

/// What waits to be written.
pub(super) struct Outgoing {
    pub(super) queue: mpsc::Receiver<Out>,
    /// How much that is, bytes.
    pub(super) waiting: Arc<AtomicUsize>,
}

/// Writes until the connection ends.
pub(super) async fn run(
    hub: Arc<Hub>,
    mut stream: OwnedWriteHalf,
    framing: Framing,
    mut outgoing: Outgoing,
    outlet: Outlet,
) {
    let Outlet { ended, frozen, .. } = outlet;
    let mut packer = Packer::new(framing);
    let mut batch = Vec::new();
    loop {
        let received = tokio::select! {
            () = ended.cancelled() => break,
            received = outgoing.queue.recv_many(&mut batch, BATCH) => received,
        };
        if received == 0 {
            break;
        }
        let length = batch.iter().map(Out::length).sum();
        let silent = hub.faults.silent() || frozen.is_cancelled();
        let (bytes, last) = frames(&hub, &mut packer, batch.drain(..).filter(|_| !silent));
        let written = tokio::select! {
            () = ended.cancelled() => break,
            () = network_sleep(WRITE_LIMIT) => break,
            written = stream.write_all(&bytes) => written,
        };
        if last || written.is_err() {
            break;
        }
        outgoing.waiting.fetch_sub(length, Ordering::SeqCst);
    }
    // The peer may be gone already.
    let _ = stream.shutdown().await;
    ended.cancel();
}

/// The bytes for a batch, and whether the connection ends with them.
fn frames(hub: &Hub, packer: &mut Packer, batch: impl Iterator<Item = Out>) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut gathered: Option<Gathered> = None;
    for out in batch {
        match out {
            Out::Message(key, session, message) => {
                let fits = gathered.as_ref().is_some_and(|gathered| gathered.takes(&key, &session, &message));
                if !fits && let Some(full) = gathered.take() {
                    bytes.extend(packer.pack(&full.seal(hub)));
                }
                gathered
                    .get_or_insert_with(|| Gathered { key, session, messages: Vec::new(), length: 0 })
                    .add(message);
            }
            other @ (Out::Plain(_) | Out::Error(_) | Out::Close) => {
                if let Some(full) = gathered.take() {
                    bytes.extend(packer.pack(&full.seal(hub)));
                }
                match other {
                    Out::Plain(payload) => bytes.extend(packer.pack(&payload)),
                    Out::Error(code) => {
                        bytes.extend(packer.error(code));
                        return (bytes, true);
                    }
                    Out::Close | Out::Message(..) => return (bytes, true),
                }
            }
        }
    }
    if let Some(full) = gathered {
        bytes.extend(packer.pack(&full.seal(hub)));
    }
    (bytes, false)
}

/// Messages of one session that leave together.
struct Gathered {
    key: Arc<KnownKey>,
    session: Arc<LiveSession>,
    messages: Vec<Message>,
    length: usize,
}

impl Gathered {
    fn takes(&self, key: &Arc<KnownKey>, session: &Arc<LiveSession>, message: &Message) -> bool {
        Arc::ptr_eq(&self.key, key)
            && Arc::ptr_eq(&self.session, session)
            && self.length + message.body.len() <= CONTAINER_BYTES
    }

    fn add(&mut self, message: Message) {
        self.length += message.body.len() + 16;
        self.messages.push(message);
    }

    fn seal(mut self, hub: &Hub) -> Vec<u8> {
        let now = SystemClock.now();
        let message = match (self.messages.pop(), self.messages.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                self.messages.extend(last);
                self.session.with(|session| Message {
                    id: session.next_id(now.as_millis(), true),
                    seq_no: session.container_seq_no(),
                    body: envelope::container(&self.messages),
                })
            }
        };
        let salt = salts::current(&self.key.key, now.as_secs());
        let wrong = i64::from(hub.faults.wrong_session_id());
        envelope::seal(&self.key.key, salt, self.session.id ^ wrong, &message, hub.ids.bytes())
    }
}
