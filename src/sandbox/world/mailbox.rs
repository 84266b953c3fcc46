//! Messages and the update log of each account: per-account message ids, `pts`, and what a client missed
//! (<https://core.telegram.org/api/updates>).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::clock::Timestamp;

use super::AccountId;
use super::Event;
use super::Record;
use super::SERVICE_ACCOUNT;
use super::World;

/// One account's copy of a message. Ids count per account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Message {
    #[serde(rename = "i")]
    pub(crate) id: i32,
    /// The other side of the conversation.
    #[serde(rename = "c")]
    pub(crate) chat: AccountId,
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) out: bool,
    #[serde(rename = "t")]
    pub(crate) text: String,
    #[serde(rename = "d")]
    pub(crate) date: Timestamp,
    /// The account's `pts` after this message.
    #[serde(rename = "p")]
    pub(crate) pts: i32,
}

/// One account's messages by id, and the same in the order of `pts`.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    messages: BTreeMap<i32, Message>,
    log: BTreeMap<i32, i32>,
}

impl Mailbox {
    pub(super) fn insert(&mut self, message: Message) {
        self.log.insert(message.pts, message.id);
        self.messages.insert(message.id, message);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }
}

/// What happened after a given `pts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) messages: Vec<Message>,
    /// The `pts` after the last of them.
    pub(crate) pts: i32,
    /// Whether nothing more is to come.
    pub(crate) complete: bool,
}

impl World {
    /// Puts a message from the service account into an account's mailbox.
    pub(super) fn deliver_from_service(&mut self, to: AccountId, text: String, now: Timestamp) {
        let Some(account) = self.accounts.get_mut(&to) else {
            return;
        };
        account.pts += 1;
        let message = Message {
            id: account.next_message_id,
            chat: SERVICE_ACCOUNT,
            out: false,
            text,
            date: now,
            pts: account.pts,
        };
        account.next_message_id += 1;
        self.events.push(Event::NewMessage { account: to, message: message.id });
        self.keep_account(to);
        self.records.push(Record::Message(to, message.clone()));
        self.mailboxes.entry(to).or_default().insert(message);
    }

    /// One message of an account.
    pub(crate) fn message(&self, account: AccountId, id: i32) -> Option<&Message> {
        self.mailboxes.get(&account)?.messages.get(&id)
    }

    /// An account's messages with ids above `after`, oldest first.
    pub(crate) fn messages_after(&self, account: AccountId, after: i32) -> impl Iterator<Item = &Message> {
        self.mailboxes
            .get(&account)
            .into_iter()
            .flat_map(move |mailbox| mailbox.messages.range(after.saturating_add(1)..))
            .map(|(_, message)| message)
    }

    /// What the account's devices missed since `pts`, at most `slice` updates of it.
    pub(crate) fn difference(&self, account: AccountId, pts: i32, slice: usize) -> Difference {
        let current = self.accounts.get(&account).map_or(pts, |account| account.pts);
        let missed: Vec<(i32, Message)> = self
            .mailboxes
            .get(&account)
            .into_iter()
            .flat_map(|mailbox| {
                mailbox
                    .log
                    .range(pts.saturating_add(1)..)
                    .filter_map(|(pts, id)| Some((*pts, mailbox.messages.get(id)?.clone())))
            })
            .take(slice.max(1) + 1)
            .collect();
        let complete = missed.len() <= slice.max(1);
        let messages: Vec<(i32, Message)> = missed.into_iter().take(slice.max(1)).collect();
        let pts = match messages.last() {
            Some((pts, _)) if !complete => *pts,
            Some(_) | None => current,
        };
        Difference { messages: messages.into_iter().map(|(_, message)| message).collect(), pts, complete }
    }
}
