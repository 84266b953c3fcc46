//! `session import` and `session export`: the account's session as a Telethon `StringSession`, while no service runs.
//! Nothing is asked of Telegram: the service verifies an imported session when it starts.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::account_vault;
use super::instance;
use super::instance::InstanceError;
use crate::config::Moving;
use crate::domain::account::TelegramSession;
use crate::domain::ids::Ids;
use crate::domain::seal::Sealer;
use crate::domain::string_session::NotAStringSession;
use crate::domain::string_session::StringSession;
use crate::master_key;
use crate::master_key::MasterKeyError;
use crate::store::EmbeddedStore;
use crate::store::SignInStore as _;
use crate::store::StoreError;
use crate::telegram::Network;
use crate::vault::Terms;
use crate::vault::Vault;
use crate::vault::VaultError;

/// The check of the store needs little.
const CACHE_BYTES: u64 = 1024 * 1024;

/// Why a session was not moved. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is one already.
    #[error(
        "there is a session already; --replace puts the new one in its place, without signing the old one out"
    )]
    AlreadyThere,
    /// There is none.
    #[error("there is no session in {0}")]
    NoSession(String),
    /// The text is none.
    #[error("standard input holds no session: {0}")]
    NotASession(#[from] NotAStringSession),
    /// The service is running.
    #[error("{0}; stop it first")]
    InUse(String),
    /// The service is running, and an export would still be possible.
    #[error(
        "{0}; stop it first, or export with --force: Telegram destroys a session that two programs use at once"
    )]
    InUseUnlessForced(String),
    /// Nothing says where the data centre is.
    #[error(
        "data centre {0} of the session has no known address: join the sandbox that it belongs to with --sandbox=URL"
    )]
    NoAddress(i32),
    /// There is no key to open the session with.
    #[error(
        "there is no master key: set CONNECTOR_MASTER_KEY, or --data-dir to where the service keeps its master.key"
    )]
    NoMasterKey,
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The data directory's id.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session store.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Makes the `StringSession` in `text` the account's session.
///
/// # Errors
/// See [`MoveError`].
pub async fn import_session(place: &Moving, text: &[u8], replace: bool, ids: Ids) -> Result<(), MoveError> {
    let session = StringSession::parse(text)?.into_session();
    let key = master_key::find_or_make(place.master_key.as_ref(), &place.data_dir, &ids)?;
    let sealer = Sealer::new(key.reveal(), ids.clone());
    let store = match open_store(place, sealer.clone()).await {
        Err(StoreError::InUse(store)) => return Err(MoveError::InUse(StoreError::InUse(store).to_string())),
        store => store?,
    };
    let vault = account_vault(&place.session_store, place.mode, sealer).await.leased(&terms(place, &ids)?);
    if let Some(lease) = vault.lease() {
        lease.borrow().await.map_err(in_use)?;
    }
    let imported = replace_session(&vault, store.as_ref(), &session, replace).await;
    if let Some(lease) = vault.lease() {
        lease.give_up().await;
    }
    imported
}

async fn replace_session(
    vault: &Vault,
    store: Option<&EmbeddedStore>,
    session: &TelegramSession,
    replace: bool,
) -> Result<(), MoveError> {
    let waiting = match store {
        Some(store) => store.unsaved_session().await?.is_some(),
        None => false,
    };
    let there = vault.look().await?.is_some();
    if (there || waiting) && !replace {
        return Err(MoveError::AlreadyThere);
    }
    vault.save(session).await?;
    if let Some(store) = store {
        store.delete_unsaved_session().await?;
        store.delete_pending_sign_in().await?;
    }
    Ok(())
}

/// The account's session as a `StringSession`. `network`: where its data centres are, when that is known.
///
/// # Errors
/// See [`MoveError`].
pub async fn export_session(
    place: &Moving,
    network: Option<&Network>,
    force: bool,
    ids: Ids,
) -> Result<Zeroizing<String>, MoveError> {
    let key = master_key::find(place.master_key.as_ref(), &place.data_dir)?.ok_or(MoveError::NoMasterKey)?;
    let sealer = Sealer::new(key.reveal(), ids.clone());
    let store = match open_store(place, sealer.clone()).await {
        Err(StoreError::InUse(_)) if force => None,
        Err(error @ StoreError::InUse(_)) => return Err(MoveError::InUseUnlessForced(error.to_string())),
        store => store?,
    };
    let unsaved = match &store {
        Some(store) => store.unsaved_session().await?,
        None => None,
    };
    let none = || MoveError::NoSession(place.session_store.place.to_string());
    let session = if let Some(unsaved) = unsaved {
        unsaved.session
    } else {
        let vault = account_vault(&place.session_store, place.mode, sealer).await;
        // Reading does no harm; what is read is used elsewhere, and then nobody may be using it here.
        if !force {
            let leased = vault.clone().leased(&terms(place, &ids)?);
            if let Some(lease) = leased.lease() {
                lease.borrow().await.map_err(in_use_unless_forced)?;
                lease.give_up().await;
            }
        }
        vault.look().await?.ok_or_else(none)?
    };
    let centre = session.data_centres.get(&session.home_dc);
    let learnt = centre.and_then(|centre| centre.address);
    let address = match network {
        Some(network) => network.address(session.home_dc, learnt),
        None => learnt,
    };
    let address = address.ok_or(MoveError::NoAddress(session.home_dc))?;
    Ok(StringSession::of(&session, address).ok_or_else(none)?.to_text())
}

/// The terms on which a command borrows the lease: those of the service in the same data directory.
fn terms(place: &Moving, ids: &Ids) -> Result<Arc<Terms>, MoveError> {
    let instance =
        if place.data_dir.exists() { instance::find_or_make(&place.data_dir, ids)? } else { ids.base62(22) };
    Ok(Arc::new(Terms::new(place.lease, instance, String::new(), ids)))
}

fn in_use(error: VaultError) -> MoveError {
    if matches!(error, VaultError::NotOwner(_)) { MoveError::InUse(error.to_string()) } else { error.into() }
}

fn in_use_unless_forced(error: VaultError) -> MoveError {
    if matches!(error, VaultError::NotOwner(_)) {
        MoveError::InUseUnlessForced(error.to_string())
    } else {
        error.into()
    }
}

/// The service's store, which only one process opens; `None` where there has never been one.
async fn open_store(place: &Moving, sealer: Sealer) -> Result<Option<EmbeddedStore>, StoreError> {
    let directory = place.data_dir.join("store");
    EmbeddedStore::open_as_is(&directory, CACHE_BYTES, place.mode, sealer).await
}
