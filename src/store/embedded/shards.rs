//! What the embedded store keeps in memory of sessions: a lock for each few of them, which of them have writes that a
//! crash could still undo, and who waits for a change.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::auth_session::SessionId;
use crate::store::Wakeup;

const SHARDS: usize = 64;
/// How many remembered writes make it worth forgetting the durable ones.
const MANY: usize = 256;

/// The shards of all sessions. Holding a shard is holding its sessions: of changes that race one comes first.
#[derive(Debug)]
pub(super) struct Shards {
    hasher: RandomState,
    shards: Vec<Arc<Mutex<Shard>>>,
}

/// A few sessions.
#[derive(Debug, Default)]
pub(super) struct Shard {
    written: HashMap<SessionId, u64>,
    waiting: HashMap<SessionId, watch::Sender<()>>,
}

impl Default for Shards {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }
}

impl Shards {
    /// Holds the shard of a session. Never across an await.
    pub(super) fn hold(&self, id: &SessionId) -> MutexGuard<'_, Shard> {
        self.shard(id).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes ready when the session changes.
    pub(super) fn subscribe(&self, id: &SessionId) -> Wakeup {
        let changes = {
            let mut shard = self.hold(id);
            shard.waiting.entry(id.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
        };
        let (shard, id) = (Arc::clone(self.shard(id)), id.clone());
        // Whoever leaves last clears the table; who is last is settled under the lock.
        Wakeup::new(changes, move |changes| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            drop(changes);
            if shard.waiting.get(&id).is_some_and(|sender| sender.receiver_count() == 0) {
                shard.waiting.remove(&id);
            }
        })
    }

    fn shard(&self, id: &SessionId) -> &Arc<Mutex<Shard>> {
        let index = usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0);
        #[expect(clippy::expect_used, reason = "the index is a remainder by their number")]
        self.shards.get(index).expect("one of the shards")
    }
}

impl Shard {
    /// Remembers that the session's last write has this number.
    pub(super) fn wrote(&mut self, id: &SessionId, number: u64, is_durable: impl Fn(u64) -> bool) {
        if self.written.len() >= MANY {
            self.written.retain(|_, number| !is_durable(*number));
        }
        self.written.insert(id.clone(), number);
    }

    /// The number of the session's last write, while that is worth knowing.
    pub(super) fn last_write(&self, id: &SessionId) -> Option<u64> {
        self.written.get(id).copied()
    }

    /// Wakes who waits for the session.
    pub(super) fn wake(&self, id: &SessionId) {
        if let Some(sender) = self.waiting.get(id) {
            sender.send_replace(());
        }
    }
}
