//! Making people and bots, and what the control API does to them: ban, move, sign out. Signing in is `sign_in`.

use std::collections::BTreeMap;

use super::Account;
use super::AccountId;
use super::DATA_CENTRES;
use super::DEFAULT_DATA_CENTRE;
use super::Device;
use super::DeviceId;
use super::Ended;
use super::Event;
use super::Nature;
use super::Phone;
use super::Record;
use super::Refusal;
use super::Verifier;
use super::World;
use super::WorldError;

/// A person to make.
#[derive(Clone, Debug)]
pub(crate) struct PersonProfile {
    pub(crate) phone: String,
    pub(crate) first_name: String,
    pub(crate) last_name: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) lang_code: Option<String>,
    pub(crate) dc: Option<i32>,
    pub(crate) password: Option<Verifier>,
}

/// A bot to make.
#[derive(Clone, Debug)]
pub(crate) struct BotProfile {
    pub(crate) username: String,
    pub(crate) name: String,
    pub(crate) dc: Option<i32>,
}

impl World {
    /// Makes a person.
    pub(crate) fn add_person(&mut self, profile: PersonProfile) -> Result<AccountId, WorldError> {
        let phone = Phone::parse(&profile.phone).ok_or(WorldError::PhoneInvalid)?;
        if self.phones.contains_key(&phone) {
            return Err(WorldError::PhoneOccupied);
        }
        check_name(&profile.first_name)?;
        if let Some(username) = &profile.username {
            self.check_username(username)?;
        }
        let dc = check_data_centre(profile.dc)?;
        self.unregistered.remove(&phone);
        Ok(self.insert_new(|id| Account {
            id,
            nature: Nature::Person {
                phone,
                lang_code: profile.lang_code,
                password: profile.password.map(Box::new),
                banned: false,
            },
            first_name: profile.first_name,
            last_name: profile.last_name,
            username: profile.username,
            dc,
            pts: 1,
            next_message_id: 1,
            log_floor: 0,
        }))
    }

    /// Makes a bot and its token.
    pub(crate) fn add_bot(&mut self, profile: BotProfile) -> Result<AccountId, WorldError> {
        check_name(&profile.name)?;
        self.check_username(&profile.username)?;
        let dc = check_data_centre(profile.dc)?;
        let secret = self.ids.base62(35);
        Ok(self.insert_new(|id| Account {
            id,
            nature: Nature::Bot { token: format!("{}:{secret}", id.0) },
            first_name: profile.name,
            last_name: None,
            username: Some(profile.username),
            dc,
            pts: 1,
            next_message_id: 1,
            log_floor: 0,
        }))
    }

    fn insert_new(&mut self, make: impl FnOnce(AccountId) -> Account) -> AccountId {
        let id = AccountId(self.next_account);
        self.next_account += 1;
        self.insert_account(make(id));
        self.records.push(self.secret_record());
        self.keep_account(id);
        id
    }

    fn check_username(&self, username: &str) -> Result<(), WorldError> {
        let plausible = (5..=32).contains(&username.len())
            && username.starts_with(|first: char| first.is_ascii_alphabetic())
            && username.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
        if !plausible {
            return Err(WorldError::UsernameInvalid);
        }
        if self.usernames.contains_key(&username.to_lowercase()) {
            return Err(WorldError::UsernameOccupied);
        }
        Ok(())
    }

    /// Gives an account another username, or none.
    pub(crate) fn rename(
        &mut self,
        id: AccountId,
        username: Option<&str>,
        device: Option<DeviceId>,
    ) -> Result<(), Refusal> {
        let account = self.accounts.get(&id).ok_or(Refusal::PeerInvalid)?;
        if account.username.as_deref() == username {
            return Err(Refusal::UsernameNotModified);
        }
        let same = |before: &String| username.is_some_and(|after| before.eq_ignore_ascii_case(after));
        // One may write one's own name in another way.
        if let Some(username) = username.filter(|_| !account.username.as_ref().is_some_and(same)) {
            self.check_username(username).map_err(|error| {
                let taken = error == WorldError::UsernameOccupied;
                if taken { Refusal::UsernameOccupied } else { Refusal::UsernameInvalid }
            })?;
        }
        let account = Account { username: username.map(str::to_owned), ..account.clone() };
        self.insert_account(account);
        self.keep_account(id);
        self.events.push(Event::Renamed { account: id, except: device });
        Ok(())
    }

    /// Whose username this is, however it is written.
    pub(crate) fn by_username(&self, username: &str) -> Option<AccountId> {
        self.usernames.get(&username.to_lowercase()).copied()
    }

    /// People, oldest first, without the service account.
    pub(crate) fn people(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values().filter(|account| !account.is_bot() && !Self::is_service(account.id))
    }

    /// Bots, oldest first.
    pub(crate) fn bots(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values().filter(|account| account.is_bot())
    }

    /// Whose number this is.
    pub(crate) fn by_phone(&self, phone: &Phone) -> Option<&Account> {
        self.phones.get(phone).and_then(|id| self.accounts.get(id))
    }

    /// The number is refused from now on; its devices are signed out.
    pub(crate) fn ban(&mut self, phone: &Phone) -> Result<(), WorldError> {
        let id = self.phone_owner(phone)?;
        if let Some(Account { nature: Nature::Person { banned, .. }, .. }) = self.accounts.get_mut(&id) {
            *banned = true;
        }
        self.keep_account(id);
        self.end_devices(id, Ended::Banned);
        Ok(())
    }

    /// Signs the account out everywhere, as "terminate all sessions" does.
    pub(crate) fn revoke(&mut self, phone: &Phone) -> Result<(), WorldError> {
        let id = self.phone_owner(phone)?;
        self.end_devices(id, Ended::Revoked);
        Ok(())
    }

    /// Moves the account to another data centre; its devices must sign in there.
    pub(crate) fn migrate(&mut self, phone: &Phone, dc: i32) -> Result<(), WorldError> {
        let id = self.phone_owner(phone)?;
        let dc = check_data_centre(Some(dc))?;
        if let Some(account) = self.accounts.get_mut(&id) {
            account.dc = dc;
        }
        self.keep_account(id);
        self.end_devices(id, Ended::Moved(dc));
        Ok(())
    }

    /// The devices on which the account with this number is signed in, or is signing in.
    pub(crate) fn devices_of(&self, phone: &Phone) -> Vec<DeviceId> {
        let account = self.phones.get(phone).copied();
        let uses = |device: &&Device| {
            device.account.is_some() && device.account == account
                || device.login.as_ref().is_some_and(|login| login.is_for(phone))
        };
        self.devices.values().filter(uses).map(|device| device.id).collect()
    }

    /// Every device.
    pub(crate) fn all_devices(&self) -> Vec<DeviceId> {
        self.devices.keys().copied().collect()
    }

    /// A device is no more: its key was destroyed or forgotten.
    pub(crate) fn forget_device(&mut self, id: DeviceId) {
        if self.devices.remove(&id).is_some() {
            self.records.push(Record::DeviceGone(id));
        }
    }

    /// Notes that a device exists; it stands in one data centre for good.
    pub(crate) fn meet_device(&mut self, id: DeviceId, dc: i32) {
        self.devices.entry(id).or_insert(Device {
            id,
            dc,
            account: None,
            ended: None,
            introduced: false,
            login: None,
            challenge: None,
        });
        self.keep_device(id);
    }

    /// Notes that a device has said what it is.
    pub(crate) fn introduce(&mut self, id: DeviceId) {
        if let Some(device) = self.devices.get_mut(&id)
            && !device.introduced
        {
            device.introduced = true;
            self.keep_device(id);
        }
    }

    /// The device with this id.
    pub(crate) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(&id)
    }

    /// Whether who is signed in on a device is called this: a phone number or a user name.
    pub(crate) fn is_called(&self, device: DeviceId, name: &str) -> bool {
        let id = self.device(device).and_then(|device| device.account);
        id.and_then(|id| self.accounts.get(&id)).is_some_and(|account| {
            let phone = account.phone().map(Phone::international);
            phone.as_deref() == Some(name) || account.username.as_deref() == Some(name)
        })
    }

    /// The devices on which an account is signed in.
    pub(crate) fn signed_in_devices(&self, account: AccountId) -> Vec<DeviceId> {
        self.devices
            .values()
            .filter(|device| device.account == Some(account))
            .map(|device| device.id)
            .collect()
    }

    /// Removes every account, message and code, and signs every device out. Devices and ids in use stay known.
    pub(crate) fn empty(&mut self) {
        let fresh = Self::new(self.ids.clone());
        let devices = std::mem::take(&mut self.devices);
        let next_account = self.next_account;
        let ended: Vec<DeviceId> =
            devices.values().filter(|device| device.account.is_some()).map(|device| device.id).collect();
        let signed_out: BTreeMap<DeviceId, Device> = devices
            .into_iter()
            .map(|(id, device)| {
                let device = Device { account: None, ended: None, login: None, challenge: None, ..device };
                (id, device)
            })
            .collect();
        *self = fresh;
        self.next_account = next_account;
        self.devices = signed_out;
        self.events.push(Event::DevicesEnded(ended));
    }

    fn phone_owner(&self, phone: &Phone) -> Result<AccountId, WorldError> {
        self.phones.get(phone).copied().ok_or(WorldError::NoSuchAccount)
    }

    fn end_devices(&mut self, account: AccountId, why: Ended) {
        let ended = self.signed_in_devices(account);
        for id in &ended {
            if let Some(device) = self.devices.get_mut(id) {
                device.account = None;
                device.login = None;
                device.ended = Some(why);
            }
            self.keep_device(*id);
        }
        self.exports.retain(|(owner, _), _| *owner != account);
        if !ended.is_empty() {
            self.events.push(Event::DevicesEnded(ended));
        }
    }
}

fn check_name(name: &str) -> Result<(), WorldError> {
    let length = name.trim().chars().count();
    (1..=64).contains(&length).then_some(()).ok_or(WorldError::NameInvalid)
}

fn check_data_centre(dc: Option<i32>) -> Result<i32, WorldError> {
    let dc = dc.unwrap_or(DEFAULT_DATA_CENTRE);
    DATA_CENTRES.contains(&dc).then_some(dc).ok_or(WorldError::DataCentreInvalid)
}
