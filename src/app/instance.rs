//! The id of a data directory: by it the next process in the same directory is known as the heir of the one before.

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use crate::domain::ids::Ids;

const FILE: &str = "instance";

/// The data directory's id can be neither read nor made.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub struct InstanceError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The id in the data directory, which is made at the first start. No secret: it is written into leases.
///
/// # Errors
/// See [`InstanceError`].
pub(super) fn find_or_make(data_dir: &Path, ids: &Ids) -> Result<String, InstanceError> {
    let path = data_dir.join(FILE);
    let failed = |source| InstanceError { path: path.clone(), source };
    match std::fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {} // a start that was cut short
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let id = ids.base62(22);
    let fresh = path.with_extension("new");
    let write = || {
        std::fs::create_dir_all(data_dir)?;
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)
    };
    write().map_err(failed)?;
    Ok(id)
}
