//! When the service is killed: at any time, right after something was acknowledged, or in the middle of a call to
//! Telegram. And the life that ends so: one process and what is asked of it meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use telegram_connector::domain::ids::Ids;
use telegram_connector::lifecycle::network_sleep;
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Client, Process, World};

/// How long a moment is waited for before the process is killed anyway.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// Something that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    Created,
    Opened,
    Prompted,
    Tapped,
    Learned,
    Consumed,
    CancelledByServer,
    WebhookCame,
    CodeAsked,
    SignedIn,
    SignedOut,
}

const MOMENTS: [Moment; 11] = [
    Moment::Created,
    Moment::Opened,
    Moment::Prompted,
    Moment::Tapped,
    Moment::Learned,
    Moment::Consumed,
    Moment::CancelledByServer,
    Moment::WebhookCame,
    Moment::CodeAsked,
    Moment::SignedIn,
    Moment::SignedOut,
];

/// Calls to Telegram in whose middle it is worth dying.
const CALLS: [&str; 7] = [
    "messages.sendMessage",
    "messages.editMessage",
    "messages.setBotCallbackAnswer",
    "updates.getDifference",
    "auth.sendCode",
    "auth.signIn",
    "auth.logOut",
];

/// When a process is to be killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// So many milliseconds after it was started, whether it serves by then or not.
    Starting(u32),
    /// So many milliseconds after it began to serve.
    After(u32),
    /// Right after the nth acknowledgement of this kind.
    On(Moment, u32),
    /// While Telegram holds this call up, and has not carried it out.
    Held(&'static str),
    /// When Telegram has carried this call out, and cut the connection instead of answering.
    Unanswered(&'static str),
    /// Not at all.
    Never,
}

impl Plan {
    /// One of all, as chance will have it.
    pub(super) fn any(ids: &Ids) -> Self {
        let below = |limit: usize| usize::try_from(ids.below(u32::try_from(limit).unwrap())).unwrap();
        match ids.below(20) {
            0..2 => Self::Starting(ids.below(250)),
            2..7 => Self::After(ids.below(400)),
            7..15 => Self::On(MOMENTS[below(MOMENTS.len())], 1 + ids.below(3)),
            15..18 => Self::Held(CALLS[below(CALLS.len())]),
            _ => Self::Unanswered(CALLS[below(CALLS.len())]),
        }
    }

    /// What it is called in the table of moments.
    pub(super) fn name(self) -> String {
        match self {
            Self::Starting(_) => "while starting".to_owned(),
            Self::After(_) => "at any time".to_owned(),
            Self::On(moment, _) => format!("right after {moment:?}"),
            Self::Held(call) => format!("{call} held up"),
            Self::Unanswered(call) => format!("{call} not answered"),
            Self::Never => "never".to_owned(),
        }
    }

    /// Has Telegram do its part.
    pub(super) async fn prepare(self, world: &World) {
        match self {
            Self::Held(call) => world.hold(call).await,
            Self::Unanswered(call) => {
                world.fault(json!({ "cut_instead_of_answer": call, "times": 1 })).await;
            }
            Self::Starting(_) | Self::After(_) | Self::On(..) | Self::Never => {}
        }
    }
}

/// A process that serves, and will die.
pub(super) struct Life {
    process: Mutex<Option<Process>>,
    pub(super) client: Client,
    pub(super) dead: CancellationToken,
    plan: Plan,
    /// Moments count from here on.
    begun: AtomicBool,
    seen: AtomicU32,
    /// Whether the planned moment came, or it was killed because it did not.
    pub(super) as_planned: AtomicBool,
    /// What it had printed.
    pub(super) log: Mutex<String>,
}

impl Life {
    pub(super) fn new(process: Process, plan: Plan) -> Self {
        Self {
            client: process.client.clone(),
            process: Mutex::new(Some(process)),
            dead: CancellationToken::new(),
            plan,
            begun: AtomicBool::new(false),
            seen: AtomicU32::new(0),
            as_planned: AtomicBool::new(false),
            log: Mutex::default(),
        }
    }

    /// kill -9; once.
    pub(super) fn kill(&self, as_planned: bool) {
        if let Some(process) = self.process.lock().unwrap().take() {
            *self.log.lock().unwrap() = process.kill();
            self.as_planned.store(as_planned, Ordering::SeqCst);
            self.dead.cancel();
        }
    }

    /// Something was acknowledged.
    pub(super) fn happened(&self, moment: Moment) {
        if let Plan::On(wanted, nth) = self.plan
            && wanted == moment
            && self.begun.load(Ordering::SeqCst)
            && self.seen.fetch_add(1, Ordering::SeqCst) + 1 == nth
        {
            self.kill(true);
        }
    }

    /// Kills it when its time has come.
    pub(super) async fn run(&self, world: &World) {
        self.begun.store(true, Ordering::SeqCst);
        match self.plan {
            Plan::Never => self.dead.cancelled().await,
            Plan::Starting(_) => self.kill(true),
            Plan::After(millis) => {
                network_sleep(Duration::from_millis(u64::from(millis))).await;
                self.kill(true);
            }
            Plan::On(..) => {
                tokio::select! { () = self.dead.cancelled() => {}, () = network_sleep(LONG_ENOUGH) => {} }
                self.kill(false);
            }
            Plan::Held(_) | Plan::Unanswered(_) => {
                let spent = async {
                    while world.sandbox.get("/api/faults").await.json() != json!([]) {
                        network_sleep(Duration::from_millis(2)).await;
                    }
                };
                let came = tokio::select! { () = spent => true, () = network_sleep(LONG_ENOUGH) => false };
                self.kill(came);
                world.heal().await;
            }
        }
    }

    /// An answer, or `None` because it died. Whoever is alive answers.
    pub(super) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Option<Answer> {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        let body = body.map(Value::to_string);
        let failure = match self.client.try_send(method, path, &headers, body.as_deref()).await {
            Ok(answer) => return Some(answer),
            Err(failure) => failure,
        };
        // The kill may be seen here first.
        let died = tokio::time::timeout(Duration::from_secs(60), self.dead.cancelled()).await;
        assert!(died.is_ok(), "{method} {path} failed and nobody was killed: {failure:?}");
        None
    }

    /// As [`Life::call`], of something that must go well.
    pub(super) async fn ask(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Option<Value> {
        let answer = self.call("POST", path, headers, Some(body)).await?;
        assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
        Some(answer.json())
    }

    /// What is awaited, unless it dies first.
    pub(super) async fn or_death<T>(&self, awaited: impl Future<Output = T> + Send) -> Option<T> {
        tokio::select! { biased; () = self.dead.cancelled() => None, came = awaited => Some(came) }
    }
}
