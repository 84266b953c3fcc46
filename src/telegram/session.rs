//! The session in use, in memory, with what grammers' own storages get wrong put right: the self user is found,
//! a key is never replaced, and changes are announced so that they can be saved. Snapshots are `TelegramSession`s. How
//! grammers sees it is in `pool_session`.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use grammers_session::types::{DcOption, PeerAuth, PeerId, PeerInfo};
use tokio::sync::Notify;
use tokio::sync::watch;

use super::network::Network;
use crate::domain::account::AccountUser;
use crate::domain::account::AuthKey;
use crate::domain::account::KnownPeer;
use crate::domain::account::TelegramSession;
use crate::domain::account::UpdatePosition;
use crate::vault::Lease;

/// Peers kept at most; those who have not written for longest give way.
const MOST_PEERS: usize = 300;

/// A session in use.
#[derive(Debug)]
pub(super) struct LiveSession {
    data: Mutex<TelegramSession>,
    network: Network,
    changes: watch::Sender<Changes>,
    /// Under which it may be used; `None`: nobody else can have it.
    lease: OnceLock<Lease>,
    dialled: Notify,
}

/// How often the parts of a session have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Keys, home data centre, user: to be saved before anything is answered.
    pub(super) login: u64,
    /// Update position and peers: an old one costs a repetition, so it may be saved later.
    pub(super) progress: u64,
}

/// What the session does not let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// grammers answers an unknown key (transport error 404) with a new one, which would lose the login.
    #[error("the data centre no longer knows the stored key, which is not replaced")]
    KeyReplaced,
    /// Nothing dials with a session whose lease is not held.
    #[error("this process does not hold the session's lease now")]
    NotOwned,
}

impl LiveSession {
    pub(super) fn new(mut data: TelegramSession, network: Network) -> Self {
        data.peers.drain(..data.peers.len().saturating_sub(MOST_PEERS));
        Self {
            data: Mutex::new(data),
            network,
            changes: watch::Sender::default(),
            lease: OnceLock::new(),
            dialled: Notify::new(),
        }
    }

    /// From here on it is used only under this lease.
    pub(super) fn bind(&self, lease: Option<&Lease>) {
        if let Some(lease) = lease {
            // The first one stays: a session has one lease.
            drop(self.lease.set(lease.clone()));
        }
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.get()
    }

    /// A connection has been made.
    pub(super) fn note_dialled(&self) {
        self.dialled.notify_one();
    }

    /// Resolves when a connection has been made since it last did.
    pub(super) async fn dialled(&self) {
        self.dialled.notified().await;
    }

    /// The session as it is now.
    pub(super) fn snapshot(&self) -> TelegramSession {
        self.data().clone()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    pub(super) const fn network(&self) -> &Network {
        &self.network
    }

    pub(super) fn home_dc(&self) -> i32 {
        self.data().home_dc
    }

    pub(super) fn has_key(&self, dc: i32) -> bool {
        self.data().data_centres.get(&dc).is_some_and(|centre| centre.auth_key.is_some())
    }

    /// Moves the account to another data centre, as a 303 demands.
    pub(super) fn set_home_dc(&self, dc: i32) {
        let mut data = self.data();
        if data.home_dc != dc {
            data.home_dc = dc;
            drop(data);
            self.announce_login();
        }
    }

    /// Remembers the key that our own key exchange negotiated.
    pub(super) fn set_key(&self, dc: i32, key: AuthKey) -> Result<(), Refusal> {
        self.update_centre(dc, Some(key), None)
    }

    /// Records who is signed in.
    pub(super) fn set_user(&self, user: AccountUser) {
        let mut data = self.data();
        if data.user.as_ref() != Some(&user) {
            data.user = Some(user);
            drop(data);
            self.announce_login();
        }
    }

    /// Who is signed in.
    pub(super) fn user(&self) -> Option<AccountUser> {
        self.data().user.clone()
    }

    pub(super) fn has_user(&self) -> bool {
        self.data().user.is_some()
    }

    pub(super) fn is_bot(&self) -> bool {
        self.data().user.as_ref().is_some_and(|user| user.bot)
    }

    /// Remembers how to write to somebody, who has just written. A bot needs no access hash for that, and may hear of
    /// a million people.
    pub(super) fn remember(&self, id: i64, access_hash: i64) {
        let mut data = self.data();
        let needless = data.user.as_ref().is_none_or(|user| user.bot || user.id == id);
        if needless || access_hash == 0 {
            return;
        }
        let peer = KnownPeer { id, access_hash };
        if data.peers.last() == Some(&peer) {
            return;
        }
        data.peers.retain(|known| known.id != id);
        if data.peers.len() >= MOST_PEERS {
            data.peers.remove(0);
        }
        data.peers.push(peer);
        drop(data);
        self.announce_progress();
    }

    /// How to write to somebody who has written.
    pub(super) fn access_hash(&self, id: i64) -> Option<i64> {
        self.data().peers.iter().find(|peer| peer.id == id).map(|peer| peer.access_hash)
    }

    pub(super) fn updates(&self) -> UpdatePosition {
        self.data().updates
    }

    pub(super) fn set_updates(&self, position: UpdatePosition) {
        let mut data = self.data();
        if data.updates != position {
            data.updates = position;
            drop(data);
            self.announce_progress();
        }
    }

    /// Where a data centre is, with the key that is known for it.
    pub(super) fn dc_option(&self, dc: i32) -> Option<DcOption> {
        let data = self.data();
        let centre = data.data_centres.get(&dc);
        let option = self.network.dc_option(dc, centre.and_then(|centre| centre.address));
        let auth_key = centre.and_then(|centre| centre.auth_key.as_ref()).map(|key| *key.bytes());
        option.map(|option| DcOption { auth_key, ..option })
    }

    /// Remembers where a data centre is, and its key if there is none yet.
    pub(super) fn set_dc_option(&self, option: &DcOption) -> Result<(), Refusal> {
        self.update_centre(option.id, option.auth_key.map(AuthKey::new), Some(option.ipv4))
    }

    /// Oneself, or somebody who has written.
    pub(super) fn peer(&self, id: PeerId) -> Option<PeerInfo> {
        let data = self.data();
        let user = data.user.as_ref();
        if id == PeerId::self_user() || user.and_then(|user| PeerId::user(user.id)) == Some(id) {
            return user.map(|user| PeerInfo::User {
                id: user.id,
                auth: Some(PeerAuth::from_hash(user.access_hash)),
                bot: Some(user.bot),
                is_self: Some(true),
            });
        }
        data.peers.iter().find(|peer| PeerId::user(peer.id) == Some(id)).map(|peer| PeerInfo::User {
            id: peer.id,
            auth: Some(PeerAuth::from_hash(peer.access_hash)),
            bot: None,
            is_self: Some(false),
        })
    }

    fn update_centre(
        &self,
        dc: i32,
        key: Option<AuthKey>,
        address: Option<std::net::SocketAddrV4>,
    ) -> Result<(), Refusal> {
        let mut data = self.data();
        let empty = crate::domain::account::DataCentre { address: None, auth_key: None };
        let centre = data.data_centres.entry(dc).or_insert(empty);
        let before = centre.clone();
        if let Some(key) = key {
            if centre.auth_key.as_ref().is_some_and(|known| *known != key) {
                return Err(Refusal::KeyReplaced);
            }
            centre.auth_key = Some(key);
        }
        centre.address = address.or(centre.address);
        if *centre != before {
            drop(data);
            self.announce_login();
        }
        Ok(())
    }

    fn data(&self) -> MutexGuard<'_, TelegramSession> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce_login(&self) {
        self.changes.send_modify(|changes| changes.login += 1);
    }

    fn announce_progress(&self) {
        self.changes.send_modify(|changes| changes.progress += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> LiveSession {
        let user = AccountUser {
            id: 42,
            access_hash: 7,
            name: "Alice".to_owned(),
            username: None,
            phone: None,
            bot: false,
        };
        LiveSession::new(
            TelegramSession { user: Some(user), ..TelegramSession::default() },
            Network::telegram(),
        )
    }

    #[test]
    fn trap_1_the_self_user_is_found_by_its_sentinel_and_by_its_id() {
        let session = session();
        for id in [PeerId::self_user(), PeerId::user(42).unwrap()] {
            let peer = session.peer(id);
            assert!(matches!(peer, Some(PeerInfo::User { id: 42, is_self: Some(true), .. })));
        }
    }

    #[test]
    fn trap_8_a_key_is_set_once_and_never_replaced() {
        let session = session();
        let option = |key: u8| DcOption { auth_key: Some([key; 256]), ..session.dc_option(2).unwrap() };
        session.set_dc_option(&option(1)).unwrap();
        session.set_dc_option(&option(1)).unwrap();
        assert_eq!(session.set_dc_option(&option(2)), Err(Refusal::KeyReplaced));
        assert_eq!(session.snapshot().home_key().unwrap().bytes(), &[1; 256]);
        let without = DcOption { auth_key: None, ..option(1) };
        session.set_dc_option(&without).unwrap();
        assert!(session.has_key(2), "an option without a key takes none away");
    }

    #[test]
    fn what_must_be_saved_at_once_is_told_apart_from_progress() {
        let session = session();
        let changes = session.changes();
        session.set_updates(UpdatePosition { pts: 9, ..UpdatePosition::default() });
        assert_eq!(*changes.borrow(), Changes { login: 0, progress: 1 });
        session.set_home_dc(5);
        session.set_home_dc(5);
        assert_eq!(*changes.borrow(), Changes { login: 1, progress: 1 });
    }

    #[test]
    fn those_who_have_not_written_for_longest_give_way() {
        let session = session();
        session.remember(42, 7);
        assert_eq!(session.snapshot().peers, Vec::new(), "oneself is not a peer");
        let last = i64::try_from(MOST_PEERS).unwrap() + 102;
        for id in 102..last {
            session.remember(id, 1);
        }
        session.remember(102, 2);
        session.remember(last, 1);
        let peers = session.snapshot().peers;
        assert_eq!((peers.len(), peers[0].id), (MOST_PEERS, 104));
        assert_eq!((session.access_hash(102), session.access_hash(103)), (Some(2), None));

        // What an earlier version left is cut down too.
        let peers = (0..2_000).map(|id| KnownPeer { id, access_hash: 1 }).collect();
        let session = LiveSession::new(TelegramSession { peers, ..session.snapshot() }, Network::telegram());
        assert_eq!(session.snapshot().peers.len(), MOST_PEERS);
    }

    #[test]
    fn a_bot_remembers_nobody() {
        let session = session();
        let bot = AccountUser { bot: true, ..session.user().unwrap() };
        session.set_user(bot);
        session.remember(5, 6);
        assert_eq!(session.snapshot().peers, Vec::new());
    }
}
