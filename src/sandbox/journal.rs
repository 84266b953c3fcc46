//! Keeps the sandbox across restarts: an append-only file, compacted at start by a temporary file and a rename.
//! Written to the operating system before anyone is answered, not flushed to disk: a killed process loses nothing, a
//! machine that loses power may lose the last moments.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::world::Record;

const HEADER: &str = "telegram-connector sandbox journal 1\n";

/// One fact. The last one about a thing wins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    World(Record),
    Key(KeptKey),
    KeyGone(i64),
    DataCentres(Vec<(i32, SocketAddrV4)>),
    /// How far the clock was moved, in milliseconds.
    Clock(i64),
}

/// A permanent authorisation key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct KeptKey {
    pub(crate) dc: i32,
    /// The key, in hexadecimal.
    pub(crate) key: String,
    pub(crate) first_salt: i64,
    /// Unix seconds, real time.
    pub(crate) made: i64,
}

impl std::fmt::Debug for KeptKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "KeptKey(dc {})", self.dc)
    }
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: not a sandbox journal of version 1")]
    Version { path: PathBuf },
    #[error("{path}, line {line}: the record is damaged; move the file away to start with an empty sandbox")]
    Damaged { path: PathBuf, line: usize },
    #[error("{path}: an earlier write failed")]
    Broken { path: PathBuf },
    #[error("a record cannot be written: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    broken: bool,
}

impl Journal {
    /// Reads what is there: `None` when there is no journal yet. A torn last record (the process died while writing)
    /// is dropped.
    ///
    /// # Errors
    /// When the file cannot be read, has another version, or is damaged anywhere else.
    pub(crate) fn read(path: &Path) -> Result<Option<Vec<Entry>>, JournalError> {
        let io_error = |source| JournalError::Io { path: path.to_owned(), source };
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error(error)),
        };
        let Some(body) = bytes.strip_prefix(HEADER.as_bytes()) else {
            return Err(JournalError::Version { path: path.to_owned() });
        };
        let mut entries = Vec::new();
        for (number, line) in body.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let Some(line) = line.strip_suffix(b"\n") else {
                tracing::warn!("the sandbox journal ends in a torn record, which is dropped");
                break;
            };
            entries.extend(
                decode(line)
                    .ok_or_else(|| JournalError::Damaged { path: path.to_owned(), line: number + 2 })?,
            );
        }
        Ok(Some(entries))
    }

    /// Writes a journal of just these entries in place of what is there, and opens it.
    ///
    /// # Errors
    /// When the file system refuses; the old journal is then untouched.
    pub(crate) fn replace(path: &Path, entries: Vec<Entry>) -> Result<Self, JournalError> {
        let io_error = |source| JournalError::Io { path: path.to_owned(), source };
        let temporary = path.with_extension("new");
        let mut bytes = HEADER.as_bytes().to_vec();
        for entry in entries {
            bytes.extend(encode(&[entry])?);
        }
        let mut file = private_file(&temporary).map_err(io_error)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(io_error)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            broken: false,
        })
    }

    /// Adds what belongs together as one record: all of it is there after a crash, or none.
    ///
    /// # Errors
    /// When it could not be written; it is then not there.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let line = encode(entries)?;
        if let Err(source) = self.file.write_all(&line) {
            // Cut off what was written of it, or the next record would follow a torn one.
            self.broken = self.file.set_len(self.length).is_err();
            let path = self.path.clone();
            return Err(JournalError::Io { path, source });
        }
        self.length += u64::try_from(line.len()).unwrap_or_default();
        Ok(())
    }

    /// Where the journal is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens an empty file that only its owner may read.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn encode(entries: &[Entry]) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(entries)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Option<Vec<Entry>> {
    let (checksum, rest) = line.split_at_checked(8)?;
    let json = rest.strip_prefix(b" ")?;
    let checksum = u32::from_str_radix(std::str::from_utf8(checksum).ok()?, 16).ok()?;
    (checksum == crc32fast::hash(json)).then(|| serde_json::from_slice(json).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(entries: Option<Vec<Entry>>) -> Vec<i64> {
        let offset = |entry| {
            let Entry::Clock(offset) = entry else { panic!("{entry:?}") };
            offset
        };
        entries.unwrap().into_iter().map(offset).collect()
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_tail_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(Journal::read(&path).unwrap().is_none());
        let mut journal = Journal::replace(&path, vec![Entry::Clock(1)]).unwrap();
        journal.append(&[Entry::Clock(2), Entry::Clock(3)]).unwrap();
        assert_eq!(moves(Journal::read(&path).unwrap()), [1, 2, 3]);

        let whole = std::fs::read(&path).unwrap();
        for cut in 1..20 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(
                moves(Journal::read(&path).unwrap()),
                [1],
                "{cut} bytes missing: none of the record is there"
            );
        }
    }

    #[test]
    fn damage_anywhere_else_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::replace(&path, vec![Entry::Clock(1)]).unwrap();
        journal.append(&[Entry::Clock(2)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for position in [HEADER.len() + 2, HEADER.len() + 12, whole.len() - 3] {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            std::fs::write(&path, &damaged).unwrap();
            let message = Journal::read(&path).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        std::fs::write(&path, "something else").unwrap();
        assert!(matches!(Journal::read(&path), Err(JournalError::Version { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        Journal::replace(&path, vec![]).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
