//! A session that another program left, taken in once. It is read, never written.

use zeroize::Zeroizing;

use super::Backend;
use super::VaultError;
use super::error::Trouble;
use crate::domain::account::TelegramSession;
use crate::domain::place::Place;
use crate::domain::string_session::StringSession;

/// A session that another program left as a `StringSession`. It is read, never written.
#[derive(Clone, Debug)]
pub(super) struct Import {
    pub(super) from: Place,
    pub(super) backend: Backend,
}

impl Import {
    pub(super) async fn session(&self) -> Result<TelegramSession, VaultError> {
        let refused = |why: String| VaultError::new(&self.from, Trouble::Refused(why));
        let read = self.backend.read().await;
        let read = read.map_err(|trouble| VaultError::new(&self.from, trouble))?;
        let advice = "correct or unset CONNECTOR_IMPORT_SESSION";
        let (text, _) = read.ok_or_else(|| refused(format!("there is no session to import: {advice}")))?;
        let session = StringSession::parse(&Zeroizing::new(text));
        let session = session.map_err(|why| refused(format!("not a session to import: {why}; {advice}")))?;
        tracing::info!(from = %self.from, "importing a session; it is verified with Telegram before it is saved");
        Ok(session.into_session())
    }
}
