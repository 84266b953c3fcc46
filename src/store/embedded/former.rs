//! The store that earlier versions of this program made, with sled: copied once, then put into a folder of its own, from
//! where it can be put back. Nothing else here names sled.

use std::ffi::OsString;
use std::fs::File;
use std::io::Error;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::Batch;
use super::engine::Engine;
use crate::store::StoreError;

/// How many bytes are written in one step.
const AT_ONCE: usize = 1 << 20;
/// How long to wait when the files of the new one do not keep up.
const PAUSE: Duration = Duration::from_millis(10);
/// Its own tree, which holds nothing of ours.
const OWN: &[u8] = b"__sled__default";

/// Whether there is one.
pub(super) fn is_in(directory: &Path) -> bool {
    directory.join("db").is_file() && directory.join("conf").is_file()
}

/// The folder that it is put into.
fn aside(directory: &Path) -> PathBuf {
    directory.join("former")
}

/// One that is open, and so nobody else's.
pub(super) struct Former(sled::Db);

impl Former {
    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let config = sled::Config::new().path(directory).cache_capacity(cache_bytes).flush_every_ms(None);
        config.open().map(Self).map_err(|error| {
            let text = error.to_string();
            if text.contains("could not acquire lock") {
                return StoreError::InUse(directory.display().to_string());
            }
            unavailable(error)
        })
    }

    /// What one of its trees has under a key.
    pub(super) fn get(&self, tree: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        // Opening one makes it.
        if !self.0.tree_names().iter().any(|name| **name == *tree.as_bytes()) {
            return Ok(None);
        }
        let value = self.0.open_tree(tree).and_then(|tree| tree.get(key)).map_err(unavailable)?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Writes all that it holds, key by key.
    pub(super) fn copy(&self, engine: &Engine) -> Result<(), StoreError> {
        let mut entries = 0_u64;
        for name in self.0.tree_names().iter().filter(|name| **name != OWN) {
            let tree = engine.tree(&String::from_utf8_lossy(name))?;
            let (mut batch, mut bytes) = (Batch::default(), 0);
            for entry in &self.0.open_tree(name).map_err(unavailable)? {
                let (key, value) = entry.map_err(unavailable)?;
                bytes += key.len() + value.len();
                entries += 1;
                batch.insert(&*key, &*value);
                if bytes >= AT_ONCE {
                    bytes = 0;
                    tree.apply_batch(std::mem::take(&mut batch))?;
                    while !tree.keep_up()? {
                        std::thread::sleep(PAUSE);
                    }
                }
            }
            tree.apply_batch(batch)?;
        }
        tracing::info!(entries, "the store is in its new database");
        Ok(())
    }
}

/// Puts its files into the folder for them, `db` first; goes on where it was cut short. An error, and nothing is
/// written over, where there is one already.
pub(super) fn set_aside(directory: &Path) -> std::io::Result<()> {
    let aside = aside(directory);
    std::fs::create_dir_all(&aside)?;
    let mut names: Vec<OsString> = ["db", "conf", "blobs"].map(OsString::from).into();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("snap.") {
            names.push(name);
        }
    }
    for name in names {
        let (from, to) = (directory.join(&name), aside.join(&name));
        if !from.try_exists()? {
            continue;
        }
        if to.try_exists()? {
            let why = format!("{} is there already; move one of the two away", to.display());
            return Err(Error::new(ErrorKind::AlreadyExists, why));
        }
        std::fs::rename(from, to)?;
    }
    File::open(&aside)?.sync_all()?;
    File::open(directory)?.sync_all()
}

/// An error where [`set_aside`] would meet one that is there already.
pub(super) fn may_be_set_aside(directory: &Path) -> std::io::Result<()> {
    let there = aside(directory).join("db");
    if there.try_exists()? {
        let why = format!("{} is there already; move it away", there.display());
        return Err(Error::new(ErrorKind::AlreadyExists, why));
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn unavailable(error: sled::Error) -> StoreError {
    StoreError::Unavailable(format!("the store of before: {error}"))
}

/// Waits until nothing has it open: sled closes it a moment after it is dropped.
#[cfg(test)]
pub(super) fn until_closed(directory: &Path) {
    while File::open(directory.join("db")).unwrap().try_lock().is_err() {
        std::thread::yield_now();
    }
}
