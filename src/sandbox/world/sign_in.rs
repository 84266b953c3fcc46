//! Signing in and out (<https://core.telegram.org/api/auth>): login codes, moved and banned accounts.
//! Two-factor passwords are in `password`, ways without a code in `tickets`. Refuses what Telegram refuses; limits and
//! expiry are in business time.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use subtle::ConstantTimeEq;

use crate::domain::clock::Timestamp;

use super::Account;
use super::AccountId;
use super::DeviceId;
use super::Ended;
use super::Nature;
use super::Phone;
use super::Record;
use super::Refusal;
use super::World;

/// How long a code is good for.
const CODE_LIFETIME: Duration = Duration::from_secs(300);
/// A code dies with this wrong try.
const MAX_WRONG_CODES: u8 = 5;
/// How many codes a number may ask for within [`CODE_LIFETIME`].
const MAX_CODE_REQUESTS: usize = 20;
/// Digits of a login code.
pub(crate) const CODE_LENGTH: i32 = 5;

/// By what way a code goes to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CodeKind {
    App,
    Sms,
    Call,
    Email,
}

/// A code as the client gives it: codes sent by e-mail are given as `email_verification`.
#[derive(Clone, Copy)]
pub(crate) enum GivenCode<'a> {
    Phone(&'a str),
    Email(&'a str),
}

impl CodeKind {
    /// The way that `auth.resendCode` takes after this one.
    pub(crate) fn next(self) -> Option<Self> {
        match self {
            Self::App => Some(Self::Sms),
            Self::Sms => Some(Self::Call),
            Self::Call | Self::Email => None,
        }
    }
}

/// What a client is told of a code on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentCode {
    pub(crate) hash: String,
    pub(crate) kind: CodeKind,
}

/// A sign-in under way on a device.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Login {
    phone: Phone,
    hash: String,
    stage: Stage,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Stage {
    Code {
        code: String,
        kind: CodeKind,
        sent: Timestamp,
        wrong: u8,
    },
    /// The code was right; the two-factor password is missing.
    Password(AccountId),
}

impl Login {
    /// Whose password is still missing.
    pub(super) fn waits_for_password(&self) -> Option<AccountId> {
        match self.stage {
            Stage::Password(account) => Some(account),
            Stage::Code { .. } => None,
        }
    }

    pub(super) fn is_for(&self, phone: &Phone) -> bool {
        self.phone == *phone
    }
}

/// A number that asked for a code and has no account; kept so that the control API can tell its code.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UnregisteredNumber {
    phone: Phone,
}

impl UnregisteredNumber {
    pub(super) fn phone(&self) -> &Phone {
        &self.phone
    }
}

/// The result of a step that may complete the sign-in.
pub(crate) type SignedIn = AccountId;

impl World {
    /// `auth.sendCode`. The way the code takes follows from where the account is signed in, unless `kind` names one.
    pub(crate) fn send_code(
        &mut self,
        device: DeviceId,
        phone: &str,
        kind: Option<CodeKind>,
        now: Timestamp,
    ) -> Result<SentCode, Refusal> {
        let phone = self.reachable_number(device, phone)?;
        self.count_code_request(&phone, now)?;
        let elsewhere =
            self.phones.get(&phone).is_some_and(|account| !self.signed_in_devices(*account).is_empty());
        let usual = if elsewhere { CodeKind::App } else { CodeKind::Sms };
        Ok(self.issue_code(device, phone, kind.unwrap_or(usual), now))
    }

    /// `auth.sentCodeSuccess`: signs an account in without a code, which only a fault orders.
    pub(crate) fn sign_in_without_code(
        &mut self,
        device: DeviceId,
        phone: &str,
    ) -> Result<SignedIn, Refusal> {
        let phone = self.reachable_number(device, phone)?;
        let account = self.by_phone(&phone).ok_or(Refusal::PhoneInvalid)?.id;
        Ok(self.authorise(device, account))
    }

    /// `auth.resendCode`: the next way, under a new hash.
    pub(crate) fn resend_code(
        &mut self,
        device: DeviceId,
        phone: &str,
        hash: &str,
        now: Timestamp,
    ) -> Result<SentCode, Refusal> {
        let phone = self.reachable_number(device, phone)?;
        let kind = match &self.open_login(device, &phone, hash)?.stage {
            Stage::Code { kind, sent, .. } if now.since(*sent) < CODE_LIFETIME => *kind,
            Stage::Code { .. } | Stage::Password(_) => return Err(Refusal::CodeExpired),
        };
        let next = kind.next().ok_or(Refusal::SendCodeUnavailable)?;
        self.count_code_request(&phone, now)?;
        Ok(self.issue_code(device, phone, next, now))
    }

    /// `auth.cancelCode`
    pub(crate) fn cancel_code(&mut self, device: DeviceId, phone: &str, hash: &str) -> Result<(), Refusal> {
        let phone = self.reachable_number(device, phone)?;
        self.open_login(device, &phone, hash)?;
        self.set_login(device, None);
        Ok(())
    }

    /// `auth.signIn`. A right code is used up whatever comes of it.
    pub(crate) fn sign_in(
        &mut self,
        device: DeviceId,
        phone: &str,
        hash: &str,
        given: GivenCode<'_>,
        now: Timestamp,
    ) -> Result<SignedIn, Refusal> {
        let phone = self.reachable_number(device, phone)?;
        let login = self.open_login(device, &phone, hash)?.clone();
        let Stage::Code { code, kind, sent, wrong } = login.stage else {
            return Err(Refusal::CodeExpired);
        };
        if now.since(sent) >= CODE_LIFETIME || wrong >= MAX_WRONG_CODES {
            return Err(Refusal::CodeExpired);
        }
        let given = match (given, kind) {
            (GivenCode::Email(given), CodeKind::Email)
            | (GivenCode::Phone(given), CodeKind::App | CodeKind::Sms | CodeKind::Call) => given,
            (GivenCode::Email(_) | GivenCode::Phone(_), _) => "",
        };
        if given.is_empty() {
            return Err(Refusal::CodeEmpty);
        }
        if !bool::from(code.as_bytes().ct_eq(given.as_bytes())) {
            let stage = Stage::Code { code, kind, sent, wrong: wrong + 1 };
            let hash = login.hash;
            self.set_login(device, Some(Login { phone, hash, stage }));
            return Err(Refusal::CodeInvalid);
        }
        let Some(account) = self.phones.get(&phone).and_then(|id| self.accounts.get(id)) else {
            // The number may still sign up with this code, so it stays.
            let stage = Stage::Code { code, kind, sent, wrong };
            let hash = login.hash;
            self.set_login(device, Some(Login { phone, hash, stage }));
            return Err(Refusal::SignUpRequired);
        };
        let (id, has_password) = (account.id, account.has_password());
        if has_password {
            let stage = Stage::Password(id);
            let hash = login.hash;
            self.set_login(device, Some(Login { phone, hash, stage }));
            return Err(Refusal::PasswordNeeded);
        }
        Ok(self.authorise(device, id))
    }

    /// `auth.logOut`: the device stays, nobody is signed in on it.
    pub(crate) fn log_out(&mut self, device: DeviceId) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.account = None;
            device.login = None;
            device.challenge = None;
        }
        self.keep_device(device);
    }

    /// Who is signed in on a device. Who was signed out by others is told so once.
    pub(crate) fn signed_in(&mut self, device: DeviceId) -> Result<AccountId, Refusal> {
        match self.devices.get(&device).and_then(|device| device.account) {
            Some(account) => Ok(account),
            None => Err(self.why_unregistered_once(device)),
        }
    }

    /// The newest code of a number that is neither used nor expired.
    pub(crate) fn newest_code(&self, phone: &Phone, now: Timestamp) -> Option<String> {
        self.devices
            .values()
            .filter_map(|device| device.login.as_ref())
            .filter(|login| login.is_for(phone))
            .filter_map(|login| match &login.stage {
                Stage::Code { code, sent, wrong, .. }
                    if now.since(*sent) < CODE_LIFETIME && *wrong < MAX_WRONG_CODES =>
                {
                    Some((*sent, code))
                }
                Stage::Code { .. } | Stage::Password(_) => None,
            })
            .max_by_key(|(sent, _)| *sent)
            .map(|(_, code)| code.clone())
    }

    /// Whether this number has an account or has asked for a code.
    pub(crate) fn knows_number(&self, phone: &Phone) -> bool {
        self.phones.contains_key(phone) || self.unregistered.contains_key(phone)
    }

    /// The number, if it is well-formed, not banned and at home in the device's data centre.
    fn reachable_number(&self, device: DeviceId, phone: &str) -> Result<Phone, Refusal> {
        let phone = Phone::parse(phone).ok_or(Refusal::PhoneInvalid)?;
        let here = self.devices.get(&device).map(|device| device.dc);
        match self.by_phone(&phone) {
            Some(Account { nature: Nature::Person { banned: true, .. }, .. }) => Err(Refusal::PhoneBanned),
            Some(account) if Some(account.dc) != here => Err(Refusal::PhoneMigrate(account.dc)),
            Some(_) | None => Ok(phone),
        }
    }

    fn open_login(&self, device: DeviceId, phone: &Phone, hash: &str) -> Result<&Login, Refusal> {
        if hash.is_empty() {
            return Err(Refusal::HashEmpty);
        }
        self.devices
            .get(&device)
            .and_then(|device| device.login.as_ref())
            .filter(|login| login.phone == *phone && login.hash == hash)
            .ok_or(Refusal::CodeExpired)
    }

    fn count_code_request(&mut self, phone: &Phone, now: Timestamp) -> Result<(), Refusal> {
        let requests = self.code_requests.entry(phone.clone()).or_default();
        requests.retain(|at| now.since(*at) < CODE_LIFETIME);
        if let Some(oldest) = requests.first()
            && requests.len() >= MAX_CODE_REQUESTS
        {
            let rest = oldest.plus(CODE_LIFETIME).since(now);
            return Err(Refusal::FloodWait(whole_seconds(rest)));
        }
        requests.push(now);
        Ok(())
    }

    fn issue_code(&mut self, device: DeviceId, phone: Phone, kind: CodeKind, now: Timestamp) -> SentCode {
        let code = format!("{:05}", self.ids.below(100_000));
        let hash = self.ids.base62(18);
        let account = self.phones.get(&phone).copied();
        if let Some(account) = account.filter(|account| !self.signed_in_devices(*account).is_empty()) {
            self.deliver_from_service(account, login_code_text(&code), now);
        }
        if account.is_none() && !self.unregistered.contains_key(&phone) {
            let number = UnregisteredNumber { phone: phone.clone() };
            self.records.push(Record::Unregistered(number.clone()));
            self.unregistered.insert(phone.clone(), number);
        }
        let stage = Stage::Code { code, kind, sent: now, wrong: 0 };
        let sent = SentCode { hash: hash.clone(), kind };
        self.set_login(device, Some(Login { phone, hash, stage }));
        sent
    }

    fn set_login(&mut self, device: DeviceId, login: Option<Login>) {
        if let Some(device) = self.devices.get_mut(&device) {
            device.login = login;
            device.challenge = None;
        }
        self.keep_device(device);
    }

    pub(super) fn authorise(&mut self, device: DeviceId, account: AccountId) -> SignedIn {
        if let Some(device) = self.devices.get_mut(&device) {
            device.account = Some(account);
            device.login = None;
            device.challenge = None;
            device.ended = None;
        }
        self.keep_device(device);
        account
    }

    pub(super) fn why_unregistered(&self, device: DeviceId) -> Refusal {
        match self.devices.get(&device).and_then(|device| device.ended) {
            None => Refusal::Unregistered,
            Some(Ended::Revoked) => Refusal::Revoked,
            Some(Ended::Banned) => Refusal::Deactivated,
            Some(Ended::Moved(dc)) => Refusal::UserMigrate(dc),
        }
    }

    fn why_unregistered_once(&mut self, device: DeviceId) -> Refusal {
        let why = self.why_unregistered(device);
        if why == Refusal::Revoked {
            if let Some(device) = self.devices.get_mut(&device) {
                device.ended = None;
            }
            self.keep_device(device);
        }
        why
    }
}

/// Rounded up, as `FLOOD_WAIT_n` counts.
pub(super) fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn login_code_text(code: &str) -> String {
    format!(
        "Login code: {code}. Do not give this code to anyone, even if they say they are from Telegram!\n\n\
         ❗️This code can be used to log in to your Telegram account. We never ask it for anything else.\n\n\
         If you didn't request this code by trying to log in on another device, simply ignore this message."
    )
}
