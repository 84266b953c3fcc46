//! The end of sessions whose time is over, in the embedded store: the log of creations has them in the order in which they
//! end. After a rush, or a long stop, they are very many: those that share a lock end in one batch, with each tally once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::EmbeddedStore;
use super::creations::passing_over_damage;
use super::engine::Batch;
use crate::domain::auth_session::Event;
use crate::domain::auth_session::LIFETIME;
use crate::domain::auth_session::SessionId;
use crate::domain::auth_session::State;
use crate::domain::clock::Timestamp;
use crate::domain::errand::Errand;
use crate::store::Expired;
use crate::store::StoreError;

/// How many sessions are looked at for their end in one go: some dozens of each shard.
const EXPIRED_AT_ONCE: usize = 2048;
/// How many sessions end in one batch at most: so long is their shard held, which polls of its sessions wait for.
const TOGETHER: usize = 16;

/// Sessions that ended, and what is to be told of it.
#[derive(Debug, Default)]
struct Ended {
    ids: Vec<SessionId>,
    errands: Vec<Errand>,
}

impl EmbeddedStore {
    /// Ends the sessions whose time is over, as many as are looked at in one go: which ended, and when to look again.
    pub(super) fn end_overdue(&self, now: Timestamp) -> Result<(Expired, Vec<SessionId>), StoreError> {
        // What is written here must not gather in memory.
        self.0.sessions.wait_a_moment_for_files()?;
        let (mut ended, mut next) = (Ended::default(), now.plus(LIFETIME));
        let begun = self.expired_up_to()?;
        let (mut up_to, mut overdue) = (begun, Vec::new());
        for (seen, creation) in self.creations_after(begun).enumerate() {
            let creation = match creation {
                // What is before the damage ends first.
                Err(_) if up_to != begun => {
                    next = now;
                    break;
                }
                creation => creation?,
            };
            let end = creation.at.plus(LIFETIME);
            if seen >= EXPIRED_AT_ONCE {
                next = now;
                break;
            }
            if creation.at > now {
                self.set_aside(&creation)?;
            } else if end > now {
                next = end;
                break;
            } else {
                overdue.push(creation.id);
            }
            up_to = creation.place;
        }
        self.end_all(overdue, now, &mut ended)?;
        if up_to != begun {
            self.set_expired_up_to(up_to)?;
        }
        let mut overdue = Vec::new();
        for creation in self.aside() {
            let Some(creation) = passing_over_damage(creation.map(Some))? else { continue };
            let end = creation.at.plus(LIFETIME);
            if end > now {
                next = next.min(end);
            } else if overdue.len() < EXPIRED_AT_ONCE {
                overdue.push(creation);
            } else {
                next = now;
                break;
            }
        }
        self.end_all(overdue.iter().map(|creation| creation.id.clone()), now, &mut ended)?;
        for creation in &overdue {
            self.take_from_aside(creation)?;
        }
        let Ended { ids, errands } = ended;
        Ok((Expired { ended: ids.len() as u64, errands, next }, ids))
    }

    fn end_all(
        &self,
        overdue: impl IntoIterator<Item = SessionId>,
        now: Timestamp,
        ended: &mut Ended,
    ) -> Result<(), StoreError> {
        let mut of_shards: BTreeMap<usize, BTreeSet<SessionId>> = BTreeMap::new();
        for id in overdue {
            // Before its shard is held: nobody is to wait while it is read from a file, nor for what was decided.
            let session = passing_over_damage(self.read_session(&id))?;
            if session.is_none_or(|session| session.state != State::Pending) {
                continue;
            }
            of_shards.entry(self.0.shards.index(&id)).or_default().insert(id);
        }
        for ids in of_shards.values() {
            let ids: Vec<_> = ids.iter().collect();
            for together in ids.chunks(TOGETHER) {
                self.end_together(together, now, ended)?;
            }
        }
        Ok(())
    }

    /// Ends those of some sessions of one shard that are still pending.
    fn end_together(&self, ids: &[&SessionId], now: Timestamp, ended: &mut Ended) -> Result<(), StoreError> {
        let Some(first) = ids.first() else { return Ok(()) };
        let mut shard = self.0.shards.hold(first);
        let mut steps = Vec::new();
        for id in ids {
            let Some(before) = passing_over_damage(self.read_session(id))? else { continue };
            let Ok(step) = before.apply(&Event::Expire, now) else { continue };
            steps.push((before, step));
        }
        if !steps.is_empty() {
            self.write_steps(&mut shard, &steps, Batch::default())?;
        }
        for (_, step) in steps {
            ended.errands.extend(step.errands);
            ended.ids.push(step.session.id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::AuthSession;
    use crate::domain::auth_session::Person;
    use crate::domain::ids::Ids;
    use crate::domain::language::Language;
    use crate::domain::ledger::Tally;
    use crate::domain::project::ProjectId;
    use crate::store::LedgerStore as _;
    use crate::store::SessionStore as _;
    use crate::store::embedded::creations::CREATION;
    use crate::store::embedded::creations::Creation;
    use crate::store::embedded::made_for_tests::BOT;
    use crate::store::embedded::made_for_tests::open;
    use crate::store::embedded::made_for_tests::queued;
    use crate::store::embedded::sessions::session_key;

    const BEGIN: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Sessions of the projects in turn that are created at once.
    fn created(store: &EmbeddedStore, ids: &Ids, projects: &[ProjectId], count: usize) -> Vec<AuthSession> {
        let of = projects.iter().cycle().take(count);
        let sessions = of.map(|project| queued(store, ids, project, BEGIN)).collect();
        store.0.creations.write().unwrap();
        sessions
    }

    #[tokio::test]
    async fn what_is_before_a_damaged_entry_of_the_log_ends_all_the_same() {
        let (folder, ids) = (tempfile::tempdir().unwrap(), Ids::from_seed([5; 32]));
        let store = open(&folder).await;
        let project = [ProjectId::parse("proj_a").unwrap()];
        let sessions = created(&store, &ids, &project, 3);
        created(&store, &ids, &project, 2);
        assert!(store.count_some().unwrap());
        let newest = store.0.sessions.scan_prefix([CREATION]).keys().next_back().unwrap().unwrap();
        store.0.sessions.insert(newest, "damaged").unwrap();
        store.0.sessions.insert([b'f'; 9], "damaged").unwrap();
        let end = BEGIN.plus(LIFETIME);
        let expired = store.expire(end).await.unwrap();
        assert_eq!((expired.ended, expired.next), (3, end));
        assert!(store.expire(end).await.is_err(), "it is told");
        let state = store.session(&sessions[2].id).await.unwrap().unwrap().state;
        assert_eq!(state, State::Expired { at: end });
    }

    #[tokio::test]
    async fn of_many_that_end_together_each_is_counted_once_and_its_person_told() {
        let (folder, ids) = (tempfile::tempdir().unwrap(), Ids::from_seed([4; 32]));
        let store = open(&folder).await;
        let projects = ["proj_a", "proj_b"].map(|name| ProjectId::parse(name).unwrap());
        let sessions = created(&store, &ids, &projects, EXPIRED_AT_ONCE + 900);
        let person = Person { id: 7, access_hash: 3, name: "Alice".to_owned(), username: None };
        let open = Event::Open { person, via: BOT, message: 10, language: Language::En };
        for session in &sessions[..3] {
            store.apply(&session.id, &open, BEGIN).await.unwrap();
        }
        // One is decided, one damaged, and one is there twice, as after a crash.
        store.apply(&sessions[3].id, &Event::CancelByServer, BEGIN).await.unwrap();
        store.0.sessions.insert(session_key(&sessions[5].id), "damaged").unwrap();
        let (place, id, project) = (9, sessions[7].id.clone(), sessions[7].project.clone());
        store.set_aside(&Creation { place, at: BEGIN, id, project }).unwrap();

        let mut changes = store.subscribe(&sessions[0].id);
        let end = BEGIN.plus(LIFETIME);
        let first = store.expire(end).await.unwrap();
        assert_eq!(first.next, end, "there are more");
        let second = store.expire(end).await.unwrap();
        assert_eq!(second.next, end.plus(LIFETIME));
        assert_eq!(first.ended + second.ended, sessions.len() as u64 - 2);
        assert_eq!(first.errands.len() + second.errands.len(), 3);
        changes.changed().await;
        let half = sessions.len() as u64 / 2;
        let tallies = [
            Tally { created: half, expired: half, ..Tally::default() },
            Tally { created: half, expired: half - 2, cancelled: 1, ..Tally::default() },
        ];
        for (project, tally) in projects.iter().zip(tallies) {
            assert_eq!(store.tally(project).await.unwrap(), tally);
        }
        for (number, session) in sessions.iter().enumerate().filter(|(number, _)| ![3, 5].contains(number)) {
            let state = store.session(&session.id).await.unwrap().unwrap().state;
            assert_eq!(state, State::Expired { at: end }, "{number}");
            assert_eq!(store.known_pending(&session.id, &session.project, &|_| true), None);
        }
        assert!(store.aside().next().is_none());
        // The mark may be lost.
        store.set_expired_up_to(0).unwrap();
        assert_eq!(store.expire(end).await.unwrap().ended, 0);
        assert_eq!(store.tally(&projects[0]).await.unwrap(), tallies[0]);
    }
}
