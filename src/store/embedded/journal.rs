//! The log of the engine's writes, made durable by handles of our own. fjall's `persist(SyncData)` holds the log's lock while
//! the disk works, and whoever writes would wait for it, on the threads that answer requests.
//!
//! Why it suffices to sync the newest file after fjall handed everything to the kernel (`Engine::hand_over`), fjall 3.1.13,
//! `journal/writer.rs`: a write goes to the file with the highest number. `rotate` syncs that file with all that is in it
//! before it makes the next one, numbered one higher, and syncs the folder before anything is written there; all of that under
//! the log's lock, which `hand_over` takes too. So when `hand_over` has returned, whatever was written before is in the file
//! that is the newest then, or in an older one that was synced. A file is removed only after one that is newer than it is
//! there, the oldest first, when all that is in it is in synced files of the trees. A rotation that fails half way leaves a
//! newest file that nothing is written to; so an older one is held until something is in the newest.

use std::fs::File;
use std::io::Error;
use std::io::ErrorKind;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// What the files are called, after their number.
const SUFFIX: &str = ".jnl";

/// The newest file of the log, and those before it that may still be written to.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    newest: Held,
    older: Vec<Held>,
}

#[derive(Debug)]
struct Held {
    number: u64,
    file: File,
}

impl Journal {
    /// Of the database in `folder`, which must be open.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        Ok(Self { folder: folder.to_owned(), newest: newest(folder)?, older: Vec::new() })
    }

    /// Makes durable what was handed to the kernel.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.follow()?;
        for held in self.older.iter().chain([&self.newest]) {
            held.file.sync_data()?;
        }
        if !self.older.is_empty() && self.newest.is_written_to()? {
            self.older.clear();
        }
        Ok(())
    }

    /// Goes on to the newest file.
    fn follow(&mut self) -> Result<()> {
        loop {
            let number = self.newest.number + 1;
            let path = path(&self.folder, number);
            // Nearly always it is not there, and to see that takes no descriptor: the process may have none left.
            let next = if path.try_exists()? {
                match File::open(path) {
                    Ok(file) => Held { number, file },
                    // Removed between the two.
                    Err(error) if error.kind() == ErrorKind::NotFound => newest(&self.folder)?,
                    Err(error) => return Err(error),
                }
            } else if self.newest.is_removed()? {
                // Removed files are followed by others, which may be removed as well.
                newest(&self.folder)?
            } else {
                return Ok(());
            };
            self.older.push(std::mem::replace(&mut self.newest, next));
        }
    }
}

impl Held {
    /// The log begins with a mark that is not zero; before that the file is a hole.
    fn is_written_to(&self) -> Result<bool> {
        let mut first = [0];
        Ok(self.file.read_at(&mut first, 0)? == 1 && first != [0])
    }

    fn is_removed(&self) -> Result<bool> {
        Ok(self.file.metadata()?.nlink() == 0)
    }
}

/// The file of the log with this number.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number}{SUFFIX}"))
}

/// The numbers of the files of the log, the newest last.
pub(super) fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn newest(folder: &Path) -> Result<Held> {
    let number = numbers(folder)?.pop();
    let number = number.ok_or_else(|| Error::new(ErrorKind::NotFound, "the database has no log"))?;
    Ok(Held { number, file: File::open(path(folder, number))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_file_is_followed_and_an_older_one_held_until_it_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let make = |number: u64, text: &str| std::fs::write(path(folder.path(), number), text).unwrap();
        let numbers = |journal: &Journal| -> Vec<u64> {
            journal.older.iter().chain([&journal.newest]).map(|held| held.number).collect()
        };
        assert!(Journal::of(folder.path()).is_err());
        std::fs::write(folder.path().join("version"), "3").unwrap();
        make(9, "\u{1}");
        make(10, "\u{1}");
        let mut journal = Journal::of(folder.path()).unwrap();
        journal.sync().unwrap();
        assert_eq!(numbers(&journal), [10]);
        make(11, "\0\0");
        journal.sync().unwrap();
        assert_eq!(numbers(&journal), [10, 11], "nothing is in it yet");
        make(11, "\u{1}\0");
        journal.sync().unwrap();
        assert_eq!(numbers(&journal), [11]);
        // Two rotations later, when the two before are not needed any more.
        for number in [9, 10, 11] {
            std::fs::remove_file(path(folder.path(), number)).unwrap();
        }
        make(13, "\u{1}");
        journal.sync().unwrap();
        assert_eq!(numbers(&journal), [13]);
    }
}
