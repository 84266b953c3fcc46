//! Looks at the engine's log before the engine does, fjall 3.1.13, `journal/{entry,batch_reader,reader}.rs`. fjall reads it up to the
//! first mark that is none, and cuts off what follows, without a word; where a checksum is wrong it does not open at all.
//! What is done here: a last write that is not whole is cut off; of what fjall would cut off besides, a copy is kept.
//!
//! A batch: 1, how many entries, a number; each entry; 3, a checksum of the entries, four fixed bytes. An entry: 2, its kind, 0 (not
//! compressed), its tree, lengths, key, value; or 4 and a tree. After the last one are zeros, or nothing.

use std::fs::File;
use std::io::BufReader;
use std::io::Error;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Result;
use std::io::Seek;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::journal;

const START: u8 = 1;
const ENTRY: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const LAST: &[u8; 4] = b"FJL\x03";
/// How much of an entry there is before its key, after its mark.
const HEAD: usize = 20;
/// How many bytes are read at once.
const AT_ONCE: usize = 1 << 16;

/// What is at a place of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A whole batch, and how long it is.
    Batch(u64),
    /// Nothing.
    Nothing,
    /// A batch that fjall would cut off, with all that follows.
    Cut,
    /// A batch that fjall does not open the log with.
    Refused,
}

/// Looks at all files of the log of the database in `folder`, which nobody has open. An error: what is to be kept could not be.
pub(super) fn look(folder: &Path) -> Result<()> {
    let numbers = journal::numbers(folder)?;
    for number in &numbers {
        look_at(&journal::path(folder, *number), Some(number) == numbers.last())?;
    }
    Ok(())
}

/// An older file was synced before there was a newer one: in it nothing can be unfinished.
fn look_at(path: &Path, is_newest: bool) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let (end, found) = walk(&mut file)?;
    let rest = rest(&mut file, end)?;
    if rest.is_empty() || found == Found::Refused && !is_newest {
        return Ok(());
    }
    let (bytes, log) = (rest.len(), path.display());
    let is_last = is_newest && found != Found::Nothing && !holds_a_batch(&rest)?;
    if is_last {
        file.set_len(end)?;
        file.sync_all()?;
        tracing::warn!(%log, bytes, "the log ended in a write that was not finished: it is left out");
    } else if found != Found::Refused {
        let copy = keep(path, &mut file)?;
        file.set_len(end)?;
        file.sync_all()?;
        tracing::error!(
            %log, at = end, bytes, copy = %copy.display(),
            "the log is damaged: what was written after that place is lost, unless it is in a file already; a copy is kept"
        );
    }
    Ok(())
}

/// Passes over the batches that are whole: where they end, and what is there.
fn walk(file: &mut File) -> Result<(u64, Found)> {
    let length = file.metadata()?.len();
    let (mut reader, mut end) = (BufReader::with_capacity(AT_ONCE, file), 0);
    loop {
        match read_batch(&mut reader, length - end)? {
            Found::Batch(bytes) => end += bytes,
            other @ (Found::Nothing | Found::Cut | Found::Refused) => return Ok((end, other)),
        }
    }
}

/// What follows a place, without the zeros at its end.
fn rest(file: &mut File, from: u64) -> Result<Vec<u8>> {
    let (zeros, mut chunk) = (vec![0; AT_ONCE], vec![0; AT_ONCE]);
    let (mut at, mut up_to) = (from, from);
    file.seek(SeekFrom::Start(from))?;
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if zeros.get(..read) != Some(bytes) {
            up_to = at + bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        }
        at += read as u64;
    }
    let mut rest = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(up_to - from).read_to_end(&mut rest)?;
    Ok(rest)
}

/// Whether a whole batch is somewhere after the beginning.
fn holds_a_batch(rest: &[u8]) -> Result<bool> {
    for (at, _) in rest.iter().enumerate().skip(1).filter(|(_, byte)| **byte == START) {
        let mut from = rest.get(at..).unwrap_or_default();
        let left = from.len() as u64;
        if matches!(read_batch(&mut from, left)?, Found::Batch(_)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies a file of the log beside it.
fn keep(path: &Path, file: &mut File) -> Result<PathBuf> {
    let mut copy = path.with_extension("jnl.damaged");
    for number in 2.. {
        if !copy.try_exists()? {
            break;
        }
        copy = path.with_extension(format!("jnl.damaged{number}"));
    }
    let bytes = rest(file, 0)?;
    std::fs::write(&copy, bytes)?;
    File::open(&copy)?.sync_all()?;
    File::open(path.parent().unwrap_or(path))?.sync_all()?;
    Ok(copy)
}

fn read_batch(reader: &mut impl Read, left: u64) -> Result<Found> {
    let mut batch = Batch { reader, left, read: 0 };
    match batch.read() {
        // fjall cuts off what ends too early.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Found::Cut),
        read => read,
    }
}

/// A batch that is being read.
struct Batch<'a, R> {
    reader: &'a mut R,
    /// How many bytes there are at most.
    left: u64,
    read: u64,
}

impl<R: Read> Batch<'_, R> {
    fn read(&mut self) -> Result<Found> {
        if self.left == 0 {
            return Ok(Found::Nothing);
        }
        match self.bytes::<1>()? {
            [0] => return Ok(Found::Nothing),
            [START] => {}
            [_] => return Ok(Found::Cut),
        }
        let mut entries = u32::from_le_bytes(self.bytes()?);
        self.bytes::<8>()?;
        let (mut sum, mut buffer) = (Xxh3::new(), Vec::new());
        loop {
            buffer.clear();
            let [mark] = self.bytes::<1>()?;
            buffer.push(mark);
            match mark {
                ENTRY if !self.entry(&mut buffer)? => return Ok(Found::Cut),
                ENTRY => {}
                CLEAR => self.more(8, &mut buffer)?,
                END => {
                    let expected = u64::from_le_bytes(self.bytes()?);
                    if self.bytes()? != *LAST {
                        return Ok(Found::Cut);
                    }
                    let is_whole = entries == 0 && sum.digest() == expected;
                    return Ok(if is_whole { Found::Batch(self.read) } else { Found::Refused });
                }
                _ => return Ok(Found::Cut),
            }
            sum.update(&buffer);
            let Some(fewer) = entries.checked_sub(1) else { return Ok(Found::Refused) };
            entries = fewer;
        }
    }

    /// `false`: it is none.
    fn entry(&mut self, buffer: &mut Vec<u8>) -> Result<bool> {
        let head: [u8; HEAD] = self.bytes()?;
        let [kind, compression, _, _, _, _, _, _, _, _, k0, k1, v0, v1, v2, v3, written @ ..] = head;
        let (key, value) = (u16::from_le_bytes([k0, k1]), [v0, v1, v2, v3]);
        if kind > 4 || compression != 0 || value != written {
            return Ok(false);
        }
        buffer.extend_from_slice(&head);
        self.more(u64::from(key) + u64::from(u32::from_le_bytes(value)), buffer)?;
        Ok(true)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.read += N as u64;
        Ok(bytes)
    }

    /// Lengths that are damaged may be of anything.
    fn more(&mut self, bytes: u64, buffer: &mut Vec<u8>) -> Result<()> {
        if bytes > self.left.saturating_sub(self.read) {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        let end = buffer.len();
        buffer.resize(end + usize::try_from(bytes).map_err(Error::other)?, 0);
        self.reader.read_exact(buffer.get_mut(end..).unwrap_or_default())?;
        self.read += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::store::StoreError;
    use crate::store::embedded::engine::Engine;

    const RECORDS: u8 = 40;

    /// A closed database with records of 1000 bytes, and its log.
    fn written(folder: &Path) -> PathBuf {
        let engine = Engine::open(folder, 1 << 20).unwrap();
        let tree = engine.tree("records").unwrap();
        for number in 0..RECORDS {
            tree.insert([number], vec![0xA0 | number; 1000]).unwrap();
        }
        drop((tree, engine));
        let numbers = journal::numbers(folder).unwrap();
        assert_eq!(numbers.len(), 1);
        journal::path(folder, numbers[0])
    }

    fn overwrite(log: &Path, at: u64, bytes: &[u8]) {
        File::options().write(true).open(log).unwrap().write_all_at(bytes, at).unwrap();
    }

    fn end(log: &Path) -> u64 {
        let mut file = File::open(log).unwrap();
        let (end, found) = walk(&mut file).unwrap();
        assert_eq!(found, Found::Nothing);
        end
    }

    /// How many of the records there are; they are the first ones.
    fn records(folder: &Path) -> u8 {
        let engine = Engine::open(folder, 1 << 20).unwrap();
        let tree = engine.tree("records").unwrap();
        let keys: Vec<_> = tree.range(..).keys().map(|key| key.unwrap()[0]).collect();
        let count = u8::try_from(keys.len()).unwrap();
        assert_eq!(keys, (0..count).collect::<Vec<_>>());
        count
    }

    fn copy(log: &Path) -> PathBuf {
        log.with_extension("jnl.damaged")
    }

    #[test]
    fn a_last_write_that_is_not_whole_is_left_out_whatever_of_it_is_missing() {
        for (from_end, bytes) in [(500, [0xFF; 1]), (4, [0; 1]), (1000, [0; 1]), (13, [9; 1])] {
            let folder = tempfile::tempdir().unwrap();
            let log = written(folder.path());
            overwrite(&log, end(&log) - from_end, &bytes);
            look(folder.path()).unwrap();
            assert!(!copy(&log).exists());
            assert_eq!(records(folder.path()), RECORDS - 1, "{from_end} before the end");
        }
    }

    #[test]
    fn what_is_whole_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let log = written(folder.path());
        let before = std::fs::metadata(&log).unwrap().len();
        look(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), before);
        assert_eq!(records(folder.path()), RECORDS);
    }

    #[test]
    fn of_what_a_hole_hides_a_copy_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let log = written(folder.path());
        overwrite(&log, end(&log) / 2, &[0; 4096]);
        let damaged = std::fs::read(&log).unwrap();
        look(folder.path()).unwrap();
        let kept = std::fs::read(copy(&log)).unwrap();
        assert!(kept.len() > 40_000 && damaged.starts_with(&kept));
        let left = records(folder.path());
        assert!((RECORDS / 3..RECORDS / 2 + 1).contains(&left), "{left}");
        // Once, and the second one does not take the place of the first.
        look(folder.path()).unwrap();
        assert!(!log.with_extension("jnl.damaged2").exists());
    }

    #[test]
    fn a_wrong_checksum_with_writes_after_it_is_still_refused() {
        let folder = tempfile::tempdir().unwrap();
        let log = written(folder.path());
        let text = std::fs::read(&log).unwrap();
        // Within a value.
        let value = [0xA0 | (RECORDS / 2); 20];
        let at = text.windows(20).position(|window| window == value).unwrap();
        overwrite(&log, at as u64 + 5, &[0]);
        look(folder.path()).unwrap();
        assert!(!copy(&log).exists());
        assert!(matches!(Engine::open(folder.path(), 1 << 20), Err(StoreError::Corrupt(_))));
    }
}
