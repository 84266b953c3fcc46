//! Signing in without a code: bots by their token, a person's device at another data centre by a ticket
//! (<https://core.telegram.org/api/datacenter>).

use subtle::ConstantTimeEq;

use super::AccountId;
use super::DATA_CENTRES;
use super::DeviceId;
use super::Nature;
use super::Refusal;
use super::World;
use super::sign_in::SignedIn;

impl World {
    /// `auth.importBotAuthorization`
    pub(crate) fn sign_in_bot(&mut self, device: DeviceId, token: &str) -> Result<SignedIn, Refusal> {
        let bot = token
            .split_once(':')
            .and_then(|(id, _)| id.parse().ok())
            .and_then(|id| self.accounts.get(&AccountId(id)))
            .filter(|account| match &account.nature {
                Nature::Bot { token: own } => own.as_bytes().ct_eq(token.as_bytes()).into(),
                Nature::Person { .. } => false,
            })
            .ok_or(Refusal::TokenInvalid)?;
        let (id, dc) = (bot.id, bot.dc);
        if self.devices.get(&device).is_some_and(|device| device.dc != dc) {
            return Err(Refusal::UserMigrate(dc));
        }
        Ok(self.authorise(device, id))
    }

    /// `auth.exportAuthorization`: a ticket with which a device of this account signs in at another data centre.
    pub(crate) fn export(&mut self, account: AccountId, dc: i32) -> Result<Vec<u8>, Refusal> {
        if !DATA_CENTRES.contains(&dc) {
            return Err(Refusal::DataCentreInvalid);
        }
        let ticket = self.ids.bytes::<32>().to_vec();
        self.exports.insert((account, dc), ticket.clone());
        Ok(ticket)
    }

    /// `auth.importAuthorization`: a ticket is good once.
    pub(crate) fn import(
        &mut self,
        device: DeviceId,
        account: i64,
        ticket: &[u8],
    ) -> Result<SignedIn, Refusal> {
        let dc = self.devices.get(&device).map_or(0, |device| device.dc);
        let account = AccountId(account);
        let known = self.exports.get(&(account, dc)).is_some_and(|known| known.ct_eq(ticket).into());
        if !known {
            return Err(Refusal::ImportInvalid);
        }
        self.exports.remove(&(account, dc));
        Ok(self.authorise(device, account))
    }
}
