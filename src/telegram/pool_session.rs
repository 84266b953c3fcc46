//! The session as the pool of one connection sees it: grammers' `Session`. Here is seen when a connection is dialled, and
//! from then until Telegram knows when to close it the session is exposed (see `tether`). What is known of the session is
//! `session`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grammers_session::types::{DcOption, PeerId, PeerInfo, UpdateState, UpdatesState};
use grammers_session::{BoxFuture, Session};

use super::session::LiveSession;
use super::session::Refusal;
use crate::domain::account::UpdatePosition;
use crate::vault::Exposure;

#[derive(Debug)]
pub(super) struct PoolSession {
    session: Arc<LiveSession>,
    dials: AtomicU64,
    /// After which dialling Telegram was last told when to close the connection.
    tied: AtomicU64,
    exposure: Mutex<Option<Exposure>>,
}

impl PoolSession {
    pub(super) fn new(session: Arc<LiveSession>) -> Self {
        Self { session, dials: AtomicU64::new(0), tied: AtomicU64::new(u64::MAX), exposure: Mutex::default() }
    }

    pub(super) fn live(&self) -> &LiveSession {
        &self.session
    }

    /// A number that is another one after each dialling has begun; 0 before the first.
    pub(super) fn dials(&self) -> u64 {
        self.dials.load(Ordering::SeqCst)
    }

    /// Whether Telegram has been told when to close the connection that was last dialled.
    pub(super) fn is_tied(&self) -> bool {
        self.tied.load(Ordering::SeqCst) == self.dials()
    }

    /// Telegram knows when to close the connection, if it is still that of this [`PoolSession::dials`].
    pub(super) fn mark_tied(&self, dial: u64) {
        let mut exposure = self.exposure();
        if dial == self.dials() {
            self.tied.store(dial, Ordering::SeqCst);
            *exposure = None;
        }
    }

    /// There is no connection any more.
    pub(super) fn mark_closed(&self) {
        *self.exposure() = None;
    }

    /// Notes that a connection is about to be made, which must not outlast the lease.
    fn dial(&self) -> Result<(), Refusal> {
        let mut exposure = self.exposure();
        if let Some(lease) = self.session.lease() {
            *exposure = Some(lease.expose().ok_or(Refusal::NotOwned)?);
        }
        self.dials.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn exposure(&self) -> MutexGuard<'_, Option<Exposure>> {
        self.exposure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

// The futures never wait: grammers loses updates when it is cancelled while it waits for its session.
impl Session for PoolSession {
    type Error = Refusal;

    fn home_dc_id(&self) -> Result<i32, Refusal> {
        Ok(self.session.home_dc())
    }

    fn set_home_dc_id(&self, dc: i32) -> BoxFuture<'_, Result<(), Refusal>> {
        self.session.set_home_dc(dc);
        ready(Ok(()))
    }

    /// Asked for when a connection is about to be dialled, and while it is.
    fn dc_option(&self, dc: i32) -> Result<Option<DcOption>, Refusal> {
        self.dial()?;
        Ok(self.session.dc_option(dc))
    }

    fn set_dc_option(&self, option: &DcOption) -> BoxFuture<'_, Result<(), Refusal>> {
        // grammers writes back where it has just dialled.
        self.session.note_dialled();
        ready(self.session.set_dc_option(option))
    }

    fn peer(&self, id: PeerId) -> BoxFuture<'_, Result<Option<PeerInfo>, Refusal>> {
        ready(Ok(self.session.peer(id)))
    }

    /// Who is worth remembering is decided where messages are read.
    fn cache_peer(&self, _: PeerInfo) -> BoxFuture<'_, Result<(), Refusal>> {
        ready(Ok(()))
    }

    fn updates_state(&self) -> BoxFuture<'_, Result<UpdatesState, Refusal>> {
        let UpdatePosition { pts, qts, date, seq } = self.session.updates();
        ready(Ok(UpdatesState { pts, qts, date, seq, channels: Vec::new() }))
    }

    fn set_update_state(&self, update: UpdateState) -> BoxFuture<'_, Result<(), Refusal>> {
        let position = self.session.updates();
        self.session.set_updates(match update {
            UpdateState::All(UpdatesState { pts, qts, date, seq, .. }) => {
                UpdatePosition { pts, qts, date, seq }
            }
            UpdateState::Primary { pts, date, seq } => UpdatePosition { pts, date, seq, ..position },
            UpdateState::Secondary { qts } => UpdatePosition { qts, ..position },
            // Channels are none of our business: no prompt lives in one.
            UpdateState::Channel { .. } => position,
        });
        ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use grammers_session::types::PeerAuth;

    use super::*;
    use crate::domain::account::AccountUser;
    use crate::domain::account::TelegramSession;
    use crate::telegram::Network;

    fn session() -> PoolSession {
        PoolSession::new(Arc::new(LiveSession::new(TelegramSession::default(), Network::telegram())))
    }

    #[test]
    fn trap_9_no_future_of_the_session_ever_waits() {
        let session = session();
        let user = AccountUser {
            id: 42,
            access_hash: 7,
            name: String::new(),
            username: None,
            phone: None,
            bot: false,
        };
        session.live().set_user(user);
        session.live().remember(5, 6);
        let peer = PeerInfo::User { id: 5, auth: Some(PeerAuth::from_hash(6)), bot: None, is_self: None };
        assert!(session.cache_peer(peer).now_or_never().is_some());
        assert!(session.peer(PeerId::user(5).unwrap()).now_or_never().unwrap().unwrap().is_some());
        assert!(session.updates_state().now_or_never().is_some());
        assert!(session.set_update_state(UpdateState::Secondary { qts: 3 }).now_or_never().is_some());
        let option = session.dc_option(2).unwrap().unwrap();
        assert!(session.set_dc_option(&option).now_or_never().is_some());
        assert!(session.set_home_dc_id(4).now_or_never().is_some());
        assert_eq!(session.live().snapshot().updates.qts, 3);
    }

    #[test]
    fn what_was_said_of_one_connection_does_not_count_for_the_next() {
        let session = session();
        assert!(!session.is_tied());
        session.dc_option(2).unwrap();
        let first = session.dials();
        session.mark_tied(first);
        assert!(session.is_tied());
        session.dc_option(2).unwrap();
        assert!(!session.is_tied());
        session.mark_tied(first);
        assert!(!session.is_tied());
    }
}
