//! What the service remembers, behind traits that a database hides under: small, atomic, durable steps.
//! Not here: Telegram sessions (`vault`), and any decision about what to do next (`flows`).

mod records;
mod sled;

use async_trait::async_trait;

pub use self::sled::SledStore;
use crate::domain::account::Mode;
use crate::domain::account::UnsavedSession;
use crate::domain::login::PendingSignIn;
use crate::domain::seal::KeyId;

/// Why a step did not happen. "Not there" is `Option`, never an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be read or written now.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// Another process has the embedded store open.
    #[error("the store in {0} is in use by another process: stop it, or give this one its own --data-dir")]
    InUse(String),
    /// A record is not what was written.
    #[error("the record {0} of the store is damaged; restore the data directory from a backup, or remove it")]
    Corrupt(String),
    /// The store belongs to another Telegram.
    #[error(
        "the store in {place} was made in {found} mode, but this process runs in {expected} mode: \
         use another --data-dir"
    )]
    OtherMode {
        /// Where the store is.
        place: String,
        /// The mode it was made in.
        found: Mode,
        /// The mode of this process.
        expected: Mode,
    },
    /// The store was written under another master key.
    #[error(
        "the store in {place} was sealed with master key {sealed_with}, but the configured one is {configured}: \
         set CONNECTOR_MASTER_KEY to the key it was made with"
    )]
    OtherKey {
        /// Where the store is.
        place: String,
        /// The key it was made with.
        sealed_with: KeyId,
        /// The key of this process.
        configured: KeyId,
    },
}

/// The account's sign-in between its two steps, and a finished one whose session could not be saved yet.
///
/// Each method is one atomic, durable step: when it returns `Ok`, a crash cannot undo it. At most one sign-in is
/// pending, because there is one account.
#[async_trait]
pub trait SignInStore: Send + Sync + 'static {
    /// The pending sign-in.
    async fn pending_sign_in(&self) -> Result<Option<PendingSignIn>, StoreError>;

    /// Writes the pending sign-in over whatever was pending.
    async fn put_pending_sign_in(&self, pending: &PendingSignIn) -> Result<(), StoreError>;

    /// Forgets the pending sign-in; nothing happens when there is none.
    async fn delete_pending_sign_in(&self) -> Result<(), StoreError>;

    /// Ends the pending sign-in and keeps the session it led to, in one step, for when the session store is out of
    /// reach.
    async fn keep_unsaved_session(&self, unsaved: &UnsavedSession) -> Result<(), StoreError>;

    /// The session that the session store has not taken yet.
    async fn unsaved_session(&self) -> Result<Option<UnsavedSession>, StoreError>;

    /// Forgets the unsaved session; nothing happens when there is none.
    async fn delete_unsaved_session(&self) -> Result<(), StoreError>;
}

/// Everything the service remembers.
#[async_trait]
pub trait Store: SignInStore {
    /// Whether the store can be written: a durable write and a read of it.
    async fn ping(&self) -> Result<(), StoreError>;
}
