//! Who consumed a session may ask once more, with the same `Idempotency-Key`, and gets the same answer for a while.

use sha2::{Digest, Sha256};

use crate::domain::auth_session::AuthSession;
use crate::domain::auth_session::REPEAT;
use crate::domain::auth_session::State;
use crate::domain::clock::Timestamp;
use crate::domain::project::Project;

/// When a session was consumed.
pub(super) const fn used_at(session: &AuthSession) -> Option<Timestamp> {
    match &session.state {
        State::Used { at, .. } => Some(*at),
        State::Pending | State::Confirmed { .. } | State::Cancelled { .. } | State::Expired { .. } => None,
    }
}

/// When the session was consumed, if that was just now and with the same `Idempotency-Key`.
pub(super) fn repeats(session: &AuthSession, receipt: Option<&str>, now: Timestamp) -> Option<Timestamp> {
    match &session.state {
        State::Used { at, receipt: Some(kept), .. } if !session.forgotten => {
            (receipt == Some(kept.as_str()) && now < at.plus(REPEAT)).then_some(*at)
        }
        State::Used { .. }
        | State::Pending
        | State::Confirmed { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => None,
    }
}

/// What is kept of an `Idempotency-Key`.
pub(super) fn receipt(project: &Project, key: &str) -> String {
    use base64::Engine as _;
    let digest = Sha256::new_with_prefix(project.id.as_str()).chain_update([0]).chain_update(key).finalize();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest)
}
