//! Trees of keys and values over fjall, an engine of sorted files under a log of writes: what the rest of this folder needs
//! of it, and nothing more. Not here: when a write is durable (`flusher`, `journal`), how the folder comes to be (`folder`).
//!
//! All writes are batches: whole or not at all. A reader may meet one half way: a [`Batch`] in the order of its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::ops::RangeBounds;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fjall::AbstractTree as _;
use fjall::KeyspaceCreateOptions;
use fjall::PersistMode;
use fjall::compaction::Leveled;
use fjall::config::PartitioningPolicy;
use fjall::config::PinningPolicy;

use crate::store::StoreError;

/// How much is gathered in memory before it becomes a file: so much is replayed at a start after a crash.
const MEMTABLE: u64 = 8 << 20;
/// How much of it stays in memory at most while the files do not keep up; after that who writes much waits.
const MEMTABLES: u64 = 3 * MEMTABLE;
/// Above all memory that is gathered: with it fjall does not look at its size by itself. It would ask for a new file at each
/// write, until there is one, and with one thread it would hang once a thousand have asked (3.1.13, `worker_pool.rs`: the thread
/// that answers them sends to the queue that it reads).
const UNLIMITED: u64 = 1 << 60;
/// How many files of full memory are waited for, and how many may be there unmerged: below what makes fjall stop the threads
/// that write (4 and 20; `keyspace/mod.rs`, `local_backpressure`).
const SEALED: usize = 2;
const UNMERGED: usize = 19;
/// What an entry takes in memory besides its key and its value, roughly.
const ENTRY: usize = 160;
/// How long one file is, roughly.
const FILE: u64 = 24 << 20;
/// How many files of full memory are gathered before they are merged with the older ones. Each of these mergings writes
/// again what is there: fewer of them write less.
const GATHERED: u8 = 12;
/// The least that fjall permits: two such logs are read at a start at most.
const LOGS: u64 = 64 << 20;
/// One writes files of full memory, and nothing else; the others merge. With two, that one would spin while the other one
/// merges: it hands what is to be merged round (fjall 3.1.13, `worker_pool.rs`).
const WORKERS: usize = 3;
/// How long whoever waits for the files sleeps between two looks, and how often at most.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES: usize = 100;
/// How often for whoever is at leisure, but must keep up with those who are not.
const FEW_PAUSES: usize = 10;
/// How many files are held open. The process has connections to hold too.
const OPEN_FILES: usize = 128;

/// How many errors the engine has told of in this process: a writer may be told of one before any flush is.
static ERRORS: AtomicU64 = AtomicU64::new(0);

/// A key or a value.
pub(super) type Bytes = fjall::Slice;

/// An open database. Clones share it; the last one, and the last of its trees, closes it.
#[derive(Clone)]
pub(super) struct Engine {
    database: fjall::Database,
    directory: PathBuf,
    /// Whether writes are refused, because one may be lost.
    halted: Arc<AtomicBool>,
}

/// A tree of keys.
#[derive(Clone)]
pub(super) struct Tree {
    engine: Engine,
    keyspace: fjall::Keyspace,
    /// How many bytes were gathered in memory since it last became a file.
    gathered: Arc<AtomicU64>,
}

/// Writes that happen in one step. Of two to one key the later one counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch(BTreeMap<Bytes, Option<Bytes>>);

/// Keys and values in their order, from both ends.
pub(super) struct Entries(Option<fjall::Iter>);

/// Keys in their order, from both ends.
pub(super) struct Keys(Option<fjall::Iter>);

impl Engine {
    /// Opens the database in `directory`, or makes one. A crash while it is made leaves what cannot be opened.
    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let opened = fjall::Database::builder(directory)
            .cache_size(cache_bytes)
            .manual_journal_persist(true)
            .max_journaling_size(LOGS)
            .max_cached_files(Some(OPEN_FILES))
            .worker_threads(WORKERS)
            .open();
        let database = opened.map_err(|error| {
            let unreadable = matches!(
                error,
                fjall::Error::JournalRecovery(_)
                    | fjall::Error::InvalidVersion(_)
                    | fjall::Error::InvalidTrailer
                    | fjall::Error::InvalidTag(_)
                    | fjall::Error::Unrecoverable
            );
            if matches!(error, fjall::Error::Locked) {
                StoreError::InUse(directory.display().to_string())
            } else if unreadable {
                StoreError::Corrupt(format!("of all records ({error:?})"))
            } else {
                unavailable(error)
            }
        })?;
        Ok(Self { database, directory: directory.to_owned(), halted: Arc::default() })
    }

    /// A tree, empty if it is new.
    pub(super) fn tree(&self, name: &str) -> Result<Tree, StoreError> {
        let keyspace = self.database.keyspace(name, options).map_err(unavailable)?;
        // What was replayed is in memory, too: else many short lives would never make a file of it.
        let replayed = keyspace.tree.active_memtable();
        let bytes = replayed.size().saturating_add((replayed.len() * ENTRY) as u64);
        Ok(Tree { engine: self.clone(), keyspace, gathered: Arc::new(AtomicU64::new(bytes)) })
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Hands what was written so far to the kernel: then a crash of the process cannot undo it. An error, too, when the
    /// engine failed while it did something of its own, such as writing a file.
    pub(super) fn hand_over(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::Buffer).map_err(unavailable)
    }

    /// Makes everything so far durable, while all who write wait.
    pub(super) fn make_durable(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(unavailable)
    }

    /// Takes no more writes: one may be lost that is in memory.
    pub(super) fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
    }
}

/// How the files of a tree are made. fjall keeps this with the tree: what is changed here holds for new stores.
fn options() -> KeyspaceCreateOptions {
    let merging = Leveled::default().with_l0_threshold(GATHERED).with_table_target_size(FILE);
    KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(UNLIMITED)
        .compaction_strategy(Arc::new(merging))
        // Of the files that are not merged yet, which are few, the indexes and filters stay in memory. Those of the others
        // are read in parts and kept in the cache, within its bounds.
        .index_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, true]))
        .index_block_pinning_policy(PinningPolicy::new([true, false]))
        .filter_block_pinning_policy(PinningPolicy::new([true, false]))
}

impl Tree {
    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, StoreError> {
        self.keyspace.get(key).map_err(unavailable)
    }

    pub(super) fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool, StoreError> {
        self.keyspace.contains_key(key).map_err(unavailable)
    }

    pub(super) fn insert(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.insert(key, value);
        self.apply_batch(batch)
    }

    pub(super) fn remove(&self, key: impl Into<Bytes>) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.remove(key);
        self.apply_batch(batch)
    }

    /// Not durable when this returns: see `flusher`.
    pub(super) fn apply_batch(&self, batch: Batch) -> Result<(), StoreError> {
        self.write(batch.0)
    }

    /// As [`Self::apply_batch`], of keys that are all different, in the order in which they are given.
    pub(super) fn insert_all(&self, entries: Vec<(Bytes, Bytes)>) -> Result<(), StoreError> {
        self.write(entries.into_iter().map(|(key, value)| (key, Some(value))))
    }

    /// # Errors
    /// No writes are taken, because one may be lost.
    pub(super) fn takes_writes(&self) -> Result<(), StoreError> {
        if self.engine.halted.load(Ordering::SeqCst) {
            return Err(unavailable(fjall::Error::Poisoned));
        }
        Ok(())
    }

    fn write(&self, all: impl IntoIterator<Item = (Bytes, Option<Bytes>)>) -> Result<(), StoreError> {
        self.takes_writes()?;
        let mut writes = self.engine.database.batch();
        let mut bytes = 0;
        for (key, value) in all {
            bytes += key.len() + value.as_ref().map_or(0, |value| value.len()) + ENTRY;
            match value {
                Some(value) => writes.insert(&self.keyspace, key, value),
                None => writes.remove(&self.keyspace, key),
            }
        }
        writes.commit().map_err(unavailable)?;
        let gathered = self.gathered.fetch_add(bytes as u64, Ordering::Relaxed);
        // The flusher does this, but nobody may wait for that. It is written whatever comes of it; the flusher meets the
        // error when it tries the same.
        if gathered > MEMTABLES {
            drop(self.keep_up());
        }
        Ok(())
    }

    /// Has what was gathered in memory written to a file, in the background, if it is enough for one. `false`: the files do
    /// not keep up, so whoever can wait should.
    pub(super) fn keep_up(&self) -> Result<bool, StoreError> {
        if self.gathered.load(Ordering::Relaxed) <= MEMTABLE {
            return Ok(true);
        }
        if self.keyspace.sealed_memtable_count() < SEALED && self.keyspace.l0_table_count() < UNMERGED {
            // Of two that come here at once the second one makes a small file.
            let gathered = self.gathered.swap(0, Ordering::Relaxed);
            if let Err(error) = self.keyspace.rotate_memtable() {
                self.gathered.fetch_add(gathered, Ordering::Relaxed);
                return Err(unavailable(error));
            }
            return Ok(true);
        }
        Ok(self.gathered.load(Ordering::Relaxed) <= MEMTABLES)
    }

    /// For whoever writes much that nobody waits for: waits until the files keep up with what was written, so that little
    /// gathers in memory. `false`: they do not, for now.
    pub(super) fn wait_for_files(&self) -> Result<bool, StoreError> {
        self.wait(PAUSES, |_| self.gathered.load(Ordering::Relaxed) <= MEMTABLE)
    }

    /// For whoever is at leisure: waits a moment until nothing is in memory that is to become a file, so that it does not add
    /// to that.
    pub(super) fn wait_a_moment_for_files(&self) -> Result<(), StoreError> {
        self.wait(FEW_PAUSES, |keep_up| keep_up && self.keyspace.sealed_memtable_count() == 0)?;
        Ok(())
    }

    /// Waits until the files have kept up far enough, given whether they keep up. `false`: not within so many pauses.
    fn wait(&self, pauses: usize, suffices: impl Fn(bool) -> bool) -> Result<bool, StoreError> {
        for _ in 0..pauses {
            if suffices(self.keep_up()?) {
                return Ok(true);
            }
            std::thread::sleep(PAUSE);
        }
        Ok(false)
    }

    pub(super) fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Entries {
        Entries(Some(self.keyspace.prefix(prefix)))
    }

    pub(super) fn range(&self, range: impl RangeBounds<Vec<u8>>) -> Entries {
        let (from, to) = (range.start_bound().cloned(), range.end_bound().cloned());
        if let (Bound::Included(from), Bound::Included(to) | Bound::Excluded(to)) = (&from, &to)
            && from > to
        {
            return Entries(None);
        }
        Entries(Some(self.keyspace.range((from, to))))
    }
}

impl Batch {
    pub(super) fn insert(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.insert(key.into(), Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: impl Into<Bytes>) {
        self.0.insert(key.into(), None);
    }
}

impl Entries {
    /// Their keys only.
    pub(super) fn keys(self) -> Keys {
        Keys(self.0)
    }
}

impl Iterator for Entries {
    type Item = Result<(Bytes, Bytes), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next().map(|entry| entry.into_inner().map_err(unavailable))
    }
}

impl DoubleEndedIterator for Entries {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next_back().map(|entry| entry.into_inner().map_err(unavailable))
    }
}

impl Iterator for Keys {
    type Item = Result<Bytes, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next().map(|entry| entry.key().map_err(unavailable))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.as_mut()?.next_back().map(|entry| entry.key().map_err(unavailable))
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Engine").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tree").field("name", &self.keyspace.name()).finish_non_exhaustive()
    }
}

/// How many errors there were.
pub(super) fn errors() -> u64 {
    ERRORS.load(Ordering::SeqCst)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn unavailable(error: fjall::Error) -> StoreError {
    ERRORS.fetch_add(1, Ordering::SeqCst);
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_short_lives_write_becomes_a_file_once_it_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        for life in 0..24_u8 {
            let engine = Engine::open(folder.path(), 1 << 20).unwrap();
            let tree = engine.tree("records").unwrap();
            assert!(tree.keep_up().unwrap());
            for number in 0..8_u8 {
                tree.insert([life, number], vec![number; 1 << 16]).unwrap();
            }
            assert!(tree.gathered.load(Ordering::Relaxed) < 2 * MEMTABLE, "life {life}");
            while tree.keyspace.sealed_memtable_count() > 0 {
                std::thread::yield_now();
            }
        }
        let engine = Engine::open(folder.path(), 1 << 20).unwrap();
        let tree = engine.tree("records").unwrap();
        assert!(tree.keyspace.table_count() > 0);
        assert!(tree.keyspace.tree.active_memtable().size() < MEMTABLE);
        for life in 0..24_u8 {
            assert_eq!(tree.get([life, 7]).unwrap().unwrap().len(), 1 << 16);
        }
    }
}
