//! How an account's state changes; connections to a data centre are the integration tests' business.

use std::sync::Arc;

use super::*;
use crate::domain::ids::Secret;
use crate::telegram::Network;

#[tokio::test]
async fn the_end_of_a_session_is_final_whatever_is_learnt_at_the_same_moment() {
    let settings = Settings::new(1, Secret::new("hash".to_owned()), Network::telegram());
    let sink: EventSink = Arc::new(|_, _| Box::pin(std::future::ready(true)));
    let ids = Ids::from_seed([1; 32]);
    let account = Account::new(TelegramSession::default(), settings, ids, Tasks::new(), sink);
    account.is_now(Status::Ready);
    account.end("SESSION_REVOKED");
    // Those who were waiting for an answer hear of a lost connection, or had their answer.
    account.is_now(Status::Reconnecting("read 0 bytes".to_owned()));
    account.is_now(Status::Ready);
    account.end("AUTH_KEY_UNREGISTERED");
    assert_eq!(account.signed_out().as_deref(), Some("SESSION_REVOKED"));
    assert!(account.0.closed.is_cancelled());
}
