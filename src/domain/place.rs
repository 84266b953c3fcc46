//! Where sessions are kept, as an operator writes it: `file:FOLDER` or `s3://bucket/prefix`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A place for sessions, or for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder, or a file in one.
    Path(PathBuf),
    /// A bucket of an S3 server.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// A prefix, or an object's key; without slashes at its ends.
        key: String,
    },
}

/// Where the service keeps its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStore {
    /// Folder or bucket.
    pub place: Place,
    /// The bucket is part of the path, not of the S3 server's host name.
    pub path_style: bool,
    /// `CONNECTOR_IMPORT_SESSION`: where to take a session from when there is none.
    pub import: Option<Place>,
}

impl SessionStore {
    /// A folder, and nothing to import.
    pub const fn folder(folder: PathBuf) -> Self {
        Self { place: Place::Path(folder), path_style: false, import: None }
    }
}

impl Place {
    /// Reads the address of a session store: `file:FOLDER`, `s3://bucket` or `s3://bucket/prefix`.
    pub fn store(text: &str) -> Option<Self> {
        match text.strip_prefix("file:") {
            Some("") => None,
            Some(folder) => Some(Self::Path(folder.into())),
            None => Self::s3(text),
        }
    }

    /// Reads the address of one object: `s3://bucket/key`, or a path, with or without `file:`.
    pub fn object(text: &str) -> Option<Self> {
        if text.contains("://") {
            return Self::s3(text).filter(|place| matches!(place, Self::S3 { key, .. } if !key.is_empty()));
        }
        let path = text.strip_prefix("file:").unwrap_or(text);
        (!path.is_empty()).then(|| Self::Path(path.into()))
    }

    /// The object `name` in this place.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        match self {
            Self::Path(folder) => Self::Path(folder.join(name)),
            Self::S3 { bucket, key } if key.is_empty() => {
                Self::S3 { bucket: bucket.clone(), key: name.to_owned() }
            }
            Self::S3 { bucket, key } => Self::S3 { bucket: bucket.clone(), key: format!("{key}/{name}") },
        }
    }

    /// The object `name` where this object is.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        match self {
            Self::Path(file) => Self::Path(file.with_file_name(name)),
            Self::S3 { bucket, key } => {
                let prefix = key.rsplit_once('/').map_or("", |(prefix, _)| prefix);
                Self::S3 { bucket: bucket.clone(), key: prefix.to_owned() }.join(name)
            }
        }
    }

    /// Whether the master key must come from the environment: who comes to a bucket brings no data directory.
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::S3 { .. })
    }

    fn s3(text: &str) -> Option<Self> {
        let (bucket, key) = {
            let rest = text.strip_prefix("s3://")?;
            rest.split_once('/').unwrap_or((rest, ""))
        };
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
        if bucket.is_empty() || !bucket.chars().all(plain) || key.contains(['?', '#']) {
            return None;
        }
        Some(Self::S3 { bucket: bucket.to_owned(), key: key.trim_matches('/').to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(formatter, "{}", path.display()),
            Self::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}"),
        }
    }
}

/// How a process owns the sessions that it keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `CONNECTOR_LEASE_SECONDS`: how long a lease in a bucket lasts that is not renewed.
    pub lasts: Duration,
    /// `CONNECTOR_ALLOW_UNLEASED`.
    pub allow_unleased: bool,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        Self { lasts: Duration::from_secs(90), allow_unleased: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_folder_or_a_bucket_with_a_prefix() {
        assert_eq!(Place::store("file:./x"), Some(Place::Path("./x".into())));
        for (text, object) in [
            ("s3://bucket", "s3://bucket/account.session"),
            ("s3://bucket/", "s3://bucket/account.session"),
            ("s3://bucket/a/b/", "s3://bucket/a/b/account.session"),
        ] {
            let place = Place::store(text).unwrap();
            assert!(place.is_remote());
            assert_eq!(place.join("account.session").to_string(), object);
            assert_eq!(place.join("x").beside("account.session").to_string(), object);
        }
        for text in ["", "file:", "ftp://x", "./x", "s3:", "s3://", "s3:///x", "s3://user:pass@host/x"] {
            assert_eq!(Place::store(text), None, "{text}");
        }
    }

    #[test]
    fn an_object_is_a_path_or_a_key_in_a_bucket() {
        assert_eq!(Place::object("old.txt"), Some(Place::Path("old.txt".into())));
        assert_eq!(Place::object("file:/a/old"), Some(Place::Path("/a/old".into())));
        assert_eq!(Place::object("s3://b/k/x").unwrap().to_string(), "s3://b/k/x");
        for text in ["", "file:", "s3://b", "s3://b/", "http://b/k"] {
            assert_eq!(Place::object(text), None, "{text}");
        }
    }
}
