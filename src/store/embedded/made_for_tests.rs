//! Stores and sessions for the unit tests of this folder.

use super::EmbeddedStore;
use super::sessions::context;
use crate::domain::account::Mode;
use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::Request;
use crate::domain::auth_session::SessionToken;
use crate::domain::auth_session::Via;
use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;
use crate::domain::project::ProjectId;
use crate::domain::seal::Sealer;
use crate::store::records;

pub(super) const BOT: Via = Via { account: 500, bot: true };

/// The store in a folder.
pub(super) async fn open(folder: &tempfile::TempDir) -> EmbeddedStore {
    let sealer = Sealer::new(&[7; 32], Ids::from_seed([3; 32]));
    EmbeddedStore::open(folder.path(), 1 << 20, Mode::Sandbox, sealer).await.unwrap()
}

/// A session that nobody has opened.
pub(super) fn session(ids: &Ids, project: &ProjectId, at: Timestamp) -> AuthSession {
    let request = Request::new(project.clone(), BOT);
    AuthSession::new(SessionToken::new(ids), "watch".to_owned(), request, at)
}

/// The same, queued to be written with others.
pub(super) fn queued(store: &EmbeddedStore, ids: &Ids, project: &ProjectId, at: Timestamp) -> AuthSession {
    let session = session(ids, project, at);
    let record = records::encode_compact(&store.0.sealer, &context(&session.id), &session);
    store.0.creations.queue(&session, &record.unwrap()).unwrap();
    session
}
