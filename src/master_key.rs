//! The master key that seals everything at rest: configured, or kept in the data directory and made at first start.

use std::io;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::domain::ids::Ids;
use crate::domain::ids::Secret;

/// Name of the key's file in the data directory.
const FILE: &str = "master.key";

/// The key in the data directory cannot be used or made.
#[derive(Debug, thiserror::Error)]
#[error("the master key in {place}: {why}")]
pub struct MasterKeyError {
    /// The file.
    place: String,
    /// What is wrong with it.
    why: String,
}

/// The configured key, or the one kept in `data_dir`; `None` when there is neither.
///
/// # Errors
/// The kept one cannot be read.
pub fn find(
    configured: Option<&Secret<[u8; 32]>>,
    data_dir: &Path,
) -> Result<Option<Secret<[u8; 32]>>, MasterKeyError> {
    if let Some(key) = configured {
        return Ok(Some(key.clone()));
    }
    let file = data_dir.join(FILE);
    let fail = |why: String| MasterKeyError { place: file.display().to_string(), why };
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let key = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            let key =
                key.ok_or_else(|| fail("it does not hold 32 bytes in base64: restore it".to_owned()))?;
            Ok(Some(Secret::new(key)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// As [`find`], and makes a key in `data_dir` (mode 0600, whole or not at all) when there is none and nothing has been
/// sealed yet. Of two processes that start at once, one makes it and both use it.
///
/// # Errors
/// The key cannot be read or written.
pub fn find_or_make(
    configured: Option<&Secret<[u8; 32]>>,
    data_dir: &Path,
    ids: &Ids,
) -> Result<Secret<[u8; 32]>, MasterKeyError> {
    if let Some(key) = find(configured, data_dir)? {
        return Ok(key);
    }
    let file = data_dir.join(FILE);
    let fail = |why: String| MasterKeyError { place: file.display().to_string(), why };
    if data_dir.join("store").exists() {
        let why = "it is missing, but there is a store that was sealed with it: restore it, or set CONNECTOR_MASTER_KEY";
        return Err(fail(why.to_owned()));
    }
    let key: [u8; 32] = ids.bytes();
    match publish(&file, format!("{}\n", STANDARD.encode(key)).as_bytes(), &ids.base62(8)) {
        Ok(()) => {}
        // Another process was quicker: its key is the one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return find(None, data_dir)?.ok_or_else(|| fail("it appeared and went away".to_owned()));
        }
        Err(error) => return Err(fail(error.to_string())),
    }
    tracing::info!(
        file = %file.display(),
        "made a master key; keep a copy, or set CONNECTOR_MASTER_KEY: without it the sessions are lost"
    );
    Ok(Secret::new(key))
}

/// Puts a file in place, whole, unless there is one already.
fn publish(file: &Path, contents: &[u8], unique: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let fresh = file.with_extension(format!("key.{unique}"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(&fresh)?;
    opened.write_all(contents)?;
    opened.sync_all()?;
    let linked = std::fs::hard_link(&fresh, file);
    std::fs::remove_file(&fresh)?;
    linked?;
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_found_again_and_a_broken_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (data, ids) = (folder.path().join("data"), Ids::from_seed([1; 32]));
        assert!(find(None, &data).unwrap().is_none());
        let made = find_or_make(None, &data, &ids).unwrap();
        assert_eq!(find_or_make(None, &data, &ids).unwrap(), made);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(data.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let configured = Secret::new([9; 32]);
        assert_eq!(find_or_make(Some(&configured), &data, &ids).unwrap(), configured);
        std::fs::write(data.join(FILE), "short").unwrap();
        assert!(find_or_make(None, &data, &ids).is_err());
        assert_eq!(std::fs::read_to_string(data.join(FILE)).unwrap(), "short");

        std::fs::remove_file(data.join(FILE)).unwrap();
        std::fs::create_dir(data.join("store")).unwrap();
        let error = find_or_make(None, &data, &ids).unwrap_err().to_string();
        assert!(error.contains("restore it") && !data.join(FILE).exists(), "{error}");
    }

    #[test]
    fn of_many_who_start_at_once_all_use_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let start = std::sync::Barrier::new(8);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let start_one = |seed: u8| {
                let (start, data) = (&start, folder.path());
                scope.spawn(move || {
                    start.wait();
                    find_or_make(None, data, &Ids::from_seed([seed; 32])).unwrap()
                })
            };
            let running: Vec<_> = (0..8).map(start_one).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
