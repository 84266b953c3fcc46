//! Private chats: writing, changing, forwarding and deleting messages, and who may write to whom.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::clock::Timestamp;

use super::Account;
use super::AccountId;
use super::DeviceId;
use super::Event;
use super::Nature;
use super::Record;
use super::Refusal;
use super::World;
use super::markup::Markup;
use super::message::Contact;
use super::message::Content;
use super::message::Forwarded;
use super::message::MessageKey;
use super::message::Packed;
use super::message::Stored;
use super::wording::Entity;
use super::wording::Wording;
use super::wording::check_entities;
use super::wording::check_text;

/// How long a person may change a message; a bot may always.
const EDIT_LIMIT: Duration = Duration::from_secs(48 * 3600);
/// The longest start parameter, characters.
const MAX_START: usize = 64;

/// Who writes, and with which of its devices; the control API plays people without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) account: AccountId,
    pub(crate) device: Option<DeviceId>,
}

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) entities: Vec<Entity>,
    /// The sender's copy of the message that this answers.
    pub(crate) reply_to: Option<i32>,
    /// Shown only when a bot sends it.
    pub(crate) markup: Option<Markup>,
    pub(crate) contact: Option<Contact>,
    /// By which Telegram knows a message that is sent again.
    pub(crate) random_id: Option<i64>,
}

/// What one account is to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Relation {
    /// Has written to the other: a bot may then answer.
    #[serde(rename = "w", default)]
    pub(super) wrote: bool,
    /// Wants nothing from the other.
    #[serde(rename = "b", default)]
    pub(super) blocked: bool,
}

impl World {
    /// Sends a message. Returns the id of the sender's copy.
    pub(crate) fn send(
        &mut self,
        sender: Sender,
        to: AccountId,
        draft: Draft,
        now: Timestamp,
    ) -> Result<i32, Refusal> {
        if draft.contact.is_none() {
            check_text(&draft.text)?;
        }
        check_entities(&draft.text, &draft.entities)?;
        let reply_to = draft.reply_to.map(|id| self.answered(sender.account, to, id)).transpose()?;
        let markup = draft.markup.filter(|_| self.is_bot(sender.account));
        if let Some(markup) = &markup {
            markup.check()?;
        }
        let content = Content {
            text: draft.text,
            entities: draft.entities,
            reply_to,
            markup,
            contact: draft.contact,
            forwarded: None,
        };
        self.deliver(sender, to, &content, draft.random_id, now)
    }

    /// Forwards a message of the sender's to somebody else. Returns the id of the sender's copy.
    pub(crate) fn forward(
        &mut self,
        sender: Sender,
        id: i32,
        to: AccountId,
        random_id: Option<i64>,
        now: Timestamp,
    ) -> Result<i32, Refusal> {
        let (_, stored) = self.stored(sender.account, id).ok_or(Refusal::MessageIdInvalid)?;
        let original = stored.content.unpack();
        let first = Forwarded { author: stored.from, date: stored.date };
        let content = Content {
            reply_to: None,
            markup: original.markup.and_then(Markup::forwarded),
            forwarded: Some(original.forwarded.unwrap_or(first)),
            ..original
        };
        self.deliver(sender, to, &content, random_id, now)
    }

    fn deliver(
        &mut self,
        sender: Sender,
        to: AccountId,
        content: &Content,
        random_id: Option<i64>,
        now: Timestamp,
    ) -> Result<i32, Refusal> {
        let from = sender.account;
        if random_id.is_some_and(|random_id| self.random_ids.contains_key(&(from, random_id))) {
            return Err(Refusal::RandomIdDuplicate);
        }
        self.may_write(from, to)?;
        let sent = self.next_place(from).ok_or(Refusal::PeerInvalid)?;
        // A person who is blocked by a person is not told: the message stays with its sender.
        let arrives = from != to && !self.relation(to, from).blocked;
        let received = if arrives { self.next_place(to) } else { None };
        let content = Packed::new(content);
        let stored =
            Stored { from, to, sent: Some(sent), received, date: now, edited: None, random_id, content };
        self.add(stored, sender.device);
        self.relate(from, to, |relation| relation.wrote = true);
        Ok(sent.id)
    }

    /// Changes a message of the sender's own. Without a markup an inline keyboard goes away.
    pub(crate) fn edit(
        &mut self,
        sender: Sender,
        id: i32,
        wording: Option<impl Into<Wording>>,
        markup: Option<Markup>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let (key, stored) = self.stored(sender.account, id).ok_or(Refusal::MessageIdInvalid)?;
        let mut stored = stored.clone();
        let before = stored.content.unpack();
        if stored.from != sender.account || before.forwarded.is_some() {
            return Err(Refusal::MessageAuthorRequired);
        }
        // Telegram changes messages with an inline keyboard or with none, and no others.
        if matches!(before.markup, Some(Markup::Keyboard(_) | Markup::Hide)) || before.contact.is_some() {
            return Err(Refusal::MessageIdInvalid);
        }
        let bot = self.is_bot(sender.account);
        if !bot && now.since(stored.date) > EDIT_LIMIT {
            return Err(Refusal::MessageEditTimeExpired);
        }
        let markup = markup.filter(|_| bot);
        match &markup {
            Some(Markup::Inline(_)) | None => {}
            Some(Markup::Keyboard(_) | Markup::Hide) => return Err(Refusal::MarkupInvalid),
        }
        if let Some(markup) = &markup {
            markup.check()?;
        }
        let mut after = Content { markup, ..before.clone() };
        if let Some(wording) = wording {
            Wording { text: after.text, entities: after.entities } = wording.into();
        }
        check_text(&after.text)?;
        check_entities(&after.text, &after.entities)?;
        if after == before {
            return Err(Refusal::MessageNotModified);
        }
        stored.content = Packed::new(&after);
        stored.edited = Some(now);
        self.keep_edited(sender, key, stored);
        Ok(())
    }

    fn keep_edited(&mut self, sender: Sender, key: MessageKey, mut stored: Stored) {
        let places: Vec<_> = stored.places().collect();
        for (account, place) in places {
            let Some(owner) = self.accounts.get_mut(&account) else { continue };
            owner.pts += 1;
            if let Some(copy) = stored.place_mut(account) {
                copy.pts = owner.pts;
            }
            let except = sender.device.filter(|_| account == sender.account);
            self.events.push(Event::EditedMessage { account, message: place.id, except });
        }
        self.records.push(Record::Message(key, stored.clone()));
        self.put(key, stored);
    }

    /// Deletes messages of an account, with `revoke` the other side's copies as well; a bot's always. Returns how many
    /// of the account's own there were.
    pub(crate) fn delete(&mut self, sender: Sender, ids: &[i32], revoke: bool) -> usize {
        let mut deleted = 0;
        let revoke = revoke || self.is_bot(sender.account);
        for id in ids {
            let Some((_, stored)) = self.stored(sender.account, *id) else { continue };
            let copies: Vec<_> =
                stored.places().filter(|(owner, _)| revoke || *owner == sender.account).collect();
            for (account, place) in copies {
                let Some(owner) = self.accounts.get_mut(&account) else { continue };
                owner.pts += 1;
                let pts = owner.pts;
                self.remove(account, place.id, pts);
                self.records.push(Record::Deleted { account, message: place.id, pts });
                let except = sender.device.filter(|_| account == sender.account);
                self.events.push(Event::DeletedMessage { account, message: place.id, pts, except });
            }
            deleted += 1;
        }
        deleted
    }

    /// What the app does with a deep link to a bot: sends `/start` and the parameter, in a chat that is not blocked.
    pub(crate) fn start(
        &mut self,
        sender: Sender,
        bot: AccountId,
        parameter: &str,
        random_id: Option<i64>,
        now: Timestamp,
    ) -> Result<i32, Refusal> {
        if !self.is_bot(bot) {
            return Err(Refusal::BotInvalid);
        }
        Self::check_start(parameter)?;
        let text = format!("/start {parameter}").trim_end().to_owned();
        self.send(sender, bot, Draft { text, random_id, ..Draft::default() }, now)
    }

    /// Whether this can be the parameter of a bot's `/start`.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn check_start(parameter: &str) -> Result<(), Refusal> {
        let plausible = parameter.chars().count() <= MAX_START
            && parameter
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "_-".contains(character));
        plausible.then_some(()).ok_or(Refusal::StartParamInvalid)
    }

    /// An account wants nothing more from another, or does again.
    pub(crate) fn block(
        &mut self,
        account: AccountId,
        other: AccountId,
        blocked: bool,
    ) -> Result<(), Refusal> {
        if account == other || !self.accounts.contains_key(&other) {
            return Err(Refusal::PeerInvalid);
        }
        self.relate(account, other, |relation| relation.blocked = blocked);
        Ok(())
    }

    /// From whom an account wants nothing.
    pub(crate) fn blocked_by(&self, account: AccountId) -> impl Iterator<Item = AccountId> {
        let own = self.relations.range((account, AccountId(i64::MIN))..=(account, AccountId(i64::MAX)));
        own.filter(|(_, relation)| relation.blocked).map(|((_, other), _)| *other)
    }

    /// Whether one of the two has written to the other.
    pub(super) fn have_met(&self, one: AccountId, other: AccountId) -> bool {
        self.relation(one, other).wrote || self.relation(other, one).wrote
    }

    fn relation(&self, owner: AccountId, other: AccountId) -> Relation {
        self.relations.get(&(owner, other)).copied().unwrap_or_default()
    }

    fn relate(&mut self, owner: AccountId, other: AccountId, change: impl FnOnce(&mut Relation)) {
        let mut relation = self.relation(owner, other);
        let before = relation;
        change(&mut relation);
        if relation != before {
            self.relations.insert((owner, other), relation);
            self.records.push(Record::Relation(owner, other, relation));
        }
    }

    pub(crate) fn is_bot(&self, account: AccountId) -> bool {
        self.accounts.get(&account).is_some_and(Account::is_bot)
    }

    fn may_write(&self, from: AccountId, to: AccountId) -> Result<(), Refusal> {
        let account = self.accounts.get(&to).ok_or(Refusal::PeerInvalid)?;
        if Self::is_service(to) {
            return Err(Refusal::PeerInvalid);
        }
        if self.relation(from, to).blocked {
            return Err(Refusal::YouBlockedUser);
        }
        if from == to || !self.is_bot(from) {
            return Ok(());
        }
        match account.nature {
            Nature::Bot { .. } => Err(Refusal::UserIsBot),
            Nature::Person { banned: true, .. } => Err(Refusal::UserDeactivated),
            Nature::Person { banned: false, .. } if !self.relation(to, from).wrote => {
                Err(Refusal::PeerInvalid)
            }
            Nature::Person { banned: false, .. } if self.relation(to, from).blocked => {
                Err(Refusal::UserBlocked)
            }
            Nature::Person { banned: false, .. } => Ok(()),
        }
    }

    /// The message that a reply in the chat with `to` answers.
    fn answered(&self, account: AccountId, to: AccountId, id: i32) -> Result<MessageKey, Refusal> {
        self.stored(account, id)
            .filter(|(_, stored)| stored.chat_of(account) == to)
            .map(|(key, _)| key)
            .ok_or(Refusal::ReplyInvalid)
    }
}
