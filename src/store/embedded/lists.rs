//! The lists of the projects' sessions in the embedded store: what a project has in an entry of the log of creations is one
//! entry of its list. Written when the log is counted (`ledger`); goes with the entry of the log, so a list may name sessions that
//! are gone.
//!
//! Keys: `l` project, place of the first → their places and ids, the oldest first. So what comes before a place is in what
//! begins before it. No two entries of a project overlap, because those of the log do not.

use std::collections::BTreeMap;
use std::collections::BinaryHeap;

use super::EmbeddedStore;
use super::creations::Creation;
use super::creations::each;
use super::creations::passing_over_damage;
use super::engine::Batch;
use super::engine::Bytes;
use super::ledger::damaged;
use super::ledger::of_project;
use super::sessions::ordered;
use super::sessions::unordered;
use crate::domain::auth_session::ID_LENGTH;
use crate::domain::auth_session::SessionId;
use crate::domain::clock::Timestamp;
use crate::domain::ledger::Cursor;
use crate::domain::ledger::Listing;
use crate::domain::ledger::Page;
use crate::domain::project::ProjectId;
use crate::store::StoreError;

const LISTED: u8 = b'l';
/// How an entry of several sessions begins. One of before has one, and is its id: letters and digits.
const SEVERAL: u8 = 1;
/// How many sessions a page looks at, at most, for those it wants.
const LOOKED_AT: usize = 5_000;

/// Some of a project's list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: Bytes,
    /// The place of the first one.
    pub(super) first: i64,
    /// The oldest first.
    pub(super) sessions: Vec<(i64, SessionId)>,
}

impl Listed {
    /// `start`: how much of the key is before the place.
    fn read(key: Bytes, start: usize, value: &[u8]) -> Option<Self> {
        let first = unordered(*key.get(start..)?.first_chunk()?);
        let sessions = match value.split_first()? {
            (&SEVERAL, several) => read_several(several)?,
            _ => vec![(first, read_id(value)?)],
        };
        Some(Self { key, first, sessions })
    }
}

fn read_several(mut rest: &[u8]) -> Option<Vec<(i64, SessionId)>> {
    let mut sessions = Vec::with_capacity(rest.len() / (8 + ID_LENGTH));
    while let Some((place, behind)) = rest.split_first_chunk() {
        let (id, behind) = behind.split_at_checked(ID_LENGTH)?;
        sessions.push((unordered(*place), read_id(id)?));
        rest = behind;
    }
    (rest.is_empty() && !sessions.is_empty()).then_some(sessions)
}

fn read_id(id: &[u8]) -> Option<SessionId> {
    std::str::from_utf8(id).ok().and_then(SessionId::parse)
}

/// Adds to a batch what lists get of an entry of the log, or of the rest of one.
pub(super) fn list(creations: &[Creation], batch: &mut Batch) {
    let mut entries: BTreeMap<&ProjectId, (i64, Vec<u8>)> = BTreeMap::new();
    for Creation { place, id, project, .. } in creations {
        let (_, entry) = entries.entry(project).or_insert_with(|| (*place, vec![SEVERAL]));
        entry.extend_from_slice(&ordered(*place));
        entry.extend_from_slice(id.as_str().as_bytes());
    }
    for (project, (first, entry)) in entries {
        batch.insert(of_project(LISTED, project, &ordered(first)), entry);
    }
}

impl EmbeddedStore {
    /// Adds to a batch the removal of what lists have of a whole entry of the log, however it was written: one of before had
    /// an entry for each session, and may have listed the first few only.
    pub(super) fn unlist(&self, creations: &[Creation], batch: &mut Batch) -> Result<(), StoreError> {
        let mut places: BTreeMap<&ProjectId, (i64, i64)> = BTreeMap::new();
        for Creation { place, project, .. } in creations {
            places.entry(project).or_insert((*place, *place)).1 = *place;
        }
        for (project, (first, last)) in places {
            let place = |place| of_project(LISTED, project, &ordered(place));
            if first == last {
                batch.remove(place(first));
                continue;
            }
            for key in self.0.sessions.range(place(first)..=place(last)).keys() {
                batch.remove(key?);
            }
        }
        Ok(())
    }

    /// What of a project's list begins before a place, newest first.
    pub(super) fn lists(
        &self,
        project: &ProjectId,
        before: i64,
    ) -> impl Iterator<Item = Result<Listed, StoreError>> + use<> {
        let (from, to) = (of_project(LISTED, project, &[]), of_project(LISTED, project, &ordered(before)));
        let start = from.len();
        self.0.sessions.range(from..to).rev().map(move |entry| {
            let (key, value) = entry?;
            Listed::read(key, start, &value).ok_or_else(|| damaged("a list"))
        })
    }

    /// A project's sessions before a place, newest first.
    pub(super) fn listed(
        &self,
        project: &ProjectId,
        before: i64,
    ) -> impl Iterator<Item = Result<(i64, SessionId), StoreError>> + use<> {
        let newest_first = move |Listed { mut sessions, .. }: Listed| {
            sessions.retain(|(place, _)| *place < before);
            sessions.reverse();
            sessions
        };
        self.lists(project, before).flat_map(move |entry| each(entry.map(newest_first)))
    }

    /// A part of the list of some projects' sessions, of those that were counted.
    pub(super) fn page(&self, listing: &Listing, now: Timestamp) -> Result<Page, StoreError> {
        let before = listing.before.map_or(i64::MAX, Cursor::place);
        let mut lists: Vec<_> = listing.projects.iter().map(|project| self.listed(project, before)).collect();
        let mut heads = BinaryHeap::new();
        for (index, list) in lists.iter_mut().enumerate() {
            heads.extend(list.next().transpose()?.map(|(place, id)| (place, index, id)));
        }
        let mut page = Page::default();
        let mut looked_at = 0;
        while let Some((place, index, id)) = heads.pop() {
            looked_at += 1;
            let session = passing_over_damage(self.read_session(&id))?;
            if let Some(session) = session.filter(|session| listing.shows(session, now)) {
                page.sessions.push(session);
            }
            if let Some(list) = lists.get_mut(index) {
                heads.extend(list.next().transpose()?.map(|(place, id)| (place, index, id)));
            }
            if page.sessions.len() >= listing.limit || looked_at >= LOOKED_AT {
                page.next = (!heads.is_empty()).then(|| Cursor::new(place));
                break;
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::AuthSession;
    use crate::domain::auth_session::Event;
    use crate::domain::auth_session::Person;
    use crate::domain::ids::Ids;
    use crate::domain::language::Language;
    use crate::store::LedgerStore as _;
    use crate::store::SessionStore as _;
    use crate::store::embedded::creations::COUNTED;
    use crate::store::embedded::creations::CREATION;
    use crate::store::embedded::made_for_tests::BOT;
    use crate::store::embedded::made_for_tests::open;
    use crate::store::embedded::made_for_tests::queued;
    use crate::store::embedded::sessions::SESSION;

    /// One begins as another does.
    const PROJECTS: [&str; 3] = ["proj_a", "proj_ab", "proj_b"];
    /// When all have ended.
    const ENDED: Timestamp = Timestamp::from_millis(1_000_000);

    fn project(name: &str) -> ProjectId {
        ProjectId::parse(name).unwrap()
    }

    /// Sessions of all projects in turn that are created at once, one each millisecond: entries of 64.
    fn created(store: &EmbeddedStore, count: usize) -> Vec<AuthSession> {
        let ids = Ids::from_seed([4; 32]);
        let of = PROJECTS.map(project).into_iter().cycle().zip(0..).take(count);
        let sessions = of.map(|(project, at)| queued(store, &ids, &project, Timestamp::from_millis(at)));
        let sessions = sessions.collect();
        store.0.creations.write().unwrap();
        sessions
    }

    /// Lists some of what is in the log as it was done before.
    fn list_as_before(store: &EmbeddedStore, count: usize) {
        for creation in store.creations_after(0).take(count) {
            let Creation { place, id, project, .. } = creation.unwrap();
            let key = of_project(LISTED, &project, &ordered(place));
            store.0.sessions.insert(key, id.as_str()).unwrap();
            store.0.sessions.insert(COUNTED, ordered(place)).unwrap();
        }
    }

    fn keys(store: &EmbeddedStore, kind: u8) -> usize {
        store.0.sessions.scan_prefix([kind]).keys().map(Result::unwrap).count()
    }

    async fn pages(store: &EmbeddedStore, limit: usize) -> Vec<SessionId> {
        let (projects, mut before, mut all) = (PROJECTS.map(project).to_vec(), None, Vec::new());
        loop {
            let listing = Listing { projects: projects.clone(), status: None, before, limit };
            let page = store.sessions(&listing, ENDED).await.unwrap();
            all.extend(page.sessions.into_iter().map(|session| session.id));
            before = page.next;
            if before.is_none() {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn a_list_is_few_entries_and_the_same_before_any_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let sessions = created(&store, 200);
        // In the midst of an entry of the log.
        list_as_before(&store, 70);
        assert!(store.count_some().unwrap());
        assert_eq!(keys(&store, LISTED), 70 + 3 * PROJECTS.len());
        let log: Vec<_> = store.creations_after(0).map(Result::unwrap).collect();
        let places = log.iter().flat_map(|creation| [creation.place, creation.place + 1]);
        for before in places.chain([0, i64::MAX]) {
            for name in PROJECTS {
                let of = project(name);
                let expected = log.iter().rev().filter(|one| one.place < before && one.project == of);
                let expected: Vec<_> = expected.map(|one| (one.place, one.id.clone())).collect();
                let listed: Vec<_> = store.listed(&of, before).map(Result::unwrap).collect();
                assert_eq!(listed, expected, "{name} before {before}");
            }
        }
        for limit in [1, 7, 64, 300] {
            let found = pages(&store, limit).await;
            assert!(found.iter().eq(sessions.iter().rev().map(|session| &session.id)), "{limit}");
        }
    }

    #[tokio::test]
    async fn retention_leaves_nothing_of_a_list_and_meanwhile_it_names_who_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let sessions = created(&store, 300);
        list_as_before(&store, 70);
        assert!(store.count_some().unwrap());
        while store.expire(ENDED).await.unwrap().next <= ENDED {}
        // Each in turn is the first that stays: in the midst of entries, and between them.
        for stays in [0, 1, 20, 63, 64, 65, 69, 70, 71, 100, 128, 129, 190, 200, 256, 280, 300] {
            let before = Timestamp::from_millis(i64::try_from(stays).unwrap());
            while store.prune(before, ENDED).await.unwrap() {}
            assert_eq!(keys(&store, SESSION), sessions.len() - stays);
            let left = sessions.iter().skip(stays).rev().map(|session| &session.id);
            assert!(pages(&store, 7).await.iter().eq(left), "{stays}");
        }
        for kind in [LISTED, CREATION, SESSION] {
            assert_eq!(keys(&store, kind), 0, "{}", char::from(kind));
        }
    }

    #[tokio::test]
    async fn a_list_of_a_cleared_project_stays_only_with_who_is_still_to_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        let sessions = created(&store, 1_200);
        list_as_before(&store, 70);
        while !store.count_some().unwrap() {}
        let of_project = |name: &str| -> Vec<_> {
            sessions.iter().filter(|session| session.project == project(name)).collect()
        };
        let open = Event::Open {
            person: Person { id: 7, access_hash: 3, name: "Alice".to_owned(), username: None },
            via: BOT,
            message: 10,
            language: Language::En,
        };
        let opened = of_project("proj_ab")[200];
        store.apply(&opened.id, &open, opened.created_at).await.unwrap();
        let others = keys(&store, LISTED) - store.lists(&project("proj_ab"), i64::MAX).count();
        assert_eq!(store.clear_project(&project("proj_ab"), ENDED).await.unwrap().len(), 1);
        assert!(!store.remove_cleared(&project("proj_ab"), Timestamp::default()).await.unwrap());
        assert_eq!(store.lists(&project("proj_ab"), i64::MAX).count(), 1);
        assert_eq!(keys(&store, SESSION), 2 * 400 + 1);
        assert!(store.remove_cleared(&project("proj_ab"), ENDED).await.unwrap());
        assert_eq!((keys(&store, LISTED), keys(&store, SESSION)), (others, 2 * 400));
        let left = sessions.iter().rev().filter(|session| session.project != project("proj_ab"));
        assert!(pages(&store, 100).await.iter().eq(left.map(|session| &session.id)));
        // What the log still has of it goes with the others.
        while store.expire(ENDED).await.unwrap().next <= ENDED {}
        while store.prune(ENDED, ENDED).await.unwrap() {}
        assert_eq!((keys(&store, LISTED), keys(&store, CREATION), keys(&store, SESSION)), (0, 0, 0));
    }

    #[test]
    fn a_cut_entry_is_damaged() {
        let key = [b"lproj_a\0", &ordered(9)[..]].concat();
        let read = |value: &[u8]| Listed::read(Bytes::from(&key[..]), key.len() - 8, value);
        let (one, other) = ("0".repeat(ID_LENGTH), "1".repeat(ID_LENGTH));
        assert_eq!(read(one.as_bytes()).unwrap().sessions[0].0, 9);
        let first = [&ordered(9)[..], one.as_bytes()].concat();
        let whole = [&[SEVERAL], &first[..], &ordered(11), other.as_bytes()].concat();
        let places: Vec<_> = read(&whole).unwrap().sessions.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [9, 11]);
        for cut in (0..whole.len()).filter(|cut| *cut != 1 + first.len()) {
            assert!(read(&whole[..cut]).is_none(), "cut at {cut}");
        }
    }
}
