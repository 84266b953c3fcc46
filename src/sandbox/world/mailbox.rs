//! Messages and the update log of each account: per-account message ids, `pts`, and what a client missed
//! (<https://core.telegram.org/api/updates>). Each mailbox keeps its newest messages only.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::clock::Timestamp;

use super::AccountId;
use super::DeviceId;
use super::Event;
use super::Record;
use super::SERVICE_ACCOUNT;
use super::World;
use super::message::Content;
use super::message::EarlierMessage;
use super::message::Message;
use super::message::MessageKey;
use super::message::Packed;
use super::message::Place;
use super::message::Stored;

/// How many messages a mailbox keeps. Of older ones it knows nothing, and whoever asks for a difference from before
/// them is told that it is too long.
pub(super) const MAX_KEPT: usize = 100_000;

/// One account's messages by id, and what happened to them in the order of `pts`. An id in the log without a message was
/// deleted.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    messages: BTreeMap<i32, MessageKey>,
    log: BTreeMap<i32, i32>,
}

impl Mailbox {
    /// The deletions that the log still tells: message id and `pts`.
    pub(super) fn deleted(&self) -> impl Iterator<Item = (i32, i32)> {
        self.log.iter().filter(|(_, id)| !self.messages.contains_key(id)).map(|(pts, id)| (*id, *pts))
    }
}

/// Something that a client missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    New(Message),
    Edited(Message),
    /// The id of a message that is no more, and the `pts` of its end.
    Deleted(i32, i32),
}

/// What happened after a given `pts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) missed: Vec<Missed>,
    /// The `pts` after the last of them.
    pub(crate) pts: i32,
    /// Whether nothing more is to come.
    pub(crate) complete: bool,
}

/// Which messages of a chat are asked for (`messages.getHistory`). Zero stands for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HistoryQuery {
    pub(crate) offset_id: i32,
    /// Unix seconds.
    pub(crate) offset_date: i32,
    pub(crate) add_offset: i32,
    pub(crate) limit: usize,
    pub(crate) max_id: i32,
    pub(crate) min_id: i32,
}

impl World {
    /// Keeps so many messages in a mailbox from now on.
    #[cfg(test)]
    pub(crate) fn keep_at_most(&mut self, messages: usize) {
        self.max_kept = messages;
    }

    /// Puts a message from the service account into an account's mailbox.
    pub(super) fn deliver_from_service(&mut self, to: AccountId, text: String, now: Timestamp) {
        let Some(place) = self.next_place(to) else {
            return;
        };
        let stored = Stored {
            from: SERVICE_ACCOUNT,
            to,
            sent: None,
            received: Some(place),
            date: now,
            edited: None,
            random_id: None,
            content: Packed::new(&Content { text, ..Content::default() }),
        };
        self.add(stored, None);
    }

    /// Takes in a service message that an earlier sandbox kept.
    pub(super) fn put_earlier(&mut self, to: AccountId, earlier: EarlierMessage) {
        let place = Place { id: earlier.id, new: earlier.pts, pts: earlier.pts };
        let stored = Stored {
            from: SERVICE_ACCOUNT,
            to,
            sent: None,
            received: Some(place),
            date: earlier.date,
            edited: None,
            random_id: None,
            content: Packed::new(&Content { text: earlier.text, ..Content::default() }),
        };
        self.put(MessageKey(self.next_message), stored);
    }

    /// Keeps a new message and tells of it; the device that sent it knows.
    pub(super) fn add(&mut self, stored: Stored, device: Option<DeviceId>) -> MessageKey {
        let key = MessageKey(self.next_message);
        for (account, place) in stored.places() {
            let except = device.filter(|_| account == stored.from);
            self.events.push(Event::NewMessage { account, message: place.id, except });
        }
        self.records.push(Record::Message(key, stored.clone()));
        self.put(key, stored);
        key
    }

    /// The next free id and `pts` of an account.
    pub(super) fn next_place(&mut self, account: AccountId) -> Option<Place> {
        let account = self.accounts.get_mut(&account)?;
        account.pts += 1;
        let place = Place { id: account.next_message_id, new: account.pts, pts: account.pts };
        account.next_message_id += 1;
        Some(place)
    }

    /// Takes a message in, or in place of what it was before, and lets go of what is too old.
    pub(super) fn put(&mut self, key: MessageKey, stored: Stored) {
        if let Some(before) = self.messages.remove(&key) {
            for (account, place) in before.places() {
                self.take_out(account, place);
            }
        }
        self.next_message = self.next_message.max(key.0 + 1);
        let owners: Vec<AccountId> = stored.places().map(|(owner, _)| owner).collect();
        for (owner, place) in stored.places() {
            let mailbox = self.mailboxes.entry(owner).or_default();
            mailbox.messages.insert(place.id, key);
            mailbox.log.insert(place.new, place.id);
            mailbox.log.insert(place.pts, place.id);
            if let Some(account) = self.accounts.get_mut(&owner) {
                account.pts = account.pts.max(place.pts);
                account.next_message_id = account.next_message_id.max(place.id + 1);
            }
        }
        if let Some(random_id) = stored.random_id {
            self.random_ids.insert((stored.from, random_id), key);
        }
        self.messages.insert(key, stored);
        for owner in owners {
            self.let_go(owner);
        }
    }

    /// An account's copy of a message is no more; the log says so. `pts` is the account's after that.
    pub(super) fn remove(&mut self, account: AccountId, id: i32, pts: i32) {
        if let Some(key) = self.mailboxes.get(&account).and_then(|mailbox| mailbox.messages.get(&id)).copied()
        {
            self.drop_copy(account, key);
        }
        self.mailboxes.entry(account).or_default().log.insert(pts, id);
        if let Some(account) = self.accounts.get_mut(&account) {
            account.pts = account.pts.max(pts);
        }
    }

    fn take_out(&mut self, account: AccountId, place: Place) {
        if let Some(mailbox) = self.mailboxes.get_mut(&account) {
            mailbox.messages.remove(&place.id);
            mailbox.log.remove(&place.new);
            mailbox.log.remove(&place.pts);
        }
    }

    /// Takes one copy away, and the message with its last copy.
    fn drop_copy(&mut self, account: AccountId, key: MessageKey) -> Option<Place> {
        let stored = self.messages.get_mut(&key)?;
        let place = stored.place_mut(account).take()?;
        let (gone, random) = (stored.places().next().is_none(), stored.random_id.map(|id| (stored.from, id)));
        self.take_out(account, place);
        if gone {
            self.messages.remove(&key);
            if let Some(random) = random {
                self.random_ids.remove(&random);
            }
        }
        Some(place)
    }

    /// Drops the oldest messages of a full mailbox, and the oldest entries of an overlong log.
    fn let_go(&mut self, account: AccountId) {
        let mut floor = 0;
        while let Some(mailbox) = self.mailboxes.get_mut(&account) {
            if mailbox.messages.len() > self.max_kept {
                let Some(key) = mailbox.messages.first_key_value().map(|(_, key)| *key) else { break };
                let Some(place) = self.drop_copy(account, key) else { break };
                floor = floor.max(place.pts);
            } else if mailbox.log.len() > self.max_kept * 2 {
                floor = floor.max(mailbox.log.pop_first().map_or(0, |(pts, _)| pts));
            } else {
                break;
            }
        }
        if let Some(account) = self.accounts.get_mut(&account) {
            account.log_floor = account.log_floor.max(floor);
        }
    }

    /// An account's copy of a message.
    pub(super) fn stored(&self, account: AccountId, id: i32) -> Option<(MessageKey, &Stored)> {
        let key = *self.mailboxes.get(&account)?.messages.get(&id)?;
        self.messages.get(&key).map(|stored| (key, stored))
    }

    /// One message of an account.
    pub(crate) fn message(&self, account: AccountId, id: i32) -> Option<Message> {
        let (_, stored) = self.stored(account, id)?;
        self.seen(account, stored)
    }

    /// The copy that an account has of the message with this key.
    pub(super) fn copy_of(&self, account: AccountId, key: MessageKey) -> Option<i32> {
        self.messages.get(&key)?.place_of(account).map(|place| place.id)
    }

    fn seen(&self, account: AccountId, stored: &Stored) -> Option<Message> {
        let place = stored.place_of(account)?;
        let content = stored.content.unpack();
        Some(Message {
            id: place.id,
            chat: stored.chat_of(account),
            out: stored.from == account,
            date: stored.date,
            edited: stored.edited,
            reply_to: content.reply_to.and_then(|key| self.copy_of(account, key)),
            pts: place.pts,
            content,
        })
    }

    /// An account's messages with ids above `after`, oldest first.
    pub(crate) fn messages_after(&self, account: AccountId, after: i32) -> impl Iterator<Item = Message> {
        self.mailboxes
            .get(&account)
            .into_iter()
            .flat_map(move |mailbox| mailbox.messages.range(after.saturating_add(1)..))
            .filter_map(move |(_, key)| self.seen(account, self.messages.get(key)?))
    }

    /// Messages of one chat, newest first, and how many it has in all.
    pub(crate) fn history(
        &self,
        account: AccountId,
        chat: AccountId,
        query: HistoryQuery,
    ) -> (Vec<Message>, usize) {
        let Some(mailbox) = self.mailboxes.get(&account) else {
            return (vec![], 0);
        };
        let of_chat: Vec<(i32, &Stored)> = mailbox
            .messages
            .iter()
            .rev()
            .filter_map(|(id, key)| Some((*id, self.messages.get(key)?)))
            .filter(|(_, stored)| stored.chat_of(account) == chat)
            .collect();
        let from_offset = |(id, stored): &(i32, &Stored)| {
            (query.offset_id == 0 || *id < query.offset_id)
                && (query.offset_date == 0 || stored.date.as_secs() < i64::from(query.offset_date))
        };
        let position = of_chat.iter().position(from_offset).unwrap_or(of_chat.len());
        let shift = isize::try_from(query.add_offset).unwrap_or(0);
        let messages = of_chat
            .iter()
            .skip(position.saturating_add_signed(shift))
            .filter(|(id, _)| (query.max_id == 0 || *id < query.max_id) && *id > query.min_id)
            .take(query.limit)
            .filter_map(|(_, stored)| self.seen(account, stored))
            .collect();
        (messages, of_chat.len())
    }

    /// The newest message of each chat, newest first.
    pub(crate) fn newest_of_chats(&self, account: AccountId) -> Vec<Message> {
        let mut chats = BTreeSet::new();
        let mailbox = self.mailboxes.get(&account).into_iter();
        let newest = mailbox.flat_map(|mailbox| mailbox.messages.values().rev());
        newest
            .filter_map(|key| self.messages.get(key))
            .filter(|stored| chats.insert(stored.chat_of(account)))
            .filter_map(|stored| self.seen(account, stored))
            .collect()
    }

    /// What the account's devices missed since `pts`, at most `slice` updates of it; `None` when that is not known any
    /// more. What came and was changed since comes once, in its newest form.
    pub(crate) fn difference(&self, account: AccountId, pts: i32, slice: usize) -> Option<Difference> {
        let (current, floor) =
            self.accounts.get(&account).map_or((pts, 0), |account| (account.pts, account.log_floor));
        if pts < floor {
            return None;
        }
        let mut missed = self
            .mailboxes
            .get(&account)
            .into_iter()
            .flat_map(|mailbox| mailbox.log.range(pts.saturating_add(1)..))
            .filter_map(|(at, id)| Some((*at, self.missed(account, *id, *at, pts)?)));
        let slice = slice.max(1);
        let taken: Vec<(i32, Missed)> = missed.by_ref().take(slice).collect();
        let complete = missed.next().is_none();
        let pts = match taken.last() {
            Some((at, _)) if !complete => *at,
            Some(_) | None => current,
        };
        Some(Difference { missed: taken.into_iter().map(|(_, missed)| missed).collect(), pts, complete })
    }

    /// What the log's entry at `at` means to a client that stands at `pts`.
    fn missed(&self, account: AccountId, id: i32, at: i32, pts: i32) -> Option<Missed> {
        let Some((_, stored)) = self.stored(account, id) else {
            return Some(Missed::Deleted(id, at));
        };
        let place = stored.place_of(account)?;
        let message = self.seen(account, stored)?;
        if at == place.new {
            Some(Missed::New(message))
        } else {
            (place.new <= pts).then_some(Missed::Edited(message))
        }
    }
}
