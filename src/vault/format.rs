//! The bytes of an object: `TGCS`, format version, mode, then sealed JSON of a session and of the epoch it was written in.

use zeroize::Zeroizing;

use super::Vault;
use super::VaultError;
use super::error::Trouble;
use crate::domain::account::Mode;
use crate::domain::account::TelegramSession;
use crate::domain::seal::UnsealError;

const MAGIC: &[u8; 4] = b"TGCS";
/// The session with its epoch; before there were epochs, the session alone.
const FORMAT: u8 = 2;
const WITHOUT_EPOCH: u8 = 1;

/// What is sealed in an object.
#[derive(serde::Deserialize)]
pub(super) struct Kept {
    /// In which epoch it was written; zero before there were leases.
    pub(super) epoch: u64,
    pub(super) session: TelegramSession,
}

#[derive(serde::Serialize)]
struct KeptRef<'a> {
    epoch: u64,
    session: &'a TelegramSession,
}

impl Vault {
    /// Sealed bytes are bound to the object's name and mode, so one cannot be passed off as another.
    fn context(&self, mode: Mode) -> String {
        format!("vault/{mode}/{}", self.name)
    }

    pub(super) fn encode(&self, session: &TelegramSession) -> Result<Vec<u8>, VaultError> {
        let kept = KeptRef { epoch: self.epoch().unwrap_or_default(), session };
        let json = serde_json::to_vec(&kept)
            .map(Zeroizing::new)
            .map_err(|error| self.error(Trouble::Unavailable(error.into())))?;
        let mut object = MAGIC.to_vec();
        object.push(FORMAT);
        object.push(match self.mode {
            Mode::Telegram => b't',
            Mode::Sandbox => b's',
        });
        object.extend(self.sealer.seal(&self.context(self.mode), &json));
        Ok(object)
    }

    pub(super) fn decode(&self, object: &[u8]) -> Result<Kept, VaultError> {
        let damaged = || VaultError::Damaged { place: self.place() };
        let rest = object.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let ([format @ (FORMAT | WITHOUT_EPOCH), mode], sealed) =
            rest.split_first_chunk::<2>().ok_or_else(damaged)?
        else {
            return Err(damaged());
        };
        let found = match mode {
            b't' => Mode::Telegram,
            b's' => Mode::Sandbox,
            _ => return Err(damaged()),
        };
        if found != self.mode {
            return Err(VaultError::OtherMode { place: self.place(), found, expected: self.mode });
        }
        let json = self.sealer.open(&self.context(found), sealed).map_err(|error| match error {
            UnsealError::OtherKey { sealed_with, configured } => {
                VaultError::OtherKey { place: self.place(), sealed_with, configured }
            }
            UnsealError::Damaged => damaged(),
        })?;
        let kept = if *format == FORMAT {
            serde_json::from_slice(&json)
        } else {
            serde_json::from_slice(&json).map(|session| Kept { epoch: 0, session })
        };
        kept.map_err(|_| damaged())
    }
}
