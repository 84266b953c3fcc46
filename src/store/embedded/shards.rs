//! What the embedded store keeps in memory of sessions: a lock for each few of them, which of them have writes that a
//! crash could still undo, which are known to be pending, and who waits for a change.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::pending::Key;
use super::pending::Pending;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::clock::Timestamp;
use crate::domain::project::ProjectId;
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
    pending: Pending,
    /// How often one of them was written.
    changes: u64,
}

/// How a shard was when a session was about to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before(u64);

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

    /// Until when the session is pending in this project, if that is known.
    pub(super) fn pending_until(&self, id: &SessionId, project: &ProjectId) -> Option<Timestamp> {
        let key = Key::new(&self.hasher, id, project);
        self.hold(id).pending.until(key)
    }

    /// To be called before a session is read that is to be remembered.
    pub(super) fn before(&self, id: &SessionId) -> Before {
        Before(self.hold(id).changes)
    }

    /// Remembers a session that was read, unless it may have changed since.
    pub(super) fn read(&self, session: &AuthSession, before: Before) {
        let mut shard = self.hold(&session.id);
        if shard.changes == before.0 {
            self.now_is(&mut shard, session);
        }
    }

    /// Remembers what became of a session, or what a new one is. Whoever writes one calls it while the shard is held.
    pub(super) fn now_is(&self, shard: &mut Shard, session: &AuthSession) {
        let key = Key::new(&self.hasher, &session.id, &session.project);
        match session.state {
            State::Pending => shard.pending.remember(key, session.expires_at),
            State::Confirmed { .. }
            | State::Cancelled { .. }
            | State::Expired { .. }
            | State::Used { .. } => {
                shard.pending.forget(key);
            }
        }
    }

    /// Forgets a session that is removed, while its shard is held.
    pub(super) fn is_gone(&self, shard: &mut Shard, id: &SessionId, project: &ProjectId) {
        shard.pending.forget(Key::new(&self.hasher, id, project));
        // Whoever has just read it must not remember it again.
        shard.changes += 1;
    }

    /// Which shard a session is in.
    pub(super) fn index(&self, id: &SessionId) -> usize {
        usize::try_from(self.hasher.hash_one(id) % SHARDS as u64).unwrap_or(0)
    }

    fn shard(&self, id: &SessionId) -> &Arc<Mutex<Shard>> {
        #[expect(clippy::expect_used, reason = "the index is a remainder by their number")]
        self.shards.get(self.index(id)).expect("one of the shards")
    }
}

impl Shard {
    /// Remembers that the session's last write has this number.
    pub(super) fn wrote(&mut self, id: &SessionId, number: u64, is_durable: impl Fn(u64) -> bool) {
        if self.written.len() >= MANY {
            self.written.retain(|_, number| !is_durable(*number));
        }
        self.written.insert(id.clone(), number);
        self.changes += 1;
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
