//! Whether a disk that failed has space again, so that a store could be opened there and written for a while. What is
//! done about it is the store's business.

use std::path::{Path, PathBuf};

/// How much must be free, or a quarter of the disk if that is less: a process that starts on a disk that is nearly full soon
/// ends again.
const FREE: u64 = 32 << 20;
/// In how many looks in a row.
const LOOKS: u32 = 3;
/// What is written to see whether writes go through: about what gathers in memory before it becomes a file, divided by eight. Only where so much more is free.
const PROBE: usize = 1 << 20;

/// The looks at a disk.
#[derive(Debug)]
pub(super) struct Space {
    directory: PathBuf,
    /// How many in a row were good.
    good: u32,
}

impl Space {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory, good: 0 }
    }

    /// Looks once more: whether the disk was good long enough.
    pub(super) fn suffices(&mut self) -> bool {
        let good = has_space(&self.directory).is_ok_and(|has| has) && takes_writes(&self.directory).is_ok();
        self.note(good)
    }

    const fn note(&mut self, good: bool) -> bool {
        self.good = if good { self.good.saturating_add(1) } else { 0 };
        self.good >= LOOKS
    }
}

/// Removes what a process left that was killed while it looked.
pub(super) fn clear(directory: &Path) {
    if let Err(error) = std::fs::remove_file(probe(directory))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "a file of an earlier process stays in the store's folder");
    }
}

fn probe(directory: &Path) -> PathBuf {
    directory.join("probe")
}

fn has_space(directory: &Path) -> std::io::Result<bool> {
    let disk = rustix::fs::statvfs(directory)?;
    let (free, all) =
        (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_blocks.saturating_mul(disk.f_frsize));
    Ok(free >= FREE.min(all / 4))
}

fn takes_writes(directory: &Path) -> std::io::Result<()> {
    let probe = probe(directory);
    let written = std::fs::File::create(&probe).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &vec![0; PROBE])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&probe);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_good_look_is_not_enough() {
        let folder = tempfile::tempdir().unwrap();
        let mut space = Space::new(folder.path().to_owned());
        assert!(!space.suffices() && !space.suffices());
        assert!(!space.note(false), "it begins anew");
        assert!(!space.suffices() && !space.suffices());
        assert!(space.suffices());
        assert!(!probe(folder.path()).exists());
        let mut nowhere = Space::new(folder.path().join("nowhere"));
        assert!((0..5).all(|_| !nowhere.suffices()));
    }
}
