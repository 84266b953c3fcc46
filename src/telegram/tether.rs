//! Ties a connection to its session's lease. Telegram destroys a key that is used from two places, so before a lease can
//! end Telegram itself must have closed the owner's connection: an owner that is paused closes nothing. On every renewal
//! the account therefore sends `ping_delay_disconnect` with a delay shorter than the rest of its lease. Between dialling
//! and the first of these Telegram does not know yet: for as long the lease is exposed (`vault/lease/exposure.rs`).

use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::connection::Connection;
use super::errors::TelegramError;
use crate::lifecycle::boot_time;
use crate::lifecycle::network_sleep;
use crate::vault::Lease;
use crate::vault::Ownership;

/// grammers sends a `ping_delay_disconnect` of its own, with this delay, when a connection is a minute old, and every
/// minute from then on; it overrides ours until the next.
const PING_OF_GRAMMERS: Duration = Duration::from_secs(75);
/// From this age on a connection may have sent it.
const FIRST_PING_OF_GRAMMERS: Duration = Duration::from_secs(55);
/// How often Telegram is told when to close a connection, until it has heard it in time: dialling takes the first.
const TRIES: usize = 3;
/// How often the rest of the lease is looked at. Real time.
const BEAT: Duration = Duration::from_secs(1);

impl Account {
    /// Why the session's lease does not let this account connect now.
    pub(super) fn not_owned(&self) -> Option<TelegramError> {
        let lease = self.live_session().lease()?;
        lease.rest().is_none().then(not_owned)
    }

    /// Resolves when the session's lease lets this account connect.
    pub(super) async fn owned(&self) {
        let Some(lease) = self.live_session().lease() else { return };
        let mut ownership = lease.ownership();
        while lease.rest().is_none() {
            tokio::select! { _ = ownership.changed() => {}, () = network_sleep(beat(lease)) => {} }
        }
    }

    /// Has Telegram close the connection before the lease ends, whatever becomes of this process.
    pub(super) async fn tie(&self, connection: &Connection) -> Result<(), TelegramError> {
        let Some(lease) = self.live_session().lease() else { return Ok(()) };
        match lease.rest().ok_or_else(not_owned)? {
            Duration::MAX => Ok(()), // a lock ends with its process
            _ => self.tell(connection, lease).await,
        }
    }

    async fn tell(&self, connection: &Connection, lease: &Lease) -> Result<(), TelegramError> {
        let session = connection.session();
        for _ in 0..TRIES {
            let rest = lease.rest().filter(|rest| rest.as_secs() > 0).ok_or_else(not_owned)?;
            let (dial, begun) = (session.dials(), boot_time());
            // Silence must not keep it from being ended in time.
            let limit = self.settings().call_limit.min(rest);
            connection.ping_delay_disconnect(rest.as_secs(), limit).await?;
            // It may have left late, and then says too much; or for a connection that is gone.
            if session.dials() == dial && boot_time().saturating_sub(begun) <= lease.lasts() / 10 {
                session.mark_tied(dial);
                return Ok(());
            }
        }
        Err(TelegramError::Unreachable("Telegram answers too late to be told when to close".to_owned()))
    }

    /// As [`Account::tie`], where that has not been done since the connection was dialled, or else the connection ends: calls
    /// are also made while nobody keeps it tied.
    pub(super) async fn be_tied(&self, connection: &Arc<Connection>) -> Result<(), TelegramError> {
        if connection.session().is_tied() {
            return Ok(());
        }
        let tied = self.tie(connection).await;
        if tied.is_err() {
            self.discard(connection).await;
        }
        tied
    }

    /// Keeps whatever connection the account has tied, and ends one that must not go on. Goes on for as long as the
    /// account does, because calls are also made while it waits to connect again.
    pub(super) async fn stay_tied(&self) {
        let Some(lease) = self.live_session().lease() else { return std::future::pending().await };
        let mut renewals = lease.renewals();
        loop {
            let tie = tokio::select! {
                renewed = renewals.changed() => renewed.is_ok(),
                () = self.live_session().dialled() => true,
                () = network_sleep(beat(lease)) => false,
            };
            let Some(connection) = self.present_connection().await else { continue };
            let why = match (lease.rest(), lease.ends_in()) {
                (Some(rest), Some(_)) if rest.as_secs() == 0 => Some(not_owned()),
                // The new one is as good, and does not send its first for a minute.
                (Some(_), Some(end))
                    if end < PING_OF_GRAMMERS + 3 * beat(lease)
                        && connection.age() > FIRST_PING_OF_GRAMMERS =>
                {
                    let why = "the connection is made anew, because its own pings would outlast the lease";
                    Some(TelegramError::Unreachable(why.to_owned()))
                }
                (Some(_), Some(_)) if tie => self.tie(&connection).await.err(),
                (Some(_), Some(_)) => None,
                (None, _) | (_, None) => Some(not_owned()),
            };
            if let Some(error) = why {
                tracing::info!(%error, "a connection to Telegram is ended");
                self.discard(&connection).await;
            }
        }
    }
}

/// Resolves when another process has the session, or has had it since `epoch`.
pub(super) async fn lost(lease: Option<&Lease>, epoch: u64) {
    let Some(lease) = lease else { return std::future::pending().await };
    let mut ownership = lease.ownership();
    if ownership.wait_for(|now| is_lost(now, epoch)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Whether what was owned in `epoch` is no longer.
pub(super) fn is_lost(now: &Ownership, epoch: u64) -> bool {
    match now {
        Ownership::Standby(_) => true,
        Ownership::Held { epoch: now } => *now != epoch,
        Ownership::Unknown(_) | Ownership::Lapsed => false,
    }
}

fn beat(lease: &Lease) -> Duration {
    BEAT.min(lease.lasts() / 12)
}

fn not_owned() -> TelegramError {
    TelegramError::Unreachable("this process does not hold the session's lease now".to_owned())
}
