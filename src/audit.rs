//! The audit log: who did what to whom, one structured line each, with the target `telegram_connector::audit`. Whoever does
//! it calls [`record`], once it is done; how lines are written is telemetry's business. Names are a closed set; no line
//! holds a secret, a phone number is masked, and of settings only the names are told.

use std::net::IpAddr;

use crate::domain::developer::DeveloperId;
use crate::domain::login::Phone;
use crate::domain::project::ProjectId;
use crate::domain::subscriber::network_of;

/// Who did it, and from which address where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// The holder of `CONNECTOR_ADMIN_TOKEN`, or a program on this machine.
    Operator(Option<IpAddr>),
    /// A developer, signed in.
    Developer(DeveloperId, Option<IpAddr>),
    /// Somebody who has not shown who they are.
    Stranger(Option<IpAddr>),
    /// Telegram.
    Telegram,
    /// This service by itself: at its start, on a timer, because of what a receiver answered.
    Service,
}

/// A step of signing the service's account in or out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignInAct {
    /// A code was asked for.
    CodeRequested,
    /// A code was asked for once more.
    CodeResent,
    /// A code was submitted.
    CodeSubmitted,
    /// The 2FA password was submitted.
    PasswordSubmitted,
    /// The account is signed in.
    SignedIn,
    /// The account was signed out.
    SignedOut,
    /// A pending sign-in was taken back.
    Abandoned,
    /// Nothing was done: the request does not fit, or comes too often.
    Refused,
}

/// What a developer did about being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeveloperAct {
    /// Became one.
    Registered,
    /// Got a token.
    LoggedIn,
    /// Made a token worthless.
    LoggedOut,
    /// Got none.
    LoginRefused,
    /// Was not made one.
    RegisterRefused,
    /// The operator's word at the start: another password, and no token of before is good.
    Reset,
    /// Had a person forgotten, in all their projects.
    ForgotPerson,
}

/// What happened to a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectAct {
    /// It was made.
    Created,
    /// Its settings were written.
    Changed,
    /// It was deleted.
    Deleted,
    /// Its secret was shown.
    SecretRevealed,
    /// Its secret was replaced.
    SecretRotated,
    /// Somebody showed a secret that is not its.
    SecretRefused,
    /// Nothing is sent to its webhook any more.
    WebhookDisabled,
    /// Something is sent to its webhook again.
    WebhookEnabled,
    /// It has a bot whose token Telegram has accepted (or that a file names).
    BotAccepted,
    /// It has that bot no more.
    BotRemoved,
}

/// What happened to the ownership of a Telegram session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerChange {
    /// This process owns it now.
    Acquired,
    /// This process owns it no more, and did not want that.
    Lost,
    /// This process has given it up.
    HandedOver,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audit<'a> {
    /// A step of the operator's sign-in.
    SignIn {
        /// Which.
        act: SignInAct,
        /// Whose; told masked.
        phone: Option<&'a Phone>,
        /// `ok`, or why not.
        outcome: &'static str,
    },
    /// Who is not the operator asked for what only the operator may.
    OperatorRefused {
        /// Why not.
        why: &'static str,
    },
    /// Something about a developer's account.
    Developer {
        /// What.
        act: DeveloperAct,
        /// `ok`, or why not.
        outcome: &'static str,
    },
    /// Something about a project.
    Project {
        /// What.
        act: ProjectAct,
        /// Which.
        project: &'a ProjectId,
        /// Names of settings, the id of a bot, the reason: never what a setting holds.
        detail: Option<&'a str>,
    },
    /// Telegram has ended the session of an account.
    SessionEnded {
        /// The session's name in the session store.
        session: &'a str,
        /// Telegram's name for why.
        reason: &'a str,
    },
    /// Another process owns a Telegram session, or this one does.
    SessionOwner {
        /// The session's name in the session store.
        session: &'a str,
        /// The instance that owns it after this, or did before.
        owner: &'a str,
        /// The lease's epoch.
        epoch: u64,
        /// What happened.
        change: OwnerChange,
    },
}

/// Writes one line.
pub fn record(who: &Who, audit: &Audit<'_>) {
    let (by, developer, client) = match who {
        Who::Operator(address) => ("operator", None, *address),
        Who::Developer(id, address) => ("developer", Some(id.as_str()), *address),
        Who::Stranger(address) => ("stranger", None, *address),
        Who::Telegram => ("telegram", None, None),
        Who::Service => ("service", None, None),
    };
    let Line { phone, project, session, owner, epoch, detail, outcome } = Line::of(audit);
    // An app that shows a wrong key may be a person's browser, and who they are is in no log.
    let of_person = matches!(audit, Audit::Project { act: ProjectAct::SecretRefused, .. });
    let client = client.map(
        |address| {
            if of_person { network_of(address) } else { address.to_canonical().to_string() }
        },
    );
    tracing::info!(
        target: "telegram_connector::audit",
        event = name(audit),
        by,
        developer,
        client,
        phone,
        project,
        session,
        owner,
        epoch,
        detail,
        outcome,
        "audit"
    );
}

/// What is told beside the name and who it was.
#[derive(Default)]
struct Line<'a> {
    phone: Option<String>,
    project: Option<&'a str>,
    session: Option<&'a str>,
    owner: Option<&'a str>,
    epoch: Option<u64>,
    detail: Option<&'a str>,
    outcome: &'a str,
}

impl<'a> Line<'a> {
    fn of(audit: &'a Audit<'_>) -> Self {
        let done = Self { outcome: "ok", ..Self::default() };
        match audit {
            Audit::SignIn { phone, outcome, .. } => {
                Self { phone: phone.map(Phone::masked), outcome, ..Self::default() }
            }
            Audit::OperatorRefused { why } => {
                Self { detail: Some(why), outcome: "UNAUTHORIZED", ..Self::default() }
            }
            Audit::Developer { outcome, .. } => Self { outcome, ..Self::default() },
            Audit::Project { act: ProjectAct::SecretRefused, project, detail } => Self {
                project: Some(project.as_str()),
                detail: *detail,
                outcome: "UNAUTHORIZED",
                ..Self::default()
            },
            Audit::Project { project, detail, .. } => {
                Self { project: Some(project.as_str()), detail: *detail, ..done }
            }
            Audit::SessionEnded { session, reason } => {
                Self { session: Some(session), detail: Some(reason), ..done }
            }
            Audit::SessionOwner { session, owner, epoch, .. } => {
                Self { session: Some(session), owner: Some(owner), epoch: Some(*epoch), ..done }
            }
        }
    }
}

/// The name of what was done: part of the interface, never changed.
const fn name(audit: &Audit<'_>) -> &'static str {
    match audit {
        Audit::SignIn { act, .. } => match act {
            SignInAct::CodeRequested => "sign_in.code_requested",
            SignInAct::CodeResent => "sign_in.code_resent",
            SignInAct::CodeSubmitted => "sign_in.code_submitted",
            SignInAct::PasswordSubmitted => "sign_in.password_submitted",
            SignInAct::SignedIn => "sign_in.signed_in",
            SignInAct::SignedOut => "sign_in.signed_out",
            SignInAct::Abandoned => "sign_in.abandoned",
            SignInAct::Refused => "sign_in.refused",
        },
        Audit::OperatorRefused { .. } => "operator.refused",
        Audit::Developer { act, .. } => match act {
            DeveloperAct::Registered => "developer.registered",
            DeveloperAct::LoggedIn => "developer.logged_in",
            DeveloperAct::LoggedOut => "developer.logged_out",
            DeveloperAct::LoginRefused => "developer.login_refused",
            DeveloperAct::RegisterRefused => "developer.register_refused",
            DeveloperAct::Reset => "developer.reset",
            DeveloperAct::ForgotPerson => "developer.forgot_person",
        },
        Audit::Project { act, .. } => match act {
            ProjectAct::Created => "project.created",
            ProjectAct::Changed => "project.changed",
            ProjectAct::Deleted => "project.deleted",
            ProjectAct::SecretRevealed => "project.secret_revealed",
            ProjectAct::SecretRotated => "project.secret_rotated",
            ProjectAct::SecretRefused => "project.secret_refused",
            ProjectAct::WebhookDisabled => "webhook.disabled",
            ProjectAct::WebhookEnabled => "webhook.enabled",
            ProjectAct::BotAccepted => "bot.accepted",
            ProjectAct::BotRemoved => "bot.removed",
        },
        Audit::SessionEnded { .. } => "session.ended",
        Audit::SessionOwner { change, .. } => match change {
            OwnerChange::Acquired => "session.owner_acquired",
            OwnerChange::Lost => "session.owner_lost",
            OwnerChange::HandedOver => "session.owner_handed_over",
        },
    }
}
