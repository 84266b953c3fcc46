//! Scripted misfortune: what the control API may order to go wrong, and how much of it is left. Kept in memory only;
//! a restart clears it.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::watch;

/// One order, in the shape of the control API. Without `times` it stays until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Fault {
    Error {
        method: String,
        error: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// Only calls of this account: a phone number or a bot's user name.
        #[serde(skip_serializing_if = "Option::is_none")]
        account: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        times: Option<NonZeroU32>,
    },
    Delay {
        method: String,
        delay_ms: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        times: Option<NonZeroU32>,
    },
    Disconnect {
        disconnect: Now,
    },
    /// Connections that are open never answer again, and look alive; new ones are as ever.
    Freeze {
        freeze: Now,
    },
    DisconnectEvery {
        disconnect_every: NonZeroU32,
    },
    Cut {
        cut_instead_of_answer: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        times: Option<NonZeroU32>,
    },
    Silent {
        silent: bool,
    },
    RefuseConnections {
        refuse_connections: bool,
    },
    Revoke {
        revoke: String,
    },
    Migrate {
        migrate: Migration,
    },
    Ban {
        ban: String,
    },
    ForgetKey {
        forget_key: String,
    },
    DropPushes {
        drop_pushes: NonZeroU32,
    },
    DifferenceSlice {
        difference_slice: NonZeroU32,
    },
    DifferenceTooLong {
        difference_too_long: NonZeroU32,
    },
    /// So many packets are refused for their salt, whatever it is.
    WrongSalt {
        wrong_salt: NonZeroU32,
    },
    WrongSessionId {
        wrong_session_id: bool,
    },
    SentCode {
        sent_code: SentCodeFault,
    },
    BadSrpPrime {
        bad_srp_prime: bool,
    },
}

/// The only time at which connections can be cut or frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Now {
    Now,
}

/// An account moves to another data centre.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Migration {
    pub(crate) phone: String,
    pub(crate) dc: i32,
}

/// What `auth.sendCode` answers next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SentCodeFault {
    #[serde(rename = "type")]
    pub(crate) answer: SentCodeAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<NonZeroU32>,
}

/// The answers of `auth.sendCode` that a sandbox does not give of its own accord, and two that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SentCodeAnswer {
    /// `auth.sentCodeTypeSetUpEmailRequired`
    EmailSetup,
    /// `auth.sentCodePaymentRequired`
    Payment,
    /// `auth.sentCodeTypeEmailCode`
    Email,
    /// `auth.sentCodeSuccess`: signed in without a code.
    Success,
    App,
    Sms,
}

/// What befalls one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallFate {
    pub(crate) delay: Duration,
    /// Answer with this error (code, name) and do nothing.
    pub(crate) error: Option<(i32, String)>,
    /// Carry it out, then cut the connection.
    pub(crate) cut: bool,
    /// Cut the connection without carrying it out.
    pub(crate) disconnect: bool,
}

impl Fault {
    /// Changes the fate of a call; whether it did.
    fn befall(&self, called: &str, is_caller: &impl Fn(&str) -> bool, fate: &mut CallFate) -> bool {
        let names = |wanted: &str| wanted == "*" || wanted == called;
        if let Self::Error { method, error, code, account, .. } = self
            && names(method)
            && fate.error.is_none()
            && account.as_deref().is_none_or(is_caller)
        {
            fate.error = Some((code.unwrap_or_else(|| error_code(error)), error.clone()));
            return true;
        }
        if let Self::Delay { method, delay_ms, .. } = self
            && names(method)
        {
            fate.delay += Duration::from_millis(u64::from(*delay_ms));
            return true;
        }
        if let Self::Cut { cut_instead_of_answer, .. } = self
            && names(cut_instead_of_answer)
        {
            fate.cut = true;
            return true;
        }
        false
    }
}

/// The orders that are in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    active: Mutex<Vec<Active>>,
    cleared: watch::Sender<()>,
}

#[derive(Debug)]
struct Active {
    fault: Fault,
    left: Option<u32>,
    calls: u32,
}

impl Faults {
    /// Puts an order in force. Switches with `false` take the same order back.
    pub(crate) fn add(&self, fault: Fault) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, switch) = match &fault {
            Fault::Error { times, .. } | Fault::Delay { times, .. } | Fault::Cut { times, .. } => {
                (*times, None)
            }
            Fault::SentCode { sent_code } => (sent_code.times, None),
            Fault::DropPushes { drop_pushes: times }
            | Fault::DifferenceTooLong { difference_too_long: times }
            | Fault::WrongSalt { wrong_salt: times } => (Some(*times), None),
            Fault::Silent { silent: on }
            | Fault::RefuseConnections { refuse_connections: on }
            | Fault::BadSrpPrime { bad_srp_prime: on } => (None, Some(*on)),
            Fault::WrongSessionId { wrong_session_id: on } => (NonZeroU32::new(1), Some(*on)),
            Fault::DisconnectEvery { .. } | Fault::DifferenceSlice { .. } => (None, Some(true)),
            Fault::Disconnect { .. }
            | Fault::Freeze { .. }
            | Fault::Revoke { .. }
            | Fault::Migrate { .. }
            | Fault::Ban { .. }
            | Fault::ForgetKey { .. } => return,
        };
        if let Some(on) = switch {
            let kind = std::mem::discriminant(&fault);
            active.retain(|other| std::mem::discriminant(&other.fault) != kind);
            if !on {
                return;
            }
        }
        active.push(Active { fault, left: left.map(NonZeroU32::get), calls: 0 });
    }

    /// The orders in force with what is left of them.
    pub(crate) fn list(&self) -> Vec<(Fault, Option<u32>)> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().map(|active| (active.fault.clone(), active.left)).collect()
    }

    /// Takes every order back.
    pub(crate) fn clear(&self) {
        self.active.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.cleared.send_replace(());
    }

    /// Becomes ready when every order is taken back. Subscribe first, then ask for a call's fate.
    pub(crate) fn clearing(&self) -> watch::Receiver<()> {
        self.cleared.subscribe()
    }

    /// What befalls a call of `method` by whomever `is_caller` knows; uses the orders up.
    pub(crate) fn on_call(&self, method: &str, is_caller: impl Fn(&str) -> bool) -> CallFate {
        let mut fate = CallFate::default();
        self.each(|active| {
            if let Fault::DisconnectEvery { disconnect_every } = active.fault {
                active.calls = active.calls.wrapping_add(1);
                fate.disconnect |= active.calls % disconnect_every == 0;
                return false;
            }
            active.fault.befall(method, &is_caller, &mut fate)
        });
        fate
    }

    /// Whether everything sent is to be swallowed.
    pub(crate) fn silent(&self) -> bool {
        self.any(|fault| matches!(fault, Fault::Silent { .. }))
    }

    /// Whether connections are closed as they come.
    pub(crate) fn refuse_connections(&self) -> bool {
        self.any(|fault| matches!(fault, Fault::RefuseConnections { .. }))
    }

    /// Whether `account.getPassword` answers an unknown prime.
    pub(crate) fn bad_srp_prime(&self) -> bool {
        self.any(|fault| matches!(fault, Fault::BadSrpPrime { .. }))
    }

    /// Whether this push is to be lost; uses the order up.
    pub(crate) fn drop_push(&self) -> bool {
        self.take(|fault| matches!(fault, Fault::DropPushes { .. }).then_some(())).is_some()
    }

    /// Whether the next difference is too long; uses the order up.
    pub(crate) fn difference_too_long(&self) -> bool {
        self.take(|fault| matches!(fault, Fault::DifferenceTooLong { .. }).then_some(())).is_some()
    }

    /// Whether this packet's salt is wrong; uses the order up.
    pub(crate) fn wrong_salt(&self) -> bool {
        self.take(|fault| matches!(fault, Fault::WrongSalt { .. }).then_some(())).is_some()
    }

    /// Whether the next message carries a wrong session id; uses the order up.
    pub(crate) fn wrong_session_id(&self) -> bool {
        self.take(|fault| matches!(fault, Fault::WrongSessionId { .. }).then_some(())).is_some()
    }

    /// What `auth.sendCode` is to answer; uses the order up.
    pub(crate) fn sent_code(&self) -> Option<SentCodeAnswer> {
        self.take(|fault| {
            if let Fault::SentCode { sent_code } = fault {
                return Some(sent_code.answer);
            }
            None
        })
    }

    /// How many updates one difference may hold.
    pub(crate) fn difference_slice(&self) -> Option<usize> {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().find_map(|active| {
            if let Fault::DifferenceSlice { difference_slice } = active.fault {
                return usize::try_from(difference_slice.get()).ok();
            }
            None
        })
    }

    fn any(&self, wanted: impl Fn(&Fault) -> bool) -> bool {
        let active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().any(|active| wanted(&active.fault))
    }

    /// The first order that fits, used up by one.
    fn take<T>(&self, fit: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut found = None;
        self.each(|active| {
            if found.is_none() {
                found = fit(&active.fault);
                return found.is_some();
            }
            false
        });
        found
    }

    /// Shows every order to `apply`, which says whether it was used; drops those with nothing left.
    fn each(&self, mut apply: impl FnMut(&mut Active) -> bool) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.retain_mut(|active| {
            if apply(active)
                && let Some(left) = &mut active.left
            {
                *left = left.saturating_sub(1);
            }
            active.left != Some(0)
        });
    }
}

/// The code that goes with an error's name (<https://core.telegram.org/api/errors>).
pub(crate) fn error_code(name: &str) -> i32 {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if ["AUTH_KEY_DUPLICATED", "SEND_CODE_UNAVAILABLE"].contains(&name) {
        406
    } else if name == "MESSAGE_AUTHOR_REQUIRED" {
        403
    } else if name.contains("_MIGRATE_") {
        303
    } else if starts(&["FLOOD_", "SLOWMODE_WAIT", "2FA_CONFIRM_WAIT"]) {
        420
    } else if starts(&["AUTH_KEY_", "SESSION_", "USER_DEACTIVATED"]) {
        401
    } else if starts(&["INTERNAL", "RPC_", "AUTH_RESTART", "WORKER_BUSY", "RANDOM_ID_DUPLICATE"]) {
        500
    } else {
        400
    }
}

#[cfg(test)]
mod tests;
