//! The folder of a store: one process has it, and the database in it is whole or not there. It is made under another name,
//! and so is one that holds what a former store held.
//!
//! `lock`: held by the process that has the store. `database`: what it keeps. `database.new`: not finished, a start begins it
//! anew. `database.moved`: finished, but the former store is still beside it.

use std::fs::File;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::Path;

use super::engine::Engine;
use super::former;
use crate::store::StoreError;

/// The trees that there are.
pub(super) const TREES: [&str; 3] = ["records", "sessions", "projects"];

/// That the folder is ours, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held")] File);

/// Opens the database in a store's folder, and makes both if they are not there.
pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<(Engine, Lock), StoreError> {
    std::fs::create_dir_all(directory).map_err(unavailable)?;
    let lock = lock(directory)?;
    let database = directory.join("database");
    if !database.try_exists().map_err(unavailable)? {
        make(directory, &database, cache_bytes)?;
    } else if former::is_in(directory) {
        // An older version of this program does not see the database, and begins anew.
        return Err(StoreError::Unavailable(format!(
            "{place} holds two databases: `database`, and `db` of an older version of this program, which must not run on it \
             any more; move `db` and `conf` away",
            place = directory.display()
        )));
    }
    Ok((Engine::open(&database, cache_bytes)?, lock))
}

fn lock(directory: &Path) -> Result<Lock, StoreError> {
    let file = File::options().create(true).truncate(false).write(true).open(directory.join("lock"));
    let file = file.map_err(unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.display().to_string())),
        Err(TryLockError::Error(error)) => Err(unavailable(error)),
    }
}

fn make(directory: &Path, database: &Path, cache_bytes: u64) -> Result<(), StoreError> {
    let (unfinished, moved) = (directory.join("database.new"), directory.join("database.moved"));
    let mut finished = unfinished.clone();
    if former::is_in(directory) || moved.try_exists().map_err(unavailable)? {
        if !moved.try_exists().map_err(unavailable)? {
            build(&unfinished, cache_bytes, |engine| former::copy(directory, engine))?;
            rename(directory, &unfinished, &moved)?;
        }
        former::remove(directory).map_err(unavailable)?;
        finished = moved;
    } else {
        build(&unfinished, cache_bytes, |_| Ok(()))?;
    }
    rename(directory, &finished, database)
}

/// Makes a database; when this returns it is closed, and durable.
fn build(
    place: &Path,
    cache_bytes: u64,
    fill: impl FnOnce(&Engine) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unavailable(error)),
        Ok(()) | Err(_) => {}
    }
    let engine = Engine::open(place, cache_bytes)?;
    for tree in TREES {
        engine.tree(tree)?;
    }
    fill(&engine)?;
    engine.make_durable()
}

fn rename(directory: &Path, from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::rename(from, to).and_then(|()| File::open(directory)?.sync_all()).map_err(unavailable)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
pub(super) fn unavailable(error: std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("the store's folder: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CACHE: u64 = 1 << 20;

    fn refusal(directory: &Path) -> String {
        open(directory, CACHE).unwrap_err().to_string()
    }

    #[test]
    fn one_process_has_it_and_what_was_not_finished_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("below/store");
        std::fs::create_dir_all(directory.join("database.new/keyspaces/nonsense")).unwrap();
        std::fs::write(directory.join("database.new/0.jnl"), "cut short").unwrap();
        {
            let (engine, _lock) = open(&directory, CACHE).unwrap();
            engine.tree("records").unwrap().insert("key", "value").unwrap();
            assert!(matches!(open(&directory, CACHE), Err(StoreError::InUse(_))));
        }
        let (engine, _lock) = open(&directory, CACHE).unwrap();
        assert_eq!(engine.tree("records").unwrap().get("key").unwrap().as_deref(), Some(&b"value"[..]));
        assert!(!directory.join("database.new").exists());
    }

    fn put_former(directory: &Path, key: &str) {
        let former = sled::open(directory).unwrap();
        former.open_tree("sessions").unwrap().insert(key, "former").unwrap();
        let others = former.open_tree("others").unwrap();
        for number in 0..3_000_u32 {
            others.insert(number.to_be_bytes(), vec![7; 1000]).unwrap();
        }
        former.flush().unwrap();
    }

    #[test]
    fn a_former_store_is_moved_once_wherever_it_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        put_former(directory, "a");
        let held = sled::open(directory).unwrap();
        assert!(refusal(directory).contains("is in use by another process"));
        drop(held);
        std::fs::create_dir_all(directory.join("database.new")).unwrap();
        {
            let (engine, _lock) = open(directory, CACHE).unwrap();
            assert_eq!(engine.tree("sessions").unwrap().get("a").unwrap().as_deref(), Some(&b"former"[..]));
            let others: Vec<_> = engine.tree("others").unwrap().range(..).map(Result::unwrap).collect();
            assert_eq!(others.len(), 3_000);
            assert!(others.iter().all(|(_, value)| **value == [7; 1000]));
            engine.tree("sessions").unwrap().insert("a", "since").unwrap();
        }
        let names: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        // Cut short before the former one was removed.
        std::fs::rename(directory.join("database"), directory.join("database.moved")).unwrap();
        put_former(directory, "b");
        {
            let (engine, _lock) = open(directory, CACHE).unwrap();
            let sessions = engine.tree("sessions").unwrap();
            assert_eq!(sessions.get("a").unwrap().as_deref(), Some(&b"since"[..]));
            assert_eq!(sessions.get("b").unwrap(), None, "it had been copied");
            assert!(!directory.join("db").exists());
        }
        // An older version ran on the folder.
        put_former(directory, "c");
        assert!(refusal(directory).contains("holds two databases"));
        assert!(directory.join("db").exists());
    }
}
