//! Where Telegram sessions are kept: a folder or a bucket. Each is one sealed object, written whole or not at all.
//! An object that another hand has changed since we last saw it is never written over. Whose it is, `lease` knows.

mod error;
mod folder;
mod format;
mod import;
mod lease;
mod s3;
mod timed;
mod unsaved;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use self::error::Trouble;
pub use self::error::VaultError;
use self::import::Import;
pub use self::lease::Exposure;
pub use self::lease::Holder;
pub use self::lease::Lease;
pub use self::lease::NO_CONDITIONS;
pub use self::lease::Ownership;
pub use self::lease::Terms;
use self::s3::Expected;
use self::timed::Timed;
use crate::domain::account::AuthKey;
use crate::domain::account::Mode;
use crate::domain::account::TelegramSession;
use crate::domain::place::Place;
use crate::domain::seal::Sealer;

/// A session is a few kilobytes; what is larger was not written by us.
const LARGEST: u64 = 64 * 1024 * 1024;
/// Writes whose answer was lost that are remembered.
const MOST_ATTEMPTS: usize = 32;

/// One session's place in the vault. Cloning shares what it has seen.
#[derive(Clone, Debug)]
pub struct Vault {
    place: Place,
    backend: Backend,
    name: String,
    mode: Mode,
    sealer: Sealer,
    import: Option<Import>,
    /// Where it has one, only its owner writes.
    lease: Option<Lease>,
    terms: Option<Arc<Terms>>,
    /// One call at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Debug)]
enum Backend {
    Folder(folder::File),
    S3(s3::Object),
}

/// What sessions can be kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A folder that can be written.
    Folder,
    /// A bucket that can be written, on conditions.
    Conditions,
    /// A bucket whose server does not honour conditional writes.
    NoConditions,
}

type Digest32 = [u8; 32];

/// What we know of the object in the vault.
#[derive(Debug, Default)]
struct Seen {
    last: Last,
    /// What we have written lately, `None` for a deletion: an answer that got lost must not make our own object
    /// another's.
    ours: VecDeque<Option<Digest32>>,
}

#[derive(Clone, Debug, Default)]
enum Last {
    /// Not looked yet.
    #[default]
    Nothing,
    /// This one, or none.
    Object(Option<Digest32>),
    /// An earlier process saw this one, or none, and may have written the session with this key since.
    Before(Option<Digest32>, Option<Box<AuthKey>>),
}

impl Seen {
    fn attempt(&mut self, digest: Option<Digest32>) {
        if self.ours.len() == MOST_ATTEMPTS {
            self.ours.pop_front();
        }
        self.ours.push_back(digest);
    }

    fn settle(&mut self, digest: Option<Digest32>) {
        self.last = Last::Object(digest);
        self.ours.clear();
    }
}

/// The object as it is now; the tag is the S3 server's.
struct Present {
    object: Vec<u8>,
    digest: Digest32,
    tag: Option<String>,
}

impl Vault {
    /// The session `name` (`account.session`) in a folder, which is made when the first session is saved.
    pub fn folder(folder: &Path, name: &str, mode: Mode, sealer: Sealer) -> Self {
        let file = folder.join(name);
        let backend = Backend::Folder(folder::File::new(file.clone()));
        Self::with(Place::Path(file), backend, name, mode, sealer)
    }

    /// The session `name` in a folder or a bucket. `path_style`: the bucket is not part of the S3 server's host name.
    pub async fn open(store: &Place, path_style: bool, name: &str, mode: Mode, sealer: Sealer) -> Self {
        let place = store.join(name);
        let backend = Backend::open(&place, path_style).await;
        Self::with(place, backend, name, mode, sealer)
    }

    fn with(place: Place, backend: Backend, name: &str, mode: Mode, sealer: Sealer) -> Self {
        Self {
            place,
            backend,
            name: name.to_owned(),
            mode,
            sealer,
            import: None,
            lease: None,
            terms: None,
            turn: Arc::default(),
            seen: Arc::default(),
        }
    }

    /// Another session in the same place, on the same terms; nothing is imported into it.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        let backend = self.backend.beside(name);
        let other = Self::with(self.place.beside(name), backend, name, self.mode, self.sealer.clone());
        match &self.terms {
            Some(terms) => other.leased(terms),
            None => other,
        }
    }

    /// From here on only the owner of the session's lease writes it. Who calls this sees to the lease.
    #[must_use]
    pub fn leased(self, terms: &Arc<Terms>) -> Self {
        let lease = Lease::new(&self.place, &self.backend, &self.name, terms);
        Self { lease: Some(lease), terms: Some(Arc::clone(terms)), ..self }
    }

    /// The session's lease, where it has one.
    pub const fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Where there is no session, [`Vault::load`] takes the one that this object holds, as a `StringSession`.
    #[must_use]
    pub async fn importing(self, from: Place, path_style: bool) -> Self {
        let backend = Backend::open(&from, path_style).await;
        Self { import: Some(Import { from, backend }), ..self }
    }

    /// The session as it lies there, whoever owns it; `None` when there is none.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn look(&self) -> Result<Option<TelegramSession>, VaultError> {
        let _turn = self.turn.lock().await;
        let present = self.read().await?;
        let kept = present.as_ref().map(|present| self.decode(&present.object)).transpose()?;
        self.seen().settle(present.map(|present| present.digest));
        Ok(kept.map(|kept| kept.session))
    }

    /// Loads the session; `None` when there is none. One without a user was moved in and is not verified yet.
    /// Its owner writes it once more where an earlier owner has written it last: what that one may still be about to
    /// write does not replace it then.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn load(&self) -> Result<Option<TelegramSession>, VaultError> {
        let _turn = self.turn.lock().await;
        let _timed = Timed::new("load");
        let present = self.read().await?;
        let kept = present.as_ref().map(|present| self.decode(&present.object)).transpose()?;
        self.seen().settle(present.as_ref().map(|present| present.digest));
        match (&self.import, kept) {
            (Some(import), None) => import.session().await.map(Some),
            (_, None) => Ok(None),
            (_, Some(kept)) => {
                if self.epoch().is_some_and(|epoch| epoch != kept.epoch) {
                    self.write(present, &kept.session).await?;
                }
                Ok(Some(kept.session))
            }
        }
    }

    /// Writes the session whole; durable when this returns. When it fails, it may have been written all the same.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn save(&self, session: &TelegramSession) -> Result<(), VaultError> {
        let _turn = self.turn.lock().await;
        let _timed = Timed::new("save");
        self.owned()?;
        let present = self.read().await?;
        self.guard(present.as_ref())?;
        self.write(present, session).await
    }

    /// Writes it over `present`.
    async fn write(&self, present: Option<Present>, session: &TelegramSession) -> Result<(), VaultError> {
        self.owned()?; // reading has taken its time
        let object = self.encode(session)?;
        let digest = digest(&object);
        self.seen().attempt(Some(digest));
        let written = match &self.backend {
            Backend::Folder(file) => file.write(object).await.map_err(Trouble::from),
            Backend::S3(server) => {
                let expected = match &present {
                    None => Expected::Absent,
                    Some(Present { tag: Some(tag), .. }) => Expected::Tag(tag),
                    Some(Present { tag: None, .. }) => Expected::Anything,
                };
                Box::pin(server.write(object, expected)).await.map(|_| ())
            }
        };
        match written {
            Ok(()) => {}
            // A second attempt of the SDK finds what the first one, whose answer was lost, has written.
            Err(Trouble::Changed) if self.read().await?.is_some_and(|now| now.digest == digest) => {}
            Err(trouble) => return Err(self.error(trouble)),
        }
        self.seen().settle(Some(digest));
        Ok(())
    }

    /// Whether this process may use and write the session.
    ///
    /// # Errors
    /// [`VaultError::NotOwner`], or [`VaultError::Unavailable`] where the lease could not be had or renewed.
    pub fn owned(&self) -> Result<(), VaultError> {
        let Some(lease) = self.lease.as_ref().filter(|lease| lease.epoch().is_none()) else { return Ok(()) };
        let unavailable = |why: &str| self.error(Trouble::Unavailable(std::io::Error::other(why.to_owned())));
        Err(match &*lease.ownership().borrow() {
            Ownership::Standby(holder) => VaultError::NotOwner(holder.clone()),
            Ownership::Unknown(why) => unavailable(why),
            Ownership::Held { .. } | Ownership::Lapsed => {
                unavailable("the lease could not be renewed in time")
            }
        })
    }

    fn epoch(&self) -> Option<u64> {
        self.lease.as_ref().and_then(Lease::epoch)
    }

    /// Deletes the session; nothing happens when there is none.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub async fn delete(&self) -> Result<(), VaultError> {
        let _turn = self.turn.lock().await;
        let _timed = Timed::new("delete");
        self.owned()?;
        if !matches!(self.seen().last, Last::Nothing) {
            self.guard(self.read().await?.as_ref())?;
        }
        self.seen().attempt(None);
        let deleted = match &self.backend {
            Backend::Folder(file) => file.delete().await.map_err(Trouble::from),
            Backend::S3(server) => Box::pin(server.delete()).await,
        };
        deleted.map_err(|trouble| self.error(trouble))?;
        self.seen().settle(None);
        Ok(())
    }

    /// Whether sessions can be kept here: writes and removes a probe beside the session, with `unique` in its name.
    /// Returns what was seen.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`], [`VaultError::Refused`].
    pub async fn probe(&self, unique: &str) -> Result<Probe, VaultError> {
        let seen = match &self.backend {
            Backend::Folder(file) => file.probe().await.map(|()| Probe::Folder).map_err(Trouble::from),
            Backend::S3(server) => {
                let honoured = Box::pin(server.probe(unique)).await;
                honoured.map(|honoured| if honoured { Probe::Conditions } else { Probe::NoConditions })
            }
        };
        seen.map_err(|trouble| self.error(trouble))
    }

    /// Whether what was written in that epoch is older than what this process writes.
    fn may_replace(&self, epoch: u64) -> bool {
        self.epoch().is_none_or(|ours| epoch <= ours)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> String {
        self.place.to_string()
    }

    fn error(&self, trouble: Trouble) -> VaultError {
        VaultError::new(&self.place, trouble)
    }

    async fn read(&self) -> Result<Option<Present>, VaultError> {
        let read = self.backend.read().await.map_err(|trouble| self.error(trouble))?;
        Ok(read.map(|(object, tag)| Present { digest: digest(&object), object, tag }))
    }
}

impl Backend {
    async fn open(place: &Place, path_style: bool) -> Self {
        match place {
            Place::Path(file) => Self::Folder(folder::File::new(file.clone())),
            Place::S3 { bucket, key } => Self::S3(s3::Object::new(bucket, key, path_style).await),
        }
    }

    /// Another object in the same folder, or behind the same server and prefix.
    fn beside(&self, name: &str) -> Self {
        match self {
            Self::Folder(file) => Self::Folder(file.beside(name)),
            Self::S3(object) => Self::S3(object.beside(name)),
        }
    }

    /// The object and the S3 server's tag for it.
    async fn read(&self) -> Result<Option<(Vec<u8>, Option<String>)>, Trouble> {
        match self {
            Self::Folder(file) => Ok(file.read().await?.map(|object| (object, None))),
            // Boxed: the SDK's futures are larger than all of ours together.
            Self::S3(server) => Box::pin(server.read()).await,
        }
    }
}

fn digest(object: &[u8]) -> Digest32 {
    Sha256::digest(object).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::DataCentre;
    use crate::domain::ids::Ids;

    fn vault(folder: &Path, mode: Mode, key: u8) -> Vault {
        Vault::folder(folder, "account.session", mode, Sealer::new(&[key; 32], Ids::from_seed([3; 32])))
    }

    #[tokio::test]
    async fn a_saved_session_is_loaded_again_and_its_file_tells_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("made/on/demand");
        let ours = vault(&place, Mode::Sandbox, 1);
        assert_eq!(ours.load().await.unwrap(), None);
        let session = TelegramSession { home_dc: 4, ..TelegramSession::default() };
        ours.save(&session).await.unwrap();
        assert_eq!(vault(&place, Mode::Sandbox, 1).load().await.unwrap(), Some(session));
        let bytes = std::fs::read(place.join("account.session")).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"home_dc"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(place.join("account.session")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        ours.delete().await.unwrap();
        ours.delete().await.unwrap();
        assert_eq!(ours.load().await.unwrap(), None);
    }

    #[tokio::test]
    async fn another_key_mode_or_damage_is_told_apart_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let ours = vault(folder.path(), Mode::Sandbox, 1);
        ours.load().await.unwrap();
        ours.save(&TelegramSession::default()).await.unwrap();
        let file = folder.path().join("account.session");
        let good = std::fs::read(&file).unwrap();

        let other_key = vault(folder.path(), Mode::Sandbox, 2);
        assert!(matches!(other_key.load().await, Err(VaultError::OtherKey { .. })));
        let saved = other_key.save(&TelegramSession::default()).await;
        assert!(matches!(saved, Err(VaultError::OtherKey { .. })));
        let other_mode = vault(folder.path(), Mode::Telegram, 1);
        assert!(matches!(other_mode.load().await, Err(VaultError::OtherMode { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), good);

        for cut in [0, 3, 6, 20, good.len() - 1] {
            std::fs::write(&file, &good[..cut]).unwrap();
            let damaged = vault(folder.path(), Mode::Sandbox, 1);
            assert!(matches!(damaged.load().await, Err(VaultError::Damaged { .. })), "cut at {cut}");
            assert!(damaged.save(&TelegramSession::default()).await.is_err());
            assert_eq!(std::fs::read(&file).unwrap(), &good[..cut]);
        }
    }

    #[tokio::test]
    async fn a_session_that_another_process_wrote_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (vault(folder.path(), Mode::Sandbox, 1), vault(folder.path(), Mode::Sandbox, 1));
        one.load().await.unwrap();
        two.load().await.unwrap();
        one.save(&TelegramSession::default()).await.unwrap();
        let other = TelegramSession { home_dc: 5, ..TelegramSession::default() };
        assert!(matches!(two.save(&other).await, Err(VaultError::ChangedElsewhere { .. })));
        assert_eq!(two.load().await.unwrap(), Some(TelegramSession::default()));
        two.save(&other).await.unwrap();
    }

    #[tokio::test]
    async fn sessions_beside_each_other_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let ours = vault(folder.path(), Mode::Sandbox, 1);
        ours.save(&TelegramSession::default()).await.unwrap();
        let bot = ours.beside("bot-7.session");
        assert_eq!(bot.load().await.unwrap(), None);
        let session = TelegramSession { home_dc: 4, ..TelegramSession::default() };
        bot.save(&session).await.unwrap();
        assert_eq!(ours.beside("bot-7.session").load().await.unwrap(), Some(session));
        assert_eq!(ours.load().await.unwrap(), Some(TelegramSession::default()));
        // One cannot be passed off as the other.
        std::fs::copy(folder.path().join("bot-7.session"), folder.path().join("account.session")).unwrap();
        assert!(matches!(ours.load().await, Err(VaultError::Damaged { .. })));
    }

    #[tokio::test]
    async fn a_folder_that_is_not_one_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sessions");
        std::fs::write(&file, b"in the way").unwrap();
        let error = vault(&file, Mode::Sandbox, 1).load().await.unwrap_err();
        assert!(error.is_unavailable(), "{error}");
    }

    #[tokio::test]
    async fn what_an_earlier_process_could_not_save_replaces_what_it_saw_or_wrote_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let with_key = |key: u8| {
            let centre = DataCentre { address: None, auth_key: Some(AuthKey::new([key; 256])) };
            TelegramSession { data_centres: [(2, centre)].into(), ..TelegramSession::default() }
        };
        let fresh = || vault(folder.path(), Mode::Sandbox, 1);
        let first = fresh();
        first.load().await.unwrap();
        let unsaved = first.unsaved(with_key(1));
        assert_eq!(unsaved.replaces, None);

        // Its write was carried out after all: the object is its own, to be replaced and to be deleted.
        first.save(&with_key(1)).await.unwrap();
        for session in [with_key(1), with_key(2)] {
            let next = fresh();
            next.resume(&unsaved);
            next.save(&session).await.unwrap();
            first.load().await.unwrap();
            first.save(&with_key(1)).await.unwrap();
        }
        let next = fresh();
        next.resume(&unsaved);
        next.delete().await.unwrap();

        // Meanwhile another has signed in.
        fresh().save(&with_key(3)).await.unwrap();
        let next = fresh();
        next.resume(&unsaved);
        assert!(matches!(next.save(&with_key(1)).await, Err(VaultError::ChangedElsewhere { .. })));
        assert!(matches!(next.delete().await, Err(VaultError::ChangedElsewhere { .. })));
        assert_eq!(fresh().load().await.unwrap(), Some(with_key(3)));

        // What it was to replace may be replaced.
        let third = fresh();
        third.load().await.unwrap();
        let next = fresh();
        next.resume(&third.unsaved(with_key(4)));
        next.save(&with_key(4)).await.unwrap();
        assert_eq!(fresh().load().await.unwrap(), Some(with_key(4)));
    }
}
