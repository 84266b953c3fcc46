//! What happens in the sandbox: accounts, their messages and update logs, who is signed in where. Plain data behind
//! methods; no IO, no clock, no MTProto. Whoever changes it takes the records to keep and the events to tell.

mod accounts;
mod callback;
mod changes;
mod chat;
mod mailbox;
mod markup;
mod message;
mod password;
mod refusals;
mod sign_in;
mod tickets;
mod wording;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::clock::Timestamp;
use crate::domain::ids::Ids;

use super::wire::sha256;
use super::wire::srp::Challenge;
use super::wire::srp::Verifier;

pub(crate) use accounts::BotProfile;
pub(crate) use accounts::PersonProfile;
pub(crate) use callback::CallbackAnswer;
pub(crate) use callback::CallbackQuery;
pub(crate) use callback::Press;
pub(crate) use changes::Event;
pub(crate) use changes::Record;
pub(crate) use chat::Draft;
pub(crate) use chat::Relation;
pub(crate) use chat::Sender;
pub(crate) use mailbox::HistoryQuery;
pub(crate) use mailbox::Missed;
pub(crate) use markup::Button;
pub(crate) use markup::InlineAction;
pub(crate) use markup::InlineButton;
pub(crate) use markup::Keyboard;
pub(crate) use markup::KeyboardButton;
pub(crate) use markup::Markup;
pub(crate) use message::Contact;
pub(crate) use message::Message;
pub(crate) use refusals::Refusal;
pub use refusals::WorldError;
pub(crate) use sign_in::CODE_LENGTH;
pub(crate) use sign_in::CodeKind;
pub(crate) use sign_in::GivenCode;
pub(crate) use sign_in::SentCode;
pub(crate) use wording::Entity;
pub(crate) use wording::Look;
pub(crate) use wording::Wording;

/// The data centres of the sandbox.
pub(crate) const DATA_CENTRES: [i32; 5] = [1, 2, 3, 4, 5];
/// Where new accounts live unless stated otherwise.
pub(crate) const DEFAULT_DATA_CENTRE: i32 = 2;
/// "Telegram", which sends login codes.
pub(crate) const SERVICE_ACCOUNT: AccountId = AccountId(777_000);

/// An account: a person or a bot. The number clients see as user id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AccountId(pub(crate) i64);

/// An installed client: what a person would call a device. The sandbox's wire knows it by its authorisation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct DeviceId(pub(crate) i64);

/// A phone number: 7 to 15 digits, without a plus sign.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Phone(String);

impl Phone {
    /// Reads a number as people write it; `None` when it cannot be one.
    pub(crate) fn parse(written: &str) -> Option<Self> {
        let ignored = |character: &char| !matches!(character, '+' | ' ' | '-' | '(' | ')' | '.');
        let digits: String = written.chars().filter(ignored).collect();
        let plausible = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        plausible.then_some(Self(digits))
    }

    /// The digits, as clients write them in `user.phone`.
    pub(crate) fn digits(&self) -> &str {
        &self.0
    }

    /// `+` and the digits.
    pub(crate) fn international(&self) -> String {
        format!("+{}", self.0)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = self.0.get(self.0.len().saturating_sub(2)..).unwrap_or_default();
        write!(formatter, "Phone(…{tail})")
    }
}

/// A person or a bot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) nature: Nature,
    pub(crate) first_name: String,
    pub(crate) last_name: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) dc: i32,
    pub(crate) pts: i32,
    next_message_id: i32,
    /// What happened up to this `pts` is not known in full any more.
    #[serde(default)]
    log_floor: i32,
}

/// What only one of the two kinds of account has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Nature {
    Person { phone: Phone, lang_code: Option<String>, password: Option<Box<Verifier>>, banned: bool },
    Bot { token: String },
}

impl Account {
    /// Whether this is a bot.
    pub(crate) fn is_bot(&self) -> bool {
        matches!(self.nature, Nature::Bot { .. })
    }

    /// A person's number.
    pub(crate) fn phone(&self) -> Option<&Phone> {
        match &self.nature {
            Nature::Person { phone, .. } => Some(phone),
            Nature::Bot { .. } => None,
        }
    }

    /// The language a person's app is set to.
    pub(crate) fn lang_code(&self) -> Option<&str> {
        match &self.nature {
            Nature::Person { lang_code, .. } => lang_code.as_deref(),
            Nature::Bot { .. } => None,
        }
    }

    /// Whether a two-factor password is set.
    pub(crate) fn has_password(&self) -> bool {
        self.password().is_some()
    }

    fn password(&self) -> Option<&Verifier> {
        match &self.nature {
            Nature::Person { password, .. } => password.as_deref(),
            Nature::Bot { .. } => None,
        }
    }
}

/// A device and what it is in the middle of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) dc: i32,
    /// Who is signed in on it.
    pub(crate) account: Option<AccountId>,
    /// Why nobody is signed in any more, where that was not the device's own wish.
    ended: Option<Ended>,
    /// Has introduced itself (layer and client name).
    pub(crate) introduced: bool,
    login: Option<sign_in::Login>,
    challenge: Option<Challenge>,
}

/// Why a device was signed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Ended {
    /// From another device; told once.
    Revoked,
    /// The account was banned.
    Banned,
    /// The account moved to this data centre.
    Moved(i32),
}

/// Everything that is so in the sandbox.
#[derive(Debug)]
pub(crate) struct World {
    ids: Ids,
    secret: Vec<u8>,
    next_account: i64,
    accounts: BTreeMap<AccountId, Account>,
    phones: HashMap<Phone, AccountId>,
    usernames: HashMap<String, AccountId>,
    devices: BTreeMap<DeviceId, Device>,
    messages: BTreeMap<message::MessageKey, message::Stored>,
    next_message: u64,
    mailboxes: HashMap<AccountId, mailbox::Mailbox>,
    /// How many messages a mailbox keeps.
    max_kept: usize,
    /// What each account has sent with which random id.
    random_ids: HashMap<(AccountId, i64), message::MessageKey>,
    relations: BTreeMap<(AccountId, AccountId), Relation>,
    presses: HashMap<i64, callback::OpenPress>,
    unregistered: BTreeMap<Phone, sign_in::UnregisteredNumber>,
    code_requests: HashMap<Phone, Vec<Timestamp>>,
    wrong_passwords: HashMap<AccountId, password::WrongPasswords>,
    exports: HashMap<(AccountId, i32), Vec<u8>>,
    records: Vec<Record>,
    events: Vec<Event>,
}

impl World {
    /// An empty world, with only the service account in it.
    pub(crate) fn new(ids: Ids) -> Self {
        let secret = ids.bytes::<16>().to_vec();
        let mut world = Self {
            ids,
            next_account: 5_000_000_001,
            accounts: BTreeMap::new(),
            phones: HashMap::new(),
            usernames: HashMap::new(),
            devices: BTreeMap::new(),
            messages: BTreeMap::new(),
            next_message: 1,
            mailboxes: HashMap::new(),
            max_kept: mailbox::MAX_KEPT,
            random_ids: HashMap::new(),
            relations: BTreeMap::new(),
            presses: HashMap::new(),
            unregistered: BTreeMap::new(),
            code_requests: HashMap::new(),
            wrong_passwords: HashMap::new(),
            exports: HashMap::new(),
            records: vec![Record::Secret { secret: secret.clone(), next_account: 5_000_000_001 }],
            events: Vec::new(),
            secret,
        };
        world.insert_account(Account {
            id: SERVICE_ACCOUNT,
            nature: Nature::Person {
                phone: Phone("42777".to_owned()),
                lang_code: None,
                password: None,
                banned: true,
            },
            first_name: "Telegram".to_owned(),
            last_name: None,
            username: None,
            dc: DEFAULT_DATA_CENTRE,
            pts: 1,
            next_message_id: 1,
            log_floor: 0,
        });
        world
    }

    /// Takes one kept record back in. Records come in the order they were kept.
    pub(crate) fn restore(&mut self, record: Record) {
        match record {
            Record::Secret { secret, next_account } => {
                self.secret = secret;
                self.next_account = next_account;
            }
            Record::Account(account) => self.insert_account(account),
            Record::Device(device) => {
                self.devices.insert(device.id, device);
            }
            Record::DeviceGone(id) => {
                self.devices.remove(&id);
            }
            Record::Earlier(account, earlier) => self.put_earlier(account, earlier),
            Record::Message(key, stored) => self.put(key, stored),
            Record::Deleted { account, message, pts } => self.remove(account, message, pts),
            Record::Relation(owner, other, relation) => {
                self.relations.insert((owner, other), relation);
            }
            Record::Unregistered(number) => {
                self.unregistered.insert(number.phone().clone(), number);
            }
        }
    }

    /// Everything, as records that make an equal world.
    pub(crate) fn all_records(&self) -> impl Iterator<Item = Record> {
        let relations = self.relations.iter();
        let owners: BTreeSet<_> = self.mailboxes.keys().copied().collect();
        std::iter::once(self.secret_record())
            .chain(self.accounts.values().cloned().map(Record::Account))
            .chain(self.devices.values().cloned().map(Record::Device))
            .chain(self.unregistered.values().cloned().map(Record::Unregistered))
            .chain(relations.map(|((owner, other), relation)| Record::Relation(*owner, *other, *relation)))
            .chain(self.messages.iter().map(|(key, stored)| Record::Message(*key, stored.clone())))
            .chain(owners.into_iter().flat_map(|account| self.deletions(account)))
    }

    fn deletions(&self, account: AccountId) -> impl Iterator<Item = Record> {
        let mailbox = self.mailboxes.get(&account);
        let deleted = mailbox.into_iter().flat_map(mailbox::Mailbox::deleted);
        deleted.map(move |(message, pts)| Record::Deleted { account, message, pts })
    }

    /// What changed since the last call: records to keep before anyone is told, and events to tell.
    pub(crate) fn take_changes(&mut self) -> (Vec<Record>, Vec<Event>) {
        (std::mem::take(&mut self.records), std::mem::take(&mut self.events))
    }

    /// The account with this id.
    pub(crate) fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// The hash that `viewer` must show to name `target`: proof of having met.
    pub(crate) fn access_hash(&self, viewer: AccountId, target: AccountId) -> i64 {
        let digest = sha256(&[&self.secret, &viewer.0.to_le_bytes(), &target.0.to_le_bytes()]);
        super::wire::long_at(&digest, 0)
    }

    /// Finds the account that `viewer` names by id and access hash. Bots may leave the hash zero for whom they have met.
    pub(crate) fn named_account(
        &self,
        viewer: AccountId,
        target: AccountId,
        access_hash: i64,
    ) -> Result<AccountId, Refusal> {
        let met = || viewer == target || self.have_met(viewer, target);
        let shown = access_hash == self.access_hash(viewer, target)
            || access_hash == 0 && self.is_bot(viewer) && met();
        (shown && self.accounts.contains_key(&target)).then_some(target).ok_or(Refusal::UserInvalid)
    }

    /// Whether this account is "Telegram" itself.
    pub(crate) fn is_service(id: AccountId) -> bool {
        id == SERVICE_ACCOUNT
    }

    fn secret_record(&self) -> Record {
        Record::Secret { secret: self.secret.clone(), next_account: self.next_account }
    }

    fn insert_account(&mut self, account: Account) {
        if let Some(phone) = account.phone() {
            self.phones.insert(phone.clone(), account.id);
        }
        let before = self.accounts.get(&account.id).and_then(|before| before.username.as_ref());
        if let Some(before) = before {
            self.usernames.remove(&before.to_lowercase());
        }
        if let Some(username) = &account.username {
            self.usernames.insert(username.to_lowercase(), account.id);
        }
        self.accounts.insert(account.id, account);
    }

    fn keep_account(&mut self, id: AccountId) {
        self.records.extend(self.accounts.get(&id).cloned().map(Record::Account));
    }

    fn keep_device(&mut self, id: DeviceId) {
        self.records.extend(self.devices.get(&id).cloned().map(Record::Device));
    }
}

#[cfg(test)]
mod chat_tests;
#[cfg(test)]
mod tests;
