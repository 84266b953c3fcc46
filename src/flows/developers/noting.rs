//! What the audit log tells of projects: what differs between one and what it was before. Names of settings, never what they
//! hold.

use std::net::IpAddr;

use crate::audit;
use crate::audit::Audit;
use crate::audit::ProjectAct;
use crate::audit::Who;
use crate::domain::developer::DeveloperId;
use crate::domain::project::Project;

/// A developer, as the audit log tells of them.
pub(super) fn developer(id: &DeveloperId, from: Option<IpAddr>) -> Who {
    Who::Developer(id.clone(), from)
}

/// Something happened to a project.
pub(super) fn note(who: &Who, act: ProjectAct, project: &Project, detail: Option<&str>) {
    audit::record(who, &Audit::Project { act, project: &project.id, detail });
}

/// A project was made.
pub(super) fn note_new(who: &Who, project: &Project) {
    note(who, ProjectAct::Created, project, None);
    note_bots(who, None, project.bot(), project);
}

/// A project was deleted.
pub(super) fn note_deleted(who: &Who, project: &Project) {
    note(who, ProjectAct::Deleted, project, None);
    note_bots(who, project.bot(), None, project);
}

/// A project was written: a line for each kind of thing that is another one now, and none where nothing is.
pub(super) fn note_change(who: &Who, before: &Project, after: &Project) {
    let settings = changed_settings(before, after);
    if !settings.is_empty() {
        note(who, ProjectAct::Changed, after, Some(&settings.join(",")));
    }
    note_bots(who, before.bot(), after.bot(), after);
    if before.secret != after.secret {
        note(who, ProjectAct::SecretRotated, after, None);
    }
    if before.webhook_disabled.is_some() && after.webhook().is_some() {
        note(who, ProjectAct::WebhookEnabled, after, None);
    }
}

fn note_bots(who: &Who, before: Option<i64>, after: Option<i64>, project: &Project) {
    if before == after {
        return;
    }
    for (act, bot) in [(ProjectAct::BotRemoved, before), (ProjectAct::BotAccepted, after)] {
        if let Some(bot) = bot {
            note(who, act, project, Some(&bot.to_string()));
        }
    }
}

fn changed_settings(before: &Project, after: &Project) -> Vec<&'static str> {
    let (old, new) = (&before.settings, &after.settings);
    let all = [
        ("name", old.name != new.name),
        ("is_active", old.active != new.active),
        ("public_access", old.public_access != new.public_access),
        ("req_phone", old.req_phone != new.req_phone),
        ("match_code", old.match_code != new.match_code),
        ("allowed_origins", old.allowed_origins != new.allowed_origins),
        ("client_timestamps", old.client_timestamps != new.client_timestamps),
        ("return_url", old.return_url != new.return_url),
        ("webhook_url", old.webhook_url != new.webhook_url),
        ("webhook_expired", old.webhook_expired != new.webhook_expired),
        ("bot_token", old.bot != new.bot),
        // Ended before its time.
        ("grace_seconds", before.secret == after.secret && before.retiring != after.retiring),
    ];
    all.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}
