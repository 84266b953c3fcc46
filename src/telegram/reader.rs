//! Reading an account's updates: batch by batch to whoever takes them durably, and only then onwards. A crash, a cut or
//! a failing store repeats a batch and never loses one. How it is handed over is `offering`'s business, what an update
//! means `update`'s.

use std::sync::PoisonError;
use std::time::Duration;

use grammers_mtsender::{InvocationError, UpdatesConfiguration, UpdatesReceiver};
use grammers_tl_types as tl;

use super::account::Account;
use super::connection::UpdatesEnd;
use super::conversation::AccountEvent;
use super::conversation::Peer;
use super::errors::PositionRefused;
use super::errors::TelegramError;
use super::errors::from_invocation;
use super::errors::position_refused;
use super::gathering::gather;
use super::offering::LONGEST_PAUSE;
use super::update;
use super::watchdog::Waiting;
use crate::domain::account::AccountUser;
use crate::domain::account::UpdatePosition;
use crate::lifecycle::network_sleep;

/// How often it is asked who has written, before their message is taken without that.
const MOST_QUESTIONS: u32 = 6;
/// How often Telegram may say that it cannot tell yet what has happened.
const MOST_OUTDATED: u32 = 60;

impl Account {
    /// Reads until the connection fails, and says why. `renamed`: who Telegram says is signed in, where that is not
    /// yet told.
    pub(super) async fn read_updates(&self, end: UpdatesEnd, renamed: Option<AccountUser>) -> TelegramError {
        if let Some(user) = renamed {
            self.offer(vec![AccountEvent::Renamed { username: user.username.clone() }]).await;
            self.live_session().set_user(user);
        }
        let configuration = UpdatesConfiguration { catch_up: true };
        let receiver = UpdatesReceiver::create(end.handle, end.session, end.updates, configuration).await;
        let mut receiver = match receiver {
            Ok(receiver) => receiver,
            Err(error) => return TelegramError::Unexpected(error.to_string()),
        };
        let (mut outdated, mut failed) = (0, None);
        loop {
            let next = match failed.take() {
                Some(error) => Err(error),
                None => receiver.next().await,
            };
            match next {
                Ok((mut updates, mut users, _chats)) => {
                    outdated = 0;
                    failed = gather(&mut receiver, &mut updates, &mut users);
                    let (before, empty) = (self.live_session().updates(), updates.is_empty());
                    let updates = updates.into_iter().map(|(update, _)| update).collect();
                    if let Err(error) = self.take_in(updates, users).await {
                        return error;
                    }
                    // Only now, and for the whole batch: each of its updates carries the position of the last.
                    if let Err(error) = receiver.sync_update_state().await {
                        return TelegramError::Unexpected(error.to_string());
                    }
                    let now = self.live_session().updates();
                    if empty && let Err(error) = self.make_up_for(before, now).await {
                        return error;
                    }
                }
                Err(error) => match position_refused(&error) {
                    Some(PositionRefused::NotYet) if outdated < MOST_OUTDATED => {
                        outdated += 1;
                        tracing::warn!(%error, "Telegram cannot tell yet what has happened");
                        self.wait_out((self.settings().back_off.0 * outdated).min(LONGEST_PAUSE)).await;
                    }
                    Some(_) => return self.give_up_position(&error).await,
                    None => {
                        let error = from_invocation(error, true);
                        let TelegramError::FloodWait(wait) = error else {
                            return error;
                        };
                        self.wait_out(wait).await;
                    }
                },
            }
        }
    }

    /// Where Telegram has too much to tell, it says where we stand now and leaves out what happened: that is read again
    /// before the position moves.
    async fn make_up_for(&self, before: UpdatePosition, now: UpdatePosition) -> Result<(), TelegramError> {
        let skipped = skipped(before.pts, now.pts);
        if skipped == 0 {
            return Ok(());
        }
        metrics::counter!("connector_updates_skipped_total").increment(skipped);
        tracing::warn!(account = self.id(), skipped, "Telegram has too much to tell, and left it out");
        self.live_session().set_updates(before);
        self.reread(before.date).await?;
        self.live_session().set_updates(now);
        Ok(())
    }

    /// Forgets where the updates were, so that the next connection begins where Telegram is now (`updates.getState`).
    /// With a position that Telegram refuses nothing would ever come again.
    async fn give_up_position(&self, error: &InvocationError) -> TelegramError {
        let lost = self.live_session().updates();
        tracing::error!(
            account = self.id(), %error, pts = lost.pts, date = lost.date,
            "Telegram refuses the update position"
        );
        if let Err(error) = self.reread(lost.date).await {
            return error;
        }
        self.live_session().set_updates(UpdatePosition::default());
        TelegramError::Unreachable("the update position was refused".to_owned())
    }

    /// Waits without being taken for dead.
    async fn wait_out(&self, wait: Duration) {
        let _waiting = Waiting::new(&self.0.waiting);
        network_sleep(wait).await;
    }

    /// Takes in one batch; returns when its events are taken.
    pub(super) async fn take_in(
        &self,
        updates: Vec<tl::enums::Update>,
        users: Vec<tl::enums::User>,
    ) -> Result<(), TelegramError> {
        let me = self.user().ok_or_else(|| TelegramError::Unexpected("updates of nobody".to_owned()))?;
        let mut username = me.username.clone();
        let myself = users.iter().find(|user| user.id() == me.id && !is_min(user));
        if let Some(myself) = myself.cloned().and_then(update::peer) {
            username = myself.username;
        }
        self.meet(users);
        self.learn_who_writes(&updates).await?;
        let known = |id| self.peer(id);
        let mut events: Vec<AccountEvent> =
            updates.into_iter().filter_map(|update| update::event(update, me.id, known)).collect();
        // Told once, however often and in whichever way it is said.
        events.retain(|event| {
            if let AccountEvent::Renamed { username: said } = event {
                username.clone_from(said);
                return false;
            }
            true
        });
        let renamed = username != me.username;
        if renamed {
            events.push(AccountEvent::Renamed { username: username.clone() });
        }
        if events.is_empty() {
            return Ok(());
        }
        let writers: Vec<(i64, i64)> = events.iter().filter_map(writer).collect();
        self.offer(events).await;
        for (id, access_hash) in writers {
            self.live_session().remember(id, access_hash);
        }
        if renamed {
            self.live_session().set_user(AccountUser { username, ..me });
        }
        Ok(())
    }

    fn meet(&self, users: Vec<tl::enums::User>) {
        let mut people = self.0.people.lock().unwrap_or_else(PoisonError::into_inner);
        users.into_iter().filter_map(update::peer).for_each(|peer| people.meet(peer));
    }

    /// What is known of somebody.
    fn peer(&self, id: i64) -> Peer {
        let remembered = || self.live_session().access_hash(id).unwrap_or(0);
        let people = self.0.people.lock().unwrap_or_else(PoisonError::into_inner);
        match people.get(id) {
            Some(peer) if peer.access_hash == 0 => Peer { access_hash: remembered(), ..peer.clone() },
            Some(peer) => peer.clone(),
            None => Peer::stranger(id, remembered()),
        }
    }

    /// The access hash of somebody this account has lately heard of.
    pub(super) fn access_hash(&self, id: i64) -> Option<i64> {
        Some(self.peer(id).access_hash).filter(|hash| *hash != 0)
    }

    /// Whether somebody's name is not known, or could not be written to.
    fn is_stranger(&self, id: i64) -> bool {
        let named = self.0.people.lock().unwrap_or_else(PoisonError::into_inner).get(id).is_some();
        !named || (!self.live_session().is_bot() && self.access_hash(id).is_none())
    }

    /// A short update (TL `updateShortMessage`) does not say who its author is, beyond an id: the difference from where
    /// we are brings the same message with its author. Asks until the author can be answered, but not for ever.
    async fn learn_who_writes(&self, updates: &[tl::enums::Update]) -> Result<(), TelegramError> {
        let (mut pause, _) = self.settings().back_off;
        for asked in 0.. {
            if !updates.iter().filter_map(update::author).any(|author| self.is_stranger(author)) {
                return Ok(());
            }
            if asked == MOST_QUESTIONS {
                break;
            }
            if asked > 0 {
                self.wait_out(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            match self.ask_who_writes().await {
                // A bot needs no more than the id to answer.
                Ok(()) if self.live_session().is_bot() => return Ok(()),
                Ok(()) => {}
                Err(error @ (TelegramError::Unreachable(_) | TelegramError::SignedOut(_))) => {
                    return Err(error);
                }
                Err(TelegramError::FloodWait(wait)) => {
                    tracing::warn!(wait_s = wait.as_secs(), "who has written is asked after the flood");
                    self.wait_out(wait).await;
                }
                Err(error) => tracing::warn!(%error, "the author of a message is not known yet"),
            }
        }
        tracing::error!(account = self.id(), "the author of a message stays unknown and may not be answered");
        Ok(())
    }

    async fn ask_who_writes(&self) -> Result<(), TelegramError> {
        let position = self.live_session().updates();
        let request = tl::functions::updates::GetDifference {
            pts: position.pts,
            pts_limit: None,
            pts_total_limit: None,
            date: position.date.max(1),
            qts: position.qts,
            qts_limit: None,
        };
        match self.invoke(&request).await? {
            tl::enums::updates::Difference::Difference(difference) => self.meet(difference.users),
            tl::enums::updates::Difference::Slice(difference) => self.meet(difference.users),
            tl::enums::updates::Difference::Empty(_) | tl::enums::updates::Difference::TooLong(_) => {}
        }
        Ok(())
    }
}

/// How far the position has moved. A batch without updates does not move it, but for `updates.differenceTooLong`.
fn skipped(before: i32, now: i32) -> u64 {
    // The first position is not a move.
    if before == 0 { 0 } else { u64::try_from(i64::from(now) - i64::from(before)).unwrap_or(0) }
}

fn is_min(user: &tl::enums::User) -> bool {
    matches!(user, tl::enums::User::User(user) if user.min)
}

/// Who wrote to us, and how to write back.
fn writer(event: &AccountEvent) -> Option<(i64, i64)> {
    match event {
        AccountEvent::Message { from, .. } => Some((from.id, from.access_hash)),
        AccountEvent::Sent { .. } | AccountEvent::Tap { .. } | AccountEvent::Renamed { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_move_onwards_from_a_known_position_skips_anything() {
        use super::skipped;
        assert_eq!([skipped(0, 9), skipped(9, 9), skipped(9, 7), skipped(7, 9)], [0, 0, 0, 2]);
        assert_eq!(skipped(i32::MIN, i32::MAX), u64::from(u32::MAX));
    }

    #[cfg(feature = "sandbox")]
    mod with_a_sandbox {
        use std::sync::Arc;

        use futures_util::FutureExt as _;
        use serde_json::json;
        use tl::{Deserializable as _, Serializable as _};

        use super::super::*;
        use crate::domain::account::TelegramSession;
        use crate::domain::ids::Ids;
        use crate::domain::ids::Secret;
        use crate::domain::login::Phone;
        use crate::lifecycle::OffsetClock;
        use crate::lifecycle::Tasks;
        use crate::lifecycle::os_seed;
        use crate::sandbox::NewPerson;
        use crate::sandbox::Sandbox;
        use crate::telegram::Network;
        use crate::telegram::Settings;
        use crate::telegram::sign_in;

        async fn post(sandbox: &Sandbox, path: &str, body: serde_json::Value) -> serde_json::Value {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let url = format!("http://{}{path}", sandbox.control_address());
            let answer = client.post(url).json(&body).send().await.unwrap();
            answer.error_for_status().unwrap().json().await.unwrap()
        }

        /// A message as `updateShortMessage` brings it: with its author's id, and nothing more of them.
        fn short(author: i64, text: &str) -> tl::enums::Update {
            let mut bytes = vec![0; 8];
            1_i32.serialize(&mut bytes);
            tl::enums::Peer::User(tl::types::PeerUser { user_id: author }).serialize(&mut bytes);
            1_700_000_000_i32.serialize(&mut bytes);
            text.to_owned().serialize(&mut bytes);
            let message = tl::types::Message::from_bytes(&bytes).unwrap();
            tl::types::UpdateNewMessage { message: message.into(), pts: 1, pts_count: 1 }.into()
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn the_author_of_a_short_update_is_learnt_from_the_difference() {
            let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
            let ids = Ids::from_seed(os_seed().unwrap());
            let place =
                crate::sandbox::Settings::new(folder.path().to_owned(), "127.0.0.1:0".parse().unwrap());
            let sandbox = Sandbox::start(place, OffsetClock::default(), ids.clone(), &tasks).await.unwrap();
            let person = |phone: &str, name: &str| NewPerson {
                phone: phone.to_owned(),
                first_name: name.to_owned(),
                ..NewPerson::default()
            };
            sandbox.add_person(person("+15550100001", "Alice")).unwrap();
            let bob = sandbox.add_person(person("+15550100002", "Bob")).unwrap().id;
            let carol = sandbox.add_person(person("+15550100003", "Carol")).unwrap().id;
            let joined = sandbox.network();
            let network = Network::other(joined.dcs.into_iter().collect(), &joined.rsa_public_key).unwrap();
            let settings = Settings {
                back_off: (Duration::from_millis(1), Duration::from_millis(8)),
                ..Settings::new(1, Secret::new("hash".to_owned()), network)
            };
            let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
            let sink: crate::telegram::EventSink = {
                let taken = Arc::clone(&taken);
                Arc::new(move |_, events| {
                    taken.lock().unwrap().extend(events);
                    std::future::ready(true).boxed()
                })
            };
            let alice = Account::new(TelegramSession::default(), settings, ids, tasks.clone(), sink);
            post(&sandbox, "/api/faults", json!({ "sent_code": { "type": "success", "times": 1 } })).await;
            let phone = Phone::parse("+15550100001").unwrap();
            assert!(matches!(sign_in::send_code(&alice, &phone).await, Ok(sign_in::SentBy::Nothing)));

            let sent = json!({ "to": "+15550100001", "text": "hello" });
            post(&sandbox, "/api/accounts/+15550100002/send", sent).await;
            alice.take_in(vec![short(bob, "hello")], Vec::new()).await.unwrap();
            // What stands in the way is waited out.
            for error in ["FLOOD_WAIT_1", "SOMETHING"] {
                let fault = json!({ "method": "updates.getDifference", "error": error, "times": 1 });
                post(&sandbox, "/api/faults", fault).await;
            }
            let sent = json!({ "to": "+15550100001", "text": "hi" });
            post(&sandbox, "/api/accounts/+15550100003/send", sent).await;
            alice.take_in(vec![short(carol, "hi")], Vec::new()).await.unwrap();
            let AccountEvent::Message { from, .. } = taken.lock().unwrap().remove(1) else { panic!() };
            assert_eq!((from.name.as_str(), from.access_hash != 0), ("Carol", true));
            // Nobody knows this one: after some questions the message is taken as it is.
            alice.take_in(vec![short(carol + 1_000_000, "who?")], Vec::new()).await.unwrap();
            let AccountEvent::Message { from, .. } = taken.lock().unwrap().remove(1) else { panic!() };
            assert_eq!((from.name.as_str(), from.access_hash), ("", 0));
            // Once known, nobody is asked for again, and the last one can be written to.
            alice.close().await;
            alice.take_in(vec![short(bob, "hello again")], Vec::new()).await.unwrap();
            let events = taken.lock().unwrap().clone();
            assert_eq!(events.len(), 2);
            for event in events {
                let AccountEvent::Message { from, .. } = event else { panic!("{event:?}") };
                assert_eq!((from.id, from.name.as_str()), (bob, "Bob"));
                assert!(from.access_hash != 0);
            }
            assert!(alice.live_session().access_hash(bob).is_some(), "it is remembered");
            // Without anybody to ask, a stranger's message is not taken in: it will come again.
            assert!(alice.take_in(vec![short(carol + 2_000_000, "hello")], Vec::new()).await.is_err());
            assert_eq!(taken.lock().unwrap().len(), 2);
            assert!(tasks.finish(Duration::from_secs(5)).await);
        }
    }
}
