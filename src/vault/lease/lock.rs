//! A lease in a folder: a locked file. The system lets one process have the lock, and takes it away when that process
//! ends, however it ends; so it needs no renewal and has no end of its own.

use std::fs::File;
use std::fs::TryLockError;
use std::io;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use super::Holder;
use super::Taken;
use super::Terms;
use super::Until;
use super::record::Record;
use crate::vault::error::Trouble;
use crate::vault::folder;

/// A lease is a few hundred bytes.
const LARGEST: u64 = 64 * 1024;

/// The file of a lease, and the lock on it while this process has it.
#[derive(Debug)]
pub(super) struct Lock {
    file: folder::File,
    held: Option<(File, Record)>,
}

impl Lock {
    pub(super) const fn new(file: folder::File) -> Self {
        Self { file, held: None }
    }

    pub(super) async fn take(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        let (path, terms) = (self.file.path().to_owned(), terms.clone());
        match folder::blocking(move || try_lock(&path, &terms)).await? {
            Ok((file, record)) => {
                let epoch = record.epoch;
                self.held = Some((file, record));
                Ok(Taken::Ours { epoch, until: Until::TheEnd })
            }
            Err(holder) => Ok(Taken::Theirs { holder, lives: true }),
        }
    }

    /// Makes sure that the locked file is still the lease: whoever removes it lets another make a new one.
    pub(super) async fn renew(&mut self, terms: &Terms) -> Result<Taken, Trouble> {
        let Some((file, record)) = &self.held else { return self.take(terms).await };
        let (path, file, epoch) = (self.file.path().to_owned(), file.try_clone()?, record.epoch);
        if folder::blocking(move || is_at(&file, &path)).await? {
            return Ok(Taken::Ours { epoch, until: Until::TheEnd });
        }
        self.held = None;
        self.take(terms).await
    }

    pub(super) async fn release(&mut self, _: &Terms) -> Result<(), Trouble> {
        if let Some((mut file, record)) = self.held.take() {
            let record = Record { released: true, ..record };
            folder::blocking(move || write(&mut file, &record)).await?;
        }
        Ok(())
    }
}

fn try_lock(path: &Path, terms: &Terms) -> io::Result<Result<(File, Record), Holder>> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut options = std::fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let locked = file.try_lock();
    let mut text = Vec::new();
    (&mut file).take(LARGEST).read_to_end(&mut text)?;
    let before = Record::parse(&text);
    match locked {
        Ok(()) if is_at(&file, path)? => {
            let record = Record::new(terms, before.map_or(0, |before| before.epoch).saturating_add(1));
            write(&mut file, &record)?;
            Ok(Ok((file, record)))
        }
        // Removed between opening and locking: the next look finds the new one.
        Ok(()) | Err(TryLockError::WouldBlock) => {
            let unknown = || Holder { url: String::new(), epoch: 0 };
            Ok(Err(before.map_or_else(unknown, |before| before.holder())))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn write(file: &mut File, record: &Record) -> io::Result<()> {
    let text = record.to_bytes()?;
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&text)
}

/// Whether this open file is the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
