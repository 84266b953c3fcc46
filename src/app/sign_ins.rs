//! Joins what signs people in to apps: sessions, projects, what is told in Telegram; and makes the developer and the
//! project that a fresh service begins with.

use std::net::SocketAddr;
use std::sync::Arc;

use super::AppSettings;
use super::StartError;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::developer::Email;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::project::ProjectId;
use crate::domain::project::ProjectSettings;
use crate::flows::accounts::Accounts;
use crate::flows::auth::Auth;
use crate::flows::auth::LinkSettings;
use crate::flows::confirm::Confirm;
use crate::flows::developers::Developers;
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
}

impl Room {
    /// Joins the parts and sets them going.
    pub(super) async fn open(
        self,
        settings: AppSettings,
        address: SocketAddr,
        tasks: &Tasks,
    ) -> Result<(Auth, Developers, Ledger), StartError> {
        let Self { store, accounts, outbox, confirm, clock, ids, mode } = self;
        let developers =
            Developers::new(Arc::clone(&store), accounts.clone(), Arc::clone(&clock), ids.clone(), mode);
        if let Some((email, password)) = settings.bootstrap {
            developers.bootstrap(email, password).await?;
        }
        if settings.demo {
            make_demo(&developers).await?;
        }
        developers.run_bots().await?;
        outbox.begin(accounts.clone()).await?;
        tasks.spawn_essential("expiry", confirm.expire());
        let retention = settings.retention;
        let ledger =
            Ledger::new(Arc::clone(&store), outbox.clone(), Arc::clone(&clock), tasks.clone(), retention);
        tasks.spawn_essential("housekeeping", ledger.clone().keep_tidy());
        let public_url = settings.public_url.unwrap_or_else(|| format!("http://{address}"));
        let links =
            LinkSettings { base: settings.link_base, by_phone: settings.deeplink_by_phone, public_url };
        let auth = Auth::new(store, accounts, outbox, clock, ids, tasks.clone(), mode, links);
        Ok((auth, developers, ledger))
    }
}

async fn make_demo(developers: &Developers) -> Result<(), StartError> {
    let (Ok(email), Some(project)) = (Email::parse(DEMO_EMAIL), ProjectId::parse(DEMO_PROJECT)) else {
        return Ok(());
    };
    let owner = developers.bootstrap(email, Secret::new(DEMO_PASSWORD.to_owned())).await?;
    developers.ensure_project(owner, project, ProjectSettings::named("Demo app".to_owned())).await?;
    Ok(())
}
