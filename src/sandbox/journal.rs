//! Keeps the sandbox across restarts: an append-only file, compacted at start and when it has grown, by a temporary file
//! and a rename.
//! Written to the operating system before anyone is answered, not flushed to disk: a killed process loses nothing, a
//! machine that loses power may lose the last moments.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::net::SocketAddrV4;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use super::world::Record;

/// A journal up to this long is left to grow, bytes.
const PATIENCE: u64 = 64 << 20;
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
    /// Its length when it was written anew.
    compact: u64,
    /// Up to this length it is left to grow.
    patience: u64,
    broken: bool,
}

impl Journal {
    /// Reads what is there, entry by entry; whether there is a journal at all. A torn last record (the process died while
    /// writing) is dropped.
    ///
    /// # Errors
    /// When the file cannot be read, has another version, or is damaged anywhere else.
    pub(crate) fn read(path: &Path, mut take: impl FnMut(Entry)) -> Result<bool, JournalError> {
        let io_error = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io_error(error)),
        };
        let mut line = Vec::new();
        file.read_until(b'\n', &mut line).map_err(io_error)?;
        if line != HEADER.as_bytes() {
            return Err(JournalError::Version { path: path.to_owned() });
        }
        for number in 2.. {
            line.clear();
            if file.read_until(b'\n', &mut line).map_err(io_error)? == 0 {
                break;
            }
            let Some(whole) = line.strip_suffix(b"\n") else {
                tracing::warn!("the sandbox journal ends in a torn record, which is dropped");
                break;
            };
            let entries =
                decode(whole).ok_or_else(|| JournalError::Damaged { path: path.to_owned(), line: number })?;
            entries.into_iter().for_each(&mut take);
        }
        Ok(true)
    }

    /// Writes a journal of just these entries in place of what is there, and opens it.
    ///
    /// # Errors
    /// When the file system refuses; the old journal is then untouched.
    pub(crate) fn replace(
        path: &Path,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, JournalError> {
        let io_error = |source| JournalError::Io { path: path.to_owned(), source };
        let temporary = path.with_extension("new");
        let mut file = BufWriter::new(private_file(&temporary).map_err(io_error)?);
        let mut length = 0;
        let lines = entries.into_iter().map(|entry| encode(&[entry]));
        for line in std::iter::once(Ok(HEADER.as_bytes().to_vec())).chain(lines) {
            let line = line?;
            length += u64::try_from(line.len()).unwrap_or_default();
            file.write_all(&line).map_err(io_error)?;
        }
        let file = file.into_inner().map_err(|error| io_error(error.into_error()))?;
        file.sync_all().and_then(|()| std::fs::rename(&temporary, path)).map_err(io_error)?;
        Ok(Self { path: path.to_owned(), file, length, compact: length, patience: PATIENCE, broken: false })
    }

    /// As [`Self::replace`], of this journal.
    ///
    /// # Errors
    /// When the file system refuses; this journal then goes on.
    pub(crate) fn renew(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<(), JournalError> {
        let renewed = Self::replace(&self.path, entries)?;
        *self = Self { patience: self.patience, ..renewed };
        Ok(())
    }

    /// Whether it has grown so much since it was written anew that most of it is likely out of date.
    pub(crate) fn is_overgrown(&self) -> bool {
        self.length > self.patience.max(self.compact.saturating_mul(2))
    }

    /// Leaves it to grow as if it had been written anew.
    pub(crate) fn let_grow(&mut self) {
        self.compact = self.length;
    }

    /// Lets it grow to this length, bytes.
    #[cfg(test)]
    pub(crate) fn set_patience(&mut self, patience: u64) {
        self.patience = patience;
    }

    /// Makes every further write fail.
    #[cfg(test)]
    pub(crate) fn break_it(&mut self) {
        self.file = File::open(&self.path).unwrap();
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

    fn moves(path: &Path) -> Result<Vec<i64>, JournalError> {
        let mut moves = Vec::new();
        let found = Journal::read(path, |entry| {
            let Entry::Clock(offset) = entry else { panic!("{entry:?}") };
            moves.push(offset);
        })?;
        assert!(found);
        Ok(moves)
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_tail_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(!Journal::read(&path, |_| {}).unwrap());
        let mut journal = Journal::replace(&path, vec![Entry::Clock(1)]).unwrap();
        journal.append(&[Entry::Clock(2), Entry::Clock(3)]).unwrap();
        assert_eq!(moves(&path).unwrap(), [1, 2, 3]);

        let whole = std::fs::read(&path).unwrap();
        for cut in 1..20 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(moves(&path).unwrap(), [1], "{cut} bytes missing: none of the record is there");
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
            let message = moves(&path).unwrap_err().to_string();
            assert!(message.contains(path.to_str().unwrap()), "{message}");
        }
        std::fs::write(&path, "something else").unwrap();
        assert!(matches!(moves(&path), Err(JournalError::Version { .. })));
    }

    #[test]
    fn it_is_overgrown_when_most_of_it_is_out_of_date() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::replace(&path, (0..100).map(Entry::Clock)).unwrap();
        journal.set_patience(1000);
        let compact = journal.length;
        assert!(compact > 1000 && !journal.is_overgrown());
        while journal.length <= 2 * compact {
            assert!(!journal.is_overgrown());
            journal.append(&[Entry::Clock(1)]).unwrap();
        }
        assert!(journal.is_overgrown());
        journal.let_grow();
        assert!(!journal.is_overgrown());
        assert!(moves(&path).unwrap().len() > 100);
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
