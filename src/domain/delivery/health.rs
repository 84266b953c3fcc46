//! When a receiver is given up: it says that it is gone, or it has only failed for five days (contract, section 3).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Attempt;
use crate::domain::clock::Timestamp;
use crate::domain::project::Project;

/// How long a receiver may fail.
const PATIENCE: Duration = Duration::from_secs(5 * 24 * 3600);
/// Failures further apart than this are not one failure: nobody knows what would have happened in between.
const GAP: Duration = Duration::from_secs(24 * 3600);
/// How exactly the last failure is remembered.
const GRAIN: Duration = Duration::from_secs(3600);

/// A receiver that has only failed for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failing {
    /// Where: another URL is another receiver.
    pub url: String,
    /// When it began.
    pub since: Timestamp,
    /// A failure that is at most an hour older than the last.
    pub last: Timestamp,
}

/// What an attempt means for the project's webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing that is worth writing down.
    Nothing,
    /// It works again.
    Recovered,
    /// It fails.
    Fails(Failing),
    /// It is switched off, and why: for its owner.
    SwitchOff(String),
}

/// What `attempt` at `url` means for `project`, as it is now.
pub fn judge(project: &Project, url: &str, attempt: &Attempt) -> Judgement {
    if project.webhook() != Some(url) {
        // Its owner has changed it meanwhile.
        return Judgement::Nothing;
    }
    let failing = project.webhook_failing.as_ref().filter(|failing| failing.url == url);
    if attempt.succeeded() {
        return if failing.is_some() { Judgement::Recovered } else { Judgement::Nothing };
    }
    let again = "set webhook_url again to switch it on";
    if attempt.is_gone() {
        return Judgement::SwitchOff(format!("the receiver answered 410 Gone; {again}"));
    }
    let now = attempt.at;
    let Some(failing) = failing.filter(|failing| now.since(failing.last) <= GAP) else {
        return Judgement::Fails(Failing { url: url.to_owned(), since: now, last: now });
    };
    if now.since(failing.since) >= PATIENCE {
        return Judgement::SwitchOff(format!("nothing could be delivered for 5 days; {again}"));
    }
    if now.since(failing.last) >= GRAIN {
        return Judgement::Fails(Failing { last: now, ..failing.clone() });
    }
    Judgement::Nothing
}

impl Judgement {
    /// Writes it down.
    pub fn apply(self, project: &mut Project) {
        match self {
            Self::Nothing => {}
            Self::Recovered => project.webhook_failing = None,
            Self::Fails(failing) => project.webhook_failing = Some(failing),
            Self::SwitchOff(why) => {
                project.webhook_failing = None;
                project.webhook_disabled = Some(why);
            }
        }
    }
}
