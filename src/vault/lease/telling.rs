//! What a change of owner, and a try to be one, are told to: the log, the audit log, metrics.

use super::Lease;
use super::Ownership;
use super::Taken;
use crate::audit;
use crate::audit::Audit;
use crate::audit::OwnerChange;
use crate::audit::Who;
use crate::vault::error::Trouble;

impl Lease {
    pub(super) fn count(&self, outcome: &Result<Taken, Trouble>) {
        let outcome = match outcome {
            Ok(Taken::Ours { .. }) => "held",
            Ok(Taken::Theirs { .. }) => "standby",
            Err(_) => "failed",
        };
        let session = self.0.session.clone();
        metrics::counter!("connector_lease_attempts_total", "session" => session, "outcome" => outcome)
            .increment(1);
    }

    fn tell_audit(&self, before: &Ownership, now: &Ownership) {
        let owned = |ownership: &Ownership| match ownership {
            Ownership::Held { epoch } => Some(*epoch),
            Ownership::Unknown(_) | Ownership::Standby(_) | Ownership::Lapsed => None,
        };
        let (change, epoch) = match (owned(before), owned(now)) {
            (before, Some(epoch)) if before != Some(epoch) => (OwnerChange::Acquired, epoch),
            (Some(epoch), None) => (OwnerChange::Lost, epoch),
            _ => return,
        };
        self.audit(change, epoch);
    }

    pub(super) fn audit(&self, change: OwnerChange, epoch: u64) {
        let (session, owner) = (self.0.session.as_str(), self.0.terms.instance.as_str());
        audit::record(&Who::Service, &Audit::SessionOwner { session, owner, epoch, change });
    }

    /// Announces a change of owner, once.
    pub(super) fn become_(&self, now: &Ownership) {
        let session = self.0.session.as_str();
        let before = self.0.ownership.borrow().clone();
        if before == *now {
            return;
        }
        self.0.ownership.send_replace(now.clone());
        self.tell_audit(&before, now);
        match now {
            Ownership::Held { epoch } => tracing::info!(session, epoch, "this process owns the session"),
            Ownership::Standby(holder) => {
                tracing::info!(
                    session,
                    epoch = holder.epoch,
                    owner = holder.url,
                    "another process owns the session"
                );
            }
            Ownership::Lapsed => {
                tracing::error!(
                    session,
                    "the lease has ended before it could be renewed: the session is not used"
                );
            }
            Ownership::Unknown(_) => {}
        }
        let held = matches!(now, Ownership::Held { .. });
        metrics::gauge!("connector_lease_held", "session" => session.to_owned())
            .set(f64::from(u8::from(held)));
        metrics::counter!("connector_lease_changes_total").increment(1);
    }
}
