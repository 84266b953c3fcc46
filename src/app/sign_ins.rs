//! Joins what signs people in to apps: sessions, projects, what is told in Telegram; and makes the developer and the
//! project that a fresh service begins with.

use std::net::SocketAddr;
use std::sync::Arc;

use super::AppSettings;
use super::StartError;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::developer::DeveloperId;
use crate::domain::developer::Email;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::project::ProjectId;
use crate::domain::project::ProjectSettings;
use crate::domain::project_wishes::Declared;
use crate::flows::accounts::Accounts;
use crate::flows::auth::Auth;
use crate::flows::auth::LinkSettings;
use crate::flows::confirm::Confirm;
use crate::flows::developers::Developers;
use crate::flows::developers::Policy;
use crate::flows::ledger::Ledger;
use crate::flows::outbox::Outbox;
use crate::lifecycle::Tasks;
use crate::store::Store;

/// The demo (contract, section 1).
const DEMO_EMAIL: &str = "demo@example.com";
const DEMO_PASSWORD: &str = "demo-password";
const DEMO_PROJECT: &str = "proj_demo";

/// The parts.
pub(super) struct Room {
    pub(super) store: Arc<dyn Store>,
    pub(super) accounts: Accounts,
    pub(super) outbox: Outbox,
    pub(super) confirm: Confirm,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Ids,
    pub(super) mode: Mode,
    /// What `CONNECTOR_PROJECTS` says, where it is set.
    pub(super) declared: Option<Vec<Declared>>,
}

impl Room {
    /// Joins the parts and sets them going.
    pub(super) async fn open(
        self,
        settings: AppSettings,
        address: SocketAddr,
        tasks: &Tasks,
    ) -> Result<(Auth, Developers, Ledger), StartError> {
        let Self { store, accounts, outbox, confirm, clock, ids, mode, declared } = self;
        let retention = settings.retention;
        let ledger =
            Ledger::new(Arc::clone(&store), outbox.clone(), Arc::clone(&clock), tasks.clone(), retention);
        let policy = Policy {
            mode,
            registration_open: settings.registration_open,
            webhook_allow: settings.webhook_allow.clone(),
        };
        let developers = Developers::new(
            Arc::clone(&store),
            accounts.clone(),
            ledger.clone(),
            Arc::clone(&clock),
            ids.clone(),
            tasks.clone(),
            policy,
        );
        let mut owner = match settings.bootstrap {
            Some((email, password)) => Some(developers.bootstrap(email, password).await?),
            None => None,
        };
        if settings.demo {
            let demo = make_demo(&developers).await?;
            owner = owner.or(demo);
        }
        if let Some(declared) = declared {
            declare(&developers, owner, declared).await?;
        }
        developers.run_bots().await?;
        outbox.begin(accounts.clone()).await?;
        tasks.spawn_essential("expiry", confirm.expire());
        tasks.spawn_essential("housekeeping", ledger.clone().keep_tidy());
        let public_url = settings.public_url.unwrap_or_else(|| format!("http://{address}"));
        let links =
            LinkSettings { base: settings.link_base, by_phone: settings.deeplink_by_phone, public_url };
        let auth =
            Auth::new(store, accounts, outbox, clock, ids, tasks.clone(), mode, links, settings.limits);
        Ok((auth, developers, ledger))
    }
}

/// Makes the demo developer, who is returned, and their project.
async fn make_demo(developers: &Developers) -> Result<Option<DeveloperId>, StartError> {
    let (Ok(email), Some(project)) = (Email::parse(DEMO_EMAIL), ProjectId::parse(DEMO_PROJECT)) else {
        return Ok(None);
    };
    let owner = developers.ensure_developer(email, Secret::new(DEMO_PASSWORD.to_owned())).await?;
    let settings = ProjectSettings::named("Demo app".to_owned());
    developers.ensure_project(owner.clone(), project, settings).await?;
    Ok(Some(owner))
}

/// Applies `CONNECTOR_PROJECTS`: all of it, or nothing.
async fn declare(
    developers: &Developers,
    owner: Option<DeveloperId>,
    declared: Vec<Declared>,
) -> Result<(), StartError> {
    let Some(owner) = owner else {
        let nobody =
            "its projects need an owner: set CONNECTOR_BOOTSTRAP_EMAIL and CONNECTOR_BOOTSTRAP_PASSWORD";
        return Err(StartError::Projects(vec![nobody.to_owned()]));
    };
    let of_others = developers.of_others(&owner, &declared).await?;
    if !of_others.is_empty() {
        let told = |id| format!("{id}: there is a project of another developer with this id");
        return Err(StartError::Projects(of_others.into_iter().map(told).collect()));
    }
    Ok(developers.declare(&owner, declared).await?)
}
