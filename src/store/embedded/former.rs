//! The store of before version 0.2 of this program, which was one of sled: copied once, then removed. Nothing else here names
//! sled.

use std::io::ErrorKind;
use std::path::Path;
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

/// Writes all that it holds, key by key.
pub(super) fn copy(directory: &Path, engine: &Engine) -> Result<(), StoreError> {
    tracing::info!(place = %directory.display(), "moving the store to its new database; this happens once");
    let former = sled::Config::new().path(directory).flush_every_ms(None).open().map_err(|error| {
        let text = error.to_string();
        if text.contains("could not acquire lock") {
            return StoreError::InUse(directory.display().to_string());
        }
        unavailable(error)
    })?;
    let mut entries = 0_u64;
    for name in former.tree_names().iter().filter(|name| **name != OWN) {
        let tree = engine.tree(&String::from_utf8_lossy(name))?;
        let (mut batch, mut bytes) = (Batch::default(), 0);
        for entry in &former.open_tree(name).map_err(unavailable)? {
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

/// Removes it.
pub(super) fn remove(directory: &Path) -> std::io::Result<()> {
    let unless_gone = |removed: std::io::Result<()>| match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            std::fs::remove_file(entry.path())?;
        }
    }
    unless_gone(std::fs::remove_dir_all(directory.join("blobs")))?;
    unless_gone(std::fs::remove_file(directory.join("conf")))?;
    unless_gone(std::fs::remove_file(directory.join("db")))
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function in map_err")]
fn unavailable(error: sled::Error) -> StoreError {
    StoreError::Unavailable(format!("the store of before: {error}"))
}
