//! The folder of a store: one process has it, and the database in it is whole or not there. It is made under another name,
//! and so is one that holds what a former store held.
//!
//! `lock`: held by the process that has the store. `database`: what it keeps. `database.new`: not finished, a start begins it
//! anew. `database.moved`: finished, but the former store is still beside it. `former`: what that store was.

use std::fs::File;
use std::fs::TryLockError;
use std::io::ErrorKind;
use std::path::Path;

use super::damage;
use super::engine::Engine;
use super::former;
use super::former::Former;
use crate::store::StoreError;

/// The trees that there are.
pub(super) const TREES: [&str; 3] = ["records", "sessions", "projects"];

/// That the folder is ours, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held")] File);

/// Opens the database in a store's folder, and makes both if they are not there. `check` is asked of a former store before
/// it is moved.
pub(super) fn open(
    directory: &Path,
    cache_bytes: u64,
    check: impl FnOnce(&Former) -> Result<(), StoreError>,
) -> Result<(Engine, Lock), StoreError> {
    std::fs::create_dir_all(directory).map_err(unavailable)?;
    let lock = lock(directory)?;
    let database = directory.join("database");
    if !database.try_exists().map_err(unavailable)? {
        make(directory, &database, cache_bytes, check)?;
    }
    Ok((open_database(directory, &database, cache_bytes)?, lock))
}

/// Opens the database in a store's folder as it is: nothing is made, and nothing is moved. `None`: there is none yet.
pub(super) fn open_as_is(directory: &Path, cache_bytes: u64) -> Result<Option<(Engine, Lock)>, StoreError> {
    let is_there = |name: &str| directory.join(name).try_exists().map_err(unavailable);
    if !is_there("database")? {
        let former = former::is_in(directory) || is_there("database.moved")?;
        return if former { Err(StoreError::Former(directory.display().to_string())) } else { Ok(None) };
    }
    let lock = lock(directory)?;
    Ok(Some((open_database(directory, &directory.join("database"), cache_bytes)?, lock)))
}

fn open_database(directory: &Path, database: &Path, cache_bytes: u64) -> Result<Engine, StoreError> {
    if former::is_in(directory) {
        // An older version of this program does not see the database, and begins anew.
        return Err(StoreError::Unavailable(format!(
            "{place} holds two databases: `database`, and `db` of an older version of this program, which must not run on it \
             any more; move `db` and `conf` away",
            place = directory.display()
        )));
    }
    damage::look(database).map_err(unavailable)?;
    Engine::open(database, cache_bytes)
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

fn make(
    directory: &Path,
    database: &Path,
    cache_bytes: u64,
    check: impl FnOnce(&Former) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (unfinished, moved) = (directory.join("database.new"), directory.join("database.moved"));
    let is_moved = moved.try_exists().map_err(unavailable)?;
    if !former::is_in(directory) {
        if is_moved {
            former::set_aside(directory).map_err(unavailable)?;
            return rename(directory, &moved, database);
        }
        build(&unfinished, cache_bytes, |_| Ok(()))?;
        return rename(directory, &unfinished, database);
    }
    former::may_be_set_aside(directory).map_err(unavailable)?;
    // Held until its files have another name: no older version can write what would be left behind.
    let former = Former::open(directory, cache_bytes)?;
    check(&former)?;
    if !is_moved {
        tracing::info!(place = %directory.display(), "moving the store to its new database; this happens once");
        build(&unfinished, cache_bytes, |engine| former.copy(engine))?;
        rename(directory, &unfinished, &moved)?;
    }
    former::set_aside(directory).map_err(unavailable)?;
    rename(directory, &moved, database)
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
        open(directory, CACHE, |_| Ok(())).unwrap_err().to_string()
    }

    #[test]
    fn one_process_has_it_and_what_was_not_finished_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("below/store");
        std::fs::create_dir_all(directory.join("database.new/keyspaces/nonsense")).unwrap();
        std::fs::write(directory.join("database.new/0.jnl"), "cut short").unwrap();
        {
            let (engine, _lock) = open(&directory, CACHE, |_| Ok(())).unwrap();
            engine.tree("records").unwrap().insert("key", "value").unwrap();
            assert!(matches!(open(&directory, CACHE, |_| Ok(())), Err(StoreError::InUse(_))));
        }
        let (engine, _lock) = open(&directory, CACHE, |_| Ok(())).unwrap();
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
        drop((others, former));
        former::until_closed(directory);
    }

    #[test]
    fn a_former_store_is_moved_once_wherever_it_was_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path();
        put_former(directory, "a");
        assert!(matches!(open_as_is(directory, CACHE), Err(StoreError::Former(_))));
        let refused = open(directory, CACHE, |former| {
            assert_eq!(former.get("sessions", "a").unwrap().unwrap(), b"former");
            assert_eq!(former.get("records", "a").unwrap(), None);
            Err(StoreError::Corrupt("of another mode".to_owned()))
        });
        assert!(matches!(refused, Err(StoreError::Corrupt(_))));
        former::until_closed(directory);
        assert!(directory.join("db").exists() && !directory.join("database").exists());
        let held = sled::open(directory).unwrap();
        assert!(refusal(directory).contains("is in use by another process"));
        drop(held);
        former::until_closed(directory);
        std::fs::create_dir_all(directory.join("database.new")).unwrap();
        {
            let (engine, _lock) = open(directory, CACHE, |_| Ok(())).unwrap();
            assert_eq!(engine.tree("sessions").unwrap().get("a").unwrap().as_deref(), Some(&b"former"[..]));
            let others: Vec<_> = engine.tree("others").unwrap().range(..).map(Result::unwrap).collect();
            assert_eq!(others.len(), 3_000);
            assert!(others.iter().all(|(_, value)| **value == [7; 1000]));
            engine.tree("sessions").unwrap().insert("a", "since").unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(directory).unwrap().map(|one| one.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["database", "former", "lock"]);
        assert!(matches!(open_as_is(directory, CACHE), Ok(Some(_))));
        // What it was is whole, and can be put back.
        let former = sled::open(directory.join("former")).unwrap();
        assert_eq!(former.open_tree("others").unwrap().len(), 3_000);
        drop(former);
        // Cut short before the former one was removed.
        std::fs::rename(directory.join("database"), directory.join("database.moved")).unwrap();
        put_former(directory, "b");
        assert!(refusal(directory).contains("is there already"));
        std::fs::remove_dir_all(directory.join("former")).unwrap();
        assert!(matches!(open_as_is(directory, CACHE), Err(StoreError::Former(_))));
        {
            let (engine, _lock) = open(directory, CACHE, |_| Ok(())).unwrap();
            let sessions = engine.tree("sessions").unwrap();
            assert_eq!(sessions.get("a").unwrap().as_deref(), Some(&b"since"[..]));
            assert_eq!(sessions.get("b").unwrap(), None, "it had been copied");
            assert!(!directory.join("db").exists());
        }
        // Cut short while its files were put aside.
        std::fs::rename(directory.join("database"), directory.join("database.moved")).unwrap();
        std::fs::rename(directory.join("former/conf"), directory.join("conf")).unwrap();
        drop(open(directory, CACHE, |_| Ok(())).unwrap());
        assert!(directory.join("former/conf").exists() && !directory.join("conf").exists());
        // An older version ran on the folder.
        put_former(directory, "c");
        assert!(refusal(directory).contains("holds two databases"));
        assert!(directory.join("db").exists());
    }
}
