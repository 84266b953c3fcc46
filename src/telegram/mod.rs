//! Hides MTProto: an account's session, its supervised connection, what is read from it and said over it, the raw calls
//! of the sign-in, and custody of the session. The only module that names grammers (the sandbox has its own use of its
//! types). Callers talk to [`Gateway`] about the user account, to [`Bots`] about bots, and to the [`Account`]s of both;
//! they see `domain` types, [`AccountEvent`]s and [`TelegramError`]s, never a TL object.

mod account;
mod answers;
mod bot;
mod bot_tokens;
mod bots;
mod connection;
mod conversation;
mod custody;
mod ending;
mod errors;
mod gateway;
mod gathering;
mod key_exchange;
mod means;
mod network;
mod offering;
mod ownership;
mod people;
mod pool_session;
mod proxy;
mod reachability;
mod reader;
mod rereading;
mod sending;
mod session;
mod sign_in;
mod tether;
mod text;
mod update;
mod watchdog;

use std::time::Duration;

pub use self::account::Account;
pub use self::account::Status;
pub use self::answers::AccountState;
pub use self::answers::CodeRequest;
pub use self::answers::Custody;
pub use self::answers::GatewayError;
pub use self::answers::Submission;
pub use self::bots::Bots;
pub use self::conversation::AccountEvent;
pub use self::conversation::Button;
pub use self::conversation::EventSink;
pub use self::conversation::Keyboard;
pub use self::conversation::Outgoing;
pub use self::conversation::Peer;
pub use self::conversation::SharedContact;
pub use self::ending::Ending;
pub use self::errors::TelegramError;
pub use self::gateway::Gateway;
pub use self::network::BadRsaKey;
pub use self::network::Network;
pub use self::proxy::BadProxy;
pub use self::proxy::Proxy;
pub use self::reachability::Reachability;
pub use self::reachability::reach;
pub use self::text::Text;
pub use crate::domain::bot_token::BadToken;
use crate::domain::ids::Secret;

/// How to reach Telegram, and how patient to be. Real time: the movable clock has no say here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `TELEGRAM_API_ID`.
    pub api_id: i32,
    /// `TELEGRAM_API_HASH`.
    pub api_hash: Secret<String>,
    /// Which Telegram.
    pub network: Network,
    /// `TELEGRAM_PROXY`: what to dial through.
    pub proxy: Option<Proxy>,
    /// What the account's list of devices shows.
    pub device_model: String,
    /// Longest wait for one call, dialling included.
    pub call_limit: Duration,
    /// How often a quiet connection is checked.
    pub watchdog_interval: Duration,
    /// First and longest pause before a connection is built again.
    pub back_off: (Duration, Duration),
    /// How long changes of the update position may wait to be saved.
    pub save_delay: Duration,
}

impl Settings {
    /// Settings for `network` with the pauses of production.
    pub fn new(api_id: i32, api_hash: Secret<String>, network: Network) -> Self {
        Self {
            api_id,
            api_hash,
            network,
            proxy: None,
            device_model: "telegram-connector".to_owned(),
            call_limit: Duration::from_secs(20),
            watchdog_interval: Duration::from_secs(60),
            back_off: (Duration::from_secs(1), Duration::from_secs(60)),
            save_delay: Duration::from_secs(10),
        }
    }
}

/// Telegram's 2048-bit safe prime, for which 3 generates the right subgroup. Every data centre uses it, for keys and
/// for 2FA; a prime already checked need not be checked again (`core.telegram.org/mtproto/security_guidelines`).
fn known_prime() -> Vec<u8> {
    grammers_crypto::hex::from_hex(concat!(
        "c71caeb9c6b1c9048e6c522f70f13f73980d40238e3e21c14934d037563d930f",
        "48198a0aa7c14058229493d22530f4dbfa336f6e0ac925139543aed44cce7c37",
        "20fd51f69458705ac68cd4fe6b6b13abdc9746512969328454f18faf8c595f64",
        "2477fe96bb2a941d5bcd1d4ac8cc49880708fa9b378e3c4f3a9060bee67cf9a4",
        "a4a695811051907e162753b56b0f6b410dba74d8a84b2a14b3144e0ef1284754",
        "fd17ed950d5965b4b9dd46582db1178d169c6bc465b0d6ff9ca3928fef5b9ae4",
        "e418fc15e83ebea0f87fa9ff5eed70050ded2849f47bf959d956850ce929851f",
        "0d8115f635b105ee2e4e15d04b2454bf6f4fadf034b10403119cd8e3b92fcc5b",
    ))
}
