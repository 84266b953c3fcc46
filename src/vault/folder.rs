//! Sessions in a folder: a file each, replaced whole by a rename, readable by its owner only.

use std::io;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use super::LARGEST;

/// One object: a file, whose folder is made when it is first written.
#[derive(Clone, Debug)]
pub(super) struct File(PathBuf);

impl File {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn beside(&self, name: &str) -> Self {
        Self(self.0.with_file_name(name))
    }

    pub(super) async fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let file = self.0.clone();
        let read = blocking(move || {
            if std::fs::metadata(&file)?.len() > LARGEST {
                return Ok(Vec::new()); // decodes as damaged
            }
            std::fs::read(&file)
        });
        match read.await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn write(&self, object: Vec<u8>) -> io::Result<()> {
        let file = self.0.clone();
        blocking(move || {
            let folder = file.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let fresh = file.with_extension("session.new");
            write_private(&fresh, &object)?;
            std::fs::rename(&fresh, &file)?;
            sync_folder(&file)
        })
        .await
    }

    /// Writes and removes a file beside it.
    pub(super) async fn probe(&self) -> io::Result<()> {
        let probe = self.0.with_extension("probe");
        blocking(move || {
            std::fs::create_dir_all(probe.parent().unwrap_or(Path::new(".")))?;
            write_private(&probe, b"probe")?;
            std::fs::remove_file(&probe)
        })
        .await
    }

    pub(super) async fn delete(&self) -> io::Result<()> {
        let file = self.0.clone();
        let removed = blocking(move || match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => sync_folder(&file),
        });
        match removed.await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn write_private(file: &Path, contents: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut opened = options.open(file)?;
    opened.write_all(contents)?;
    opened.sync_all()
}

/// Makes a rename or a removal survive a power cut.
fn sync_folder(file: &Path) -> io::Result<()> {
    std::fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
