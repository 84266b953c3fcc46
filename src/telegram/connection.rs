//! One grammers pool and the task that runs it: raw calls with a time limit, without retries, traced without secrets.
//! A connection that has failed or whose task has died is at its end; `account` builds the next.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use grammers_mtsender::{ConnectionParams, InvocationError, NoRetries, SenderPool, SenderPoolHandle};
use grammers_session::storages::ErasedSession;
use grammers_session::updates::UpdatesLike;
use grammers_tl_types as tl;
use tl::Deserializable as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::errors::TelegramError;
use super::errors::from_invocation;
use super::pool_session::PoolSession;
use super::session::LiveSession;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;

/// Updates that may wait for their reader; grammers drops what does not fit.
const UPDATES_CAPACITY: usize = 4096;
/// How long a polite goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long after its end nothing of a pool has a socket any more. Real time.
const CLOSING: Duration = Duration::from_millis(50);

/// A pool of one account: its own, because one silent data centre blocks a whole pool.
#[derive(Debug)]
pub(super) struct Connection {
    pool: Pool,
    session: Arc<PoolSession>,
    /// Has the pool's task end at once.
    aborted: CancellationToken,
    ended: CancellationToken,
    opened: Instant,
}

/// grammers' handle has no `Debug`.
struct Pool(SenderPoolHandle);

impl std::fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Pool")
    }
}

/// Tells, when it goes, that the connection is closed.
struct Closed(Arc<PoolSession>);

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.mark_closed();
    }
}

/// What the reader of updates needs of a connection.
pub(super) struct UpdatesEnd {
    pub(super) handle: SenderPoolHandle,
    pub(super) session: Arc<ErasedSession>,
    pub(super) updates: mpsc::Receiver<UpdatesLike>,
}

impl Connection {
    /// A connection that dials at the first call.
    /// `proxy_url` is [`super::Proxy::resolved_url`].
    pub(super) fn open(
        session: Arc<LiveSession>,
        settings: &Settings,
        proxy_url: Option<String>,
        tasks: &Tasks,
    ) -> (Self, UpdatesEnd) {
        // Literal: `Default` starts programs to find out what machine this is.
        let parameters = ConnectionParams {
            device_model: settings.device_model.clone(),
            system_version: std::env::consts::OS.to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            system_lang_code: "en".to_owned(),
            lang_code: "en".to_owned(),
            proxy_url,
            use_ipv6: false,
            retry_policy: Box::new(NoRetries),
            updates_channel_capacity: NonZeroUsize::new(UPDATES_CAPACITY).unwrap_or(NonZeroUsize::MIN),
            __non_exhaustive: (),
        };
        let session = Arc::new(PoolSession::new(session));
        let pool = SenderPool::with_configuration(Arc::clone(&session), settings.api_id, parameters);
        let end = UpdatesEnd {
            handle: pool.handle.thin.clone(),
            session: Arc::clone(&pool.handle.session),
            updates: pool.updates,
        };
        let ended = CancellationToken::new();
        let aborted = CancellationToken::new();
        let (goes_with_the_runner, stop) = (ended.clone().drop_guard(), aborted.clone());
        let (runner, closed) = (pool.runner, Closed(Arc::clone(&session)));
        tasks.spawn("mtproto", async move {
            let closed = closed; // also when the runner panics
            {
                let _ended = goes_with_the_runner;
                tokio::select! { () = runner.run() => {}, () = stop.cancelled() => {} }
            }
            // Sockets are with tasks of the pool's own, which its end only tells to end.
            network_sleep(CLOSING).await;
            drop(closed);
        });
        let (pool, opened) = (Pool(pool.handle.thin), Instant::now());
        let connection = Self { pool, session, aborted, ended, opened };
        (connection, end)
    }

    /// Calls a method in the home data centre and waits at most `limit`.
    pub(super) async fn invoke<R>(&self, request: &R, limit: Duration) -> Result<R::Return, TelegramError>
    where
        R: tl::RemoteCall + Sync,
    {
        let dc = self.session.live().home_dc();
        let had_key = self.session.live().has_key(dc);
        let body = request.to_bytes();
        let method = body.first_chunk().map_or("?", |id| tl::name_for_id(u32::from_le_bytes(*id)));
        let started = Instant::now();
        let answer = tokio::time::timeout(limit, self.pool.0.raw_invoke_in_dc(dc, body)).await;
        // An error that Telegram states says nothing against the connection.
        let answered = matches!(answer, Ok(Ok(_) | Err(InvocationError::Rpc(_))));
        let answer = match answer {
            Ok(answer) => answer
                .and_then(|body| R::Return::from_bytes(&body).map_err(InvocationError::from))
                .map_err(|error| from_invocation(error, had_key)),
            Err(_) => Err(TelegramError::Unreachable(format!("no answer in {} s", limit.as_secs_f32()))),
        };
        if !answered && answer.as_ref().is_err_and(TelegramError::is_unreachable) {
            // The next call gets another connection.
            self.ended.cancel();
            self.abort();
        }
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(TelegramError::FloodWait(_)) => {
                metrics::counter!("connector_flood_waits_total", "method" => method).increment(1);
                "flood"
            }
            Err(TelegramError::Unreachable(_)) => "unreachable",
            Err(_) => "error",
        };
        metrics::counter!("connector_telegram_calls_total", "method" => method, "outcome" => outcome)
            .increment(1);
        metrics::histogram!("connector_telegram_call_seconds").record(started.elapsed().as_secs_f64());
        let error = answer.as_ref().err().map(tracing::field::display);
        tracing::debug!(
            target: "telegram_connector::telegram::calls",
            method, dc, ms = started.elapsed().as_millis(), error,
            "called Telegram"
        );
        answer
    }

    /// Has Telegram close the connection after `delay` seconds, unless the next such ping comes first
    /// (`ping_delay_disconnect`).
    pub(super) async fn ping_delay_disconnect(
        &self,
        delay: u64,
        limit: Duration,
    ) -> Result<(), TelegramError> {
        let disconnect_delay = i32::try_from(delay).unwrap_or(i32::MAX);
        let ping =
            tl::functions::PingDelayDisconnect { ping_id: i64::from(disconnect_delay), disconnect_delay };
        self.invoke(&ping, limit).await.map(|_: tl::enums::Pong| ())
    }

    /// What of it the lease must know, see `tether`.
    pub(super) fn session(&self) -> &PoolSession {
        &self.session
    }

    /// How long ago it was opened; it may have been dialled later.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Drops the connection to a data centre that is no longer home.
    pub(super) fn leave(&self, dc: i32) {
        self.pool.0.disconnect_from_dc(dc);
    }

    /// Resolves when the pool's task has ended, however it ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Ends the pool: politely, then by force, because a pool stuck in dialling hears nothing.
    pub(super) async fn close(&self) {
        self.pool.0.quit();
        if tokio::time::timeout(GOODBYE, self.ended()).await.is_err() {
            self.abort();
        }
    }

    /// Ends the pool at once.
    pub(super) fn abort(&self) {
        self.aborted.cancel();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.abort();
    }
}
