//! Two-factor passwords between login code and account (<https://core.telegram.org/api/srp>): challenges, proofs, and the
//! wait after too many wrong ones. The arithmetic is in `wire::srp`.

use std::time::Duration;

use crate::domain::clock::Timestamp;

use super::Account;
use super::AccountId;
use super::DeviceId;
use super::Refusal;
use super::World;
use super::sign_in::Login;
use super::sign_in::SignedIn;
use super::sign_in::whole_seconds;

/// After this many wrong passwords an account has to wait.
const MAX_WRONG_PASSWORDS: u8 = 10;
const PASSWORD_WAIT: Duration = Duration::from_secs(300);
/// What every account says of its password.
const PASSWORD_HINT: &str = "sandbox";

#[derive(Clone, Copy, Debug)]
pub(super) struct WrongPasswords {
    count: u8,
    until: Timestamp,
}

/// What a client needs to prove that it knows the password.
#[derive(Clone, Debug)]
pub(crate) struct PasswordInfo {
    pub(crate) challenge: Option<PasswordChallenge>,
}

/// The salts and the challenge of an account that has a password.
#[derive(Clone, Debug)]
pub(crate) struct PasswordChallenge {
    pub(crate) salt1: Vec<u8>,
    pub(crate) salt2: Vec<u8>,
    pub(crate) id: i64,
    pub(crate) public: Vec<u8>,
    pub(crate) hint: String,
}

impl World {
    /// `account.getPassword`: a fresh challenge each time; an earlier one is void.
    pub(crate) fn password_info(&mut self, device: DeviceId) -> Result<PasswordInfo, Refusal> {
        let account = self.account_for_password(device).ok_or_else(|| self.why_unregistered(device))?;
        let Some(verifier) = self.accounts.get(&account).and_then(Account::password).cloned() else {
            return Ok(PasswordInfo { challenge: None });
        };
        let challenge = verifier.challenge(&self.ids);
        let info = PasswordChallenge {
            salt1: verifier.salt1,
            salt2: verifier.salt2,
            id: challenge.id,
            public: challenge.public.clone(),
            hint: PASSWORD_HINT.to_owned(),
        };
        if let Some(device) = self.devices.get_mut(&device) {
            device.challenge = Some(challenge);
        }
        self.keep_device(device);
        Ok(PasswordInfo { challenge: Some(info) })
    }

    /// `auth.checkPassword`. A challenge is good for one answer.
    pub(crate) fn check_password(
        &mut self,
        device: DeviceId,
        challenge_id: i64,
        a: &[u8],
        m1: &[u8],
        now: Timestamp,
    ) -> Result<SignedIn, Refusal> {
        let account = self.account_for_password(device).ok_or_else(|| self.why_unregistered(device))?;
        if let Some(wrong) = self.wrong_passwords.get(&account).copied()
            && wrong.count >= MAX_WRONG_PASSWORDS
        {
            let rest = wrong.until.since(now);
            if rest > Duration::ZERO {
                return Err(Refusal::FloodWait(whole_seconds(rest)));
            }
            self.wrong_passwords.remove(&account);
        }
        let verifier = self.accounts.get(&account).and_then(Account::password).cloned();
        let challenge = self
            .devices
            .get_mut(&device)
            .and_then(|device| device.challenge.take_if(|open| open.id == challenge_id));
        self.keep_device(device);
        let (Some(verifier), Some(challenge)) = (verifier, challenge) else {
            return Err(Refusal::ChallengeInvalid);
        };
        if !verifier.check(&challenge, a, m1) {
            let wrong =
                self.wrong_passwords.entry(account).or_insert(WrongPasswords { count: 0, until: now });
            wrong.count = wrong.count.saturating_add(1);
            wrong.until = now.plus(PASSWORD_WAIT);
            return Err(Refusal::PasswordInvalid);
        }
        self.wrong_passwords.remove(&account);
        Ok(self.authorise(device, account))
    }

    fn account_for_password(&self, device: DeviceId) -> Option<AccountId> {
        let device = self.devices.get(&device)?;
        let waiting = device.login.as_ref().and_then(Login::waits_for_password);
        waiting.or(device.account)
    }
}
