//! Whether Telegram can be reached and what time it is there, without an account: one unauthenticated exchange
//! (`req_pq_multi`), for `doctor`.

use std::io;
use std::time::Duration;

use super::Settings;
use super::key_exchange;
use super::proxy;
use crate::domain::clock::Clock as _;
use crate::domain::ids::Ids;
use crate::lifecycle::SystemClock;

/// What one exchange told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reachability {
    /// How long it took, dialling included.
    pub took: Duration,
    /// How far our clock is ahead of Telegram's, in seconds. MTProto bears 300 behind and 30 ahead.
    pub clock_ahead_s: i64,
}

/// Dials the data centre that a fresh session starts in and makes one unauthenticated exchange.
///
/// # Errors
/// The network fails, time runs out, or what answers is not this network's data centre.
pub async fn reach(settings: &Settings, ids: &Ids) -> io::Result<Reachability> {
    let home = crate::domain::account::TelegramSession::default().home_dc;
    let option = settings.network.dc_option(home, None);
    let option = option.ok_or_else(|| io::Error::other("this network has no data centre 2"))?;
    let begun = SystemClock.now();
    let exchange = async {
        let stream = proxy::dial(option.ipv4, settings.proxy.as_ref()).await?;
        key_exchange::server_time(stream, settings.network.rsa_key(), ids).await
    };
    let server_time = tokio::time::timeout(settings.call_limit, exchange)
        .await
        .map_err(|_| io::Error::other("no answer within the time limit"))??;
    let now = SystemClock.now();
    Ok(Reachability { took: now.since(begun), clock_ahead_s: now.as_secs() - server_time })
}
