//! The embedded store: fjall 3, one process, no set-up. Nothing outside this folder names fjall.
//! A write is acknowledged after it is durable; one thread sees to that for all who wait (group commit).

mod creations;
mod damage;
mod deliveries;
mod delivery_keys;
mod ending;
mod engine;
mod floors;
mod flusher;
mod folder;
mod former;
mod journal;
mod keeping;
mod ledger;
mod lists;
#[cfg(test)]
mod made_for_tests;
mod pending;
mod projects;
mod sessions;
mod shards;
mod space;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::creations::Creations;
use self::deliveries::Deliveries;
use self::engine::Batch;
use self::engine::Engine;
use self::engine::Tree;
use self::flusher::Flusher;
use self::ledger::Ledger;
use self::projects::Projects;
use self::shards::Shards;
use self::space::Space;
use super::SignInStore;
use super::Store;
use super::StoreError;
use super::records;
use crate::domain::account::Mode;
use crate::domain::account::UnsavedSession;
use crate::domain::login::PendingSignIn;
use crate::domain::seal::Sealer;
use crate::lifecycle::network_sleep;

/// The tree of what is neither a session nor a project.
const RECORDS: &str = "records";
const MODE: &str = "meta/mode";
const MASTER_KEY: &str = "meta/master_key";
const PING: &str = "meta/ping";
const PENDING_SIGN_IN: &str = "sign_in/pending";
const UNSAVED_SESSION: &str = "sign_in/unsaved_session";
/// How often it is looked whether writes fail, and then, whether the disk takes them again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The embedded store. Cloning shares it; the last clone closes it.
#[derive(Clone, Debug)]
pub struct EmbeddedStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Tree,
    /// Sessions and all that changes in one step with them.
    sessions: Tree,
    shards: Shards,
    creations: Arc<Creations>,
    ledger: Ledger,
    deliveries: Deliveries,
    projects: Projects,
    sealer: Sealer,
    mode: Mode,
    flusher: Flusher,
    directory: PathBuf,
    engine: Engine,
    /// Given up when all that is above is closed.
    _lock: folder::Lock,
}

impl EmbeddedStore {
    /// Opens or makes the store in `directory`.
    ///
    /// # Errors
    /// In use by another process, made in another mode or with another master key, damaged, or not writable.
    pub async fn open(
        directory: &Path,
        cache_bytes: u64,
        mode: Mode,
        sealer: Sealer,
    ) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        let opened =
            tokio::task::spawn_blocking(move || Self::open_blocking(&directory, cache_bytes, mode, sealer));
        opened.await.map_err(|_| StoreError::Unavailable("opening it panicked".to_owned()))?
    }

    /// Opens the store in `directory` as it is, to look at it or to change a record: makes none (`None`), and does not
    /// move one that an earlier version made.
    ///
    /// # Errors
    /// As [`Self::open`], and [`StoreError::Former`].
    pub async fn open_as_is(
        directory: &Path,
        cache_bytes: u64,
        mode: Mode,
        sealer: Sealer,
    ) -> Result<Option<Self>, StoreError> {
        let directory = directory.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let opened = folder::open_as_is(&directory, cache_bytes)?;
            opened.map(|opened| Self::of(opened, &directory, mode, sealer)).transpose()
        });
        opened.await.map_err(|_| StoreError::Unavailable("opening it panicked".to_owned()))?
    }

    fn open_blocking(
        directory: &Path,
        cache_bytes: u64,
        mode: Mode,
        sealer: Sealer,
    ) -> Result<Self, StoreError> {
        let opened = folder::open(directory, cache_bytes, |former| {
            let (found, canary) = (former.get(RECORDS, MODE)?, former.get(RECORDS, MASTER_KEY)?);
            check(directory, (mode, found.as_deref()), (&sealer, canary.as_deref()))
        })?;
        Self::of(opened, directory, mode, sealer)
    }

    fn of(
        (engine, lock): (Engine, folder::Lock),
        directory: &Path,
        mode: Mode,
        sealer: Sealer,
    ) -> Result<Self, StoreError> {
        // Not before the folder is ours.
        space::clear(directory);
        let records = engine.tree(RECORDS)?;
        let (found, canary) = (records.get(MODE)?, records.get(MASTER_KEY)?);
        check(directory, (mode, found.as_deref()), (&sealer, canary.as_deref()))?;
        if found.is_none() {
            let name =
                serde_json::to_vec(&mode).map_err(|error| StoreError::Unavailable(error.to_string()))?;
            records.insert(MODE, name)?;
        }
        if canary.is_none() {
            records.insert(MASTER_KEY, records::encode(&sealer, MASTER_KEY, &())?)?;
        }
        let sessions = engine.tree("sessions")?;
        let projects = Projects::open(&engine, &sealer)?;
        let creations = Arc::new(Creations::open(sessions.clone())?);
        let (shards, ledger) = (Shards::default(), Ledger::new());
        let trees = [records.clone(), sessions.clone(), projects.tree().clone()];
        let flusher = Flusher::start(engine.clone(), trees, Arc::clone(&creations))?;
        let deliveries = Deliveries::default();
        let store = Self(Arc::new(Inner {
            records,
            sessions,
            shards,
            creations,
            ledger,
            deliveries,
            projects,
            sealer,
            mode,
            flusher,
            directory: directory.to_owned(),
            engine,
            _lock: lock,
        }));
        store.bring_up_to_date()?;
        Ok(store)
    }

    fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let record = self.0.records.get(name)?;
        record.map(|record| records::decode(&self.0.sealer, name, &record)).transpose()
    }

    async fn put<T: Serialize + Sync>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let record = records::encode(&self.0.sealer, name, value)?;
        self.0.records.insert(name, record)?;
        self.0.flusher.flushed().await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.0.records.remove(name)?;
        self.0.flusher.flushed().await
    }
}

/// Whether a store is of this mode, and was made with this master key: a wrong one is told at start, not at the first
/// sign-in. What a store says of itself it may not have said yet.
fn check(
    place: &Path,
    (mode, found): (Mode, Option<&[u8]>),
    (sealer, canary): (&Sealer, Option<&[u8]>),
) -> Result<(), StoreError> {
    let place = place.display().to_string();
    if let Some(found) = found {
        let found = serde_json::from_slice(found).map_err(|_| StoreError::Corrupt(MODE.to_owned()))?;
        if found != mode {
            return Err(StoreError::OtherMode { place, found, expected: mode });
        }
    }
    let Some(canary) = canary else { return Ok(()) };
    records::decode::<()>(sealer, MASTER_KEY, canary).map_err(|error| {
        if let StoreError::OtherKey { sealed_with, configured, .. } = error {
            return StoreError::OtherKey { place, sealed_with, configured };
        }
        error
    })
}

#[async_trait]
impl SignInStore for EmbeddedStore {
    async fn pending_sign_in(&self) -> Result<Option<PendingSignIn>, StoreError> {
        self.get(PENDING_SIGN_IN)
    }

    async fn put_pending_sign_in(&self, pending: &PendingSignIn) -> Result<(), StoreError> {
        self.put(PENDING_SIGN_IN, pending).await
    }

    async fn delete_pending_sign_in(&self) -> Result<(), StoreError> {
        self.delete(PENDING_SIGN_IN).await
    }

    async fn keep_unsaved_session(&self, unsaved: &UnsavedSession) -> Result<(), StoreError> {
        let mut step = Batch::default();
        step.insert(UNSAVED_SESSION, records::encode(&self.0.sealer, UNSAVED_SESSION, unsaved)?);
        step.remove(PENDING_SIGN_IN);
        self.0.records.apply_batch(step)?;
        self.0.flusher.flushed().await
    }

    async fn unsaved_session(&self) -> Result<Option<UnsavedSession>, StoreError> {
        self.get(UNSAVED_SESSION)
    }

    async fn delete_unsaved_session(&self) -> Result<(), StoreError> {
        self.delete(UNSAVED_SESSION).await
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn ping(&self) -> Result<(), StoreError> {
        let written = self.put(PING, &()).await;
        // Nothing is flushed where nothing could be inserted, and the flusher does not know.
        if let Err(StoreError::Unavailable(_)) = &written {
            self.0.flusher.fail();
        }
        written?;
        self.get::<()>(PING)?.ok_or_else(|| StoreError::Corrupt(PING.to_owned()))
    }

    async fn is_to_be_reopened(&self) {
        let mut known = 0;
        loop {
            tokio::select! { () = self.0.flusher.failed() => break, () = network_sleep(LOOK_AGAIN) => {} }
            // The engine may have failed while it did something of its own.
            if self.aside_of_others(|store| store.0.engine.hand_over()).await.is_err() {
                self.0.flusher.fail();
            }
            let errors = engine::errors();
            if errors != std::mem::replace(&mut known, errors) {
                // Notes it if it fails.
                drop(self.ping().await);
            }
        }
        tracing::error!(
            "the store failed and takes no more writes; what it holds can be read. The process ends once the disk takes writes and has space"
        );
        let mut space = Space::new(self.0.directory.clone());
        loop {
            network_sleep(LOOK_AGAIN).await;
            let looked = tokio::task::spawn_blocking(move || {
                let suffices = space.suffices();
                (space, suffices)
            });
            match looked.await {
                Ok((_, true)) => return,
                Ok((looked, false)) => space = looked,
                Err(_) => space = Space::new(self.0.directory.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::Ids;

    #[tokio::test]
    async fn a_failure_that_no_flush_saw_is_noticed_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = made_for_tests::open(&folder).await;
        let mut noticed = std::pin::pin!(store.is_to_be_reopened());
        store.ping().await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1_500), &mut noticed).await;
        assert!(early.is_err(), "a store that takes writes is left alone");
        store.0.flusher.fail();
        noticed.await;
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_noticed_although_nobody_writes() {
        let folder = tempfile::tempdir().unwrap();
        let store = made_for_tests::open(&folder).await;
        for number in 0..9_u8 {
            store.0.records.insert([number], vec![number; 1 << 20]).unwrap();
        }
        // Where the file of what is gathered in memory would be.
        std::fs::remove_dir_all(folder.path().join("database/keyspaces")).unwrap();
        assert!(store.0.records.keep_up().unwrap());
        store.is_to_be_reopened().await;
        assert!(store.ping().await.is_err());
        assert_eq!(
            store.0.records.get([7]).unwrap().unwrap().len(),
            1 << 20,
            "what is in memory can be read"
        );
    }

    #[tokio::test]
    async fn a_former_store_of_another_mode_or_key_is_refused_before_it_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = |key| Sealer::new(&[key; 32], Ids::from_seed([0; 32]));
        let former = sled::open(folder.path()).unwrap();
        let records = former.open_tree(RECORDS).unwrap();
        records.insert(MODE, serde_json::to_vec(&Mode::Sandbox).unwrap()).unwrap();
        let canary = records::encode(&sealer(7), MASTER_KEY, &()).unwrap();
        records.insert(MASTER_KEY, canary).unwrap();
        drop((records, former));
        let open = |mode, key| {
            former::until_closed(folder.path());
            EmbeddedStore::open(folder.path(), 1 << 20, mode, sealer(key))
        };
        let other = open(Mode::Telegram, 7).await.unwrap_err();
        assert!(matches!(other, StoreError::OtherMode { .. }), "{other}");
        assert!(matches!(open(Mode::Sandbox, 8).await, Err(StoreError::OtherKey { .. })));
        let as_is = EmbeddedStore::open_as_is(folder.path(), 1 << 20, Mode::Sandbox, sealer(7)).await;
        assert!(matches!(as_is, Err(StoreError::Former(_))));
        assert!(folder.path().join("db").exists());
        assert!(!folder.path().join("database").exists() && !folder.path().join("former").exists());
        drop(open(Mode::Sandbox, 7).await.unwrap());
        assert!(folder.path().join("database").exists() && folder.path().join("former/db").exists());
    }
}
