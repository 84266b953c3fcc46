//! The composition root: settings become parts, parts become a running service. Nothing is decided here.

mod instance;
mod moving;
mod sign_ins;
mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::TcpListener;

pub use self::instance::InstanceError;
pub use self::moving::MoveError;
pub use self::moving::export_session;
pub use self::moving::import_session;
use crate::config::read_projects;
use crate::domain::account::Mode;
use crate::domain::clock::Clock;
use crate::domain::developer::Email;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::place::LeaseSettings;
use crate::domain::place::SessionStore;
use crate::domain::project_wishes::Declared;
use crate::domain::seal::Sealer;
use crate::flows::accounts::Accounts;
use crate::flows::auth::AppLimits;
use crate::flows::confirm::Confirm;
use crate::flows::developers::DeveloperError;
use crate::flows::outbox::Outbox;
use crate::flows::readiness::Readiness;
use crate::flows::sign_in::SignIn;
use crate::http;
use crate::lifecycle::Tasks;
use crate::lifecycle::network_sleep;
use crate::master_key;
use crate::master_key::MasterKeyError;
use crate::store::EmbeddedStore;
use crate::store::Store;
use crate::store::StoreError;
use crate::telegram;
use crate::telegram::BadToken;
use crate::telegram::Bots;
use crate::telegram::Gateway;
use crate::telemetry;
use crate::vault::Terms;
use crate::vault::Vault;
use crate::vault::VaultError;

/// Name of the account's session in the session store (contract, section 2).
const ACCOUNT_SESSION: &str = "account.session";
/// How often metrics are tidied.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How long a sign-in step under way may take after shutdown has begun.
const DRAIN: Duration = Duration::from_secs(3);

/// How long stopping takes at most, and the last attempt to save the session in it.
const STOP: Duration = Duration::from_millis(4_500);
const STOP_SAVE: Duration = Duration::from_secs(3);
/// What is kept of it for noting an unsaved session.
const STOP_SETTLE: Duration = Duration::from_millis(500);

/// What a service is made from; all of it valid.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to serve probes and metrics without a token, if anywhere.
    pub ops_listen: Option<SocketAddr>,
    /// Whether listener and public URL are loopback, so that the operator needs no token.
    pub loopback: bool,
    /// `CONNECTOR_TRUSTED_PROXIES`.
    pub trusted_proxies: Vec<IpNet>,
    /// `CONNECTOR_ADMIN_TOKEN`.
    pub admin_token: Option<Secret<String>>,
    /// Where the store lives.
    pub data_dir: PathBuf,
    /// Where Telegram sessions are kept.
    pub session_store: SessionStore,
    /// How this process owns them.
    pub lease: LeaseSettings,
    /// `CONNECTOR_MASTER_KEY`; `None`: the one in the data directory, made when missing.
    pub master_key: Option<Secret<[u8; 32]>>,
    /// The embedded store's cache, in bytes.
    pub cache_bytes: u64,
    /// Which Telegram the store and the session belong to.
    pub mode: Mode,
    /// How to reach it.
    pub telegram: telegram::Settings,
    /// `TELEGRAM_BOT_TOKEN`: the bot that prompts where a project has none of its own.
    pub bot_token: Option<Secret<String>>,
    /// What apps and developers are offered.
    pub apps: AppSettings,
    /// How much the HTTP servers bear.
    pub limits: http::Limits,
}

/// What apps and developers are offered.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// `CONNECTOR_PUBLIC_URL`, without a slash at the end; `None`: where the service listens.
    pub public_url: Option<String>,
    /// `CONNECTOR_LINK_BASE`, without a slash at the end.
    pub link_base: String,
    /// `CONNECTOR_DEEPLINK_BY_PHONE`.
    pub deeplink_by_phone: bool,
    /// `CONNECTOR_BOOTSTRAP_EMAIL` and `CONNECTOR_BOOTSTRAP_PASSWORD`: a developer to make.
    pub bootstrap: Option<(Email, Secret<String>)>,
    /// Whether to make the demo developer and project, and to serve `GET /demo`.
    pub demo: bool,
    /// `CONNECTOR_PROJECTS`.
    pub projects: Option<PathBuf>,
    /// `CONNECTOR_REGISTRATION`.
    pub registration_open: bool,
    /// `CONNECTOR_WEBHOOK_ALLOW`.
    pub webhook_allow: Vec<IpNet>,
    /// `CONNECTOR_RETENTION_DAYS`.
    pub retention: Duration,
    /// How often apps may ask, and how many of them may be held.
    pub limits: AppLimits,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            link_base: "https://t.me".to_owned(),
            deeplink_by_phone: false,
            bootstrap: None,
            demo: false,
            projects: None,
            registration_open: false,
            webhook_allow: Vec::new(),
            retention: Duration::from_secs(90 * 24 * 3600),
            limits: AppLimits::default(),
        }
    }
}

impl Settings {
    /// Where the account's session is kept. Nothing is asked of that place yet.
    pub(crate) async fn vault(&self, sealer: Sealer) -> Vault {
        account_vault(&self.session_store, self.mode, sealer).await
    }

    /// On what terms this process owns sessions. `address`: where it listens.
    fn terms(&self, address: SocketAddr, ids: &Ids) -> Result<Arc<Terms>, StartError> {
        let instance = instance::find_or_make(&self.data_dir, ids)?;
        let url = self.apps.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        Ok(Arc::new(Terms::new(self.lease, instance, url, ids)))
    }
}

/// Why the service did not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The session store.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The data directory's id.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The default bot's token.
    #[error("TELEGRAM_BOT_TOKEN: {0}")]
    BotToken(#[from] BadToken),
    /// The first developer.
    #[error("the first developer or a project cannot be made: {0}")]
    Bootstrap(#[from] DeveloperError),
    /// The file of projects: everything that is wrong with it.
    #[error("CONNECTOR_PROJECTS cannot be applied:\n{}", .0.join("\n"))]
    Projects(Vec<String>),
    /// The listener.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the account's session is kept.
async fn account_vault(store: &SessionStore, mode: Mode, sealer: Sealer) -> Vault {
    let vault = Vault::open(&store.place, store.path_style, ACCOUNT_SESSION, mode, sealer).await;
    match &store.import {
        Some(from) => vault.importing(from.clone(), store.path_style).await,
        None => vault,
    }
}

/// A running service.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    ops_address: Option<SocketAddr>,
    gateway: Gateway,
    bots: Bots,
    sign_in: SignIn,
    outbox: Outbox,
    tasks: Tasks,
}

impl App {
    /// Starts everything and returns once requests are answered.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: Ids,
        tasks: Tasks,
    ) -> Result<Self, StartError> {
        telemetry::keep_metrics();
        let declared = settings.apps.projects.as_deref();
        let declared = declared.map(|file| read_projects(file, &settings.apps.webhook_allow)).transpose();
        let declared = declared.map_err(StartError::Projects)?;
        let (listener, address) = listen(settings.listen)?;
        let ops = settings.ops_listen.map(listen).transpose()?;

        let key = master_key::find_or_make(settings.master_key.as_ref(), &settings.data_dir, &ids)?;
        let sealer = Sealer::new(key.reveal(), ids.clone());
        let directory = settings.data_dir.join("store");
        let store =
            EmbeddedStore::open(&directory, settings.cache_bytes, settings.mode, sealer.clone()).await?;
        let store: Arc<dyn Store> = Arc::new(store);

        let vault = settings.vault(sealer).await.leased(&settings.terms(address, &ids)?);
        watch_store(&tasks, Arc::clone(&store));
        let unsaved = store.unsaved_session().await?;
        let outbox = Outbox::new(Arc::clone(&store), Arc::clone(&clock), tasks.clone());
        let confirm = Confirm::new(Arc::clone(&store), outbox.clone(), Arc::clone(&clock), tasks.clone());
        let telegram = settings.telegram.clone();
        let bots = Bots::new(telegram.clone(), vault.clone(), ids.clone(), tasks.clone(), confirm.sink());
        let gateway =
            Gateway::open(telegram, vault, unsaved, ids.clone(), tasks.clone(), confirm.sink()).await?;
        let (closing, to_close) = (gateway.clone(), bots.clone());
        let begun = Begun { settings, clock, ids, tasks, store, gateway, bots, outbox, confirm, declared };
        let started = begun.serve(listener, address, ops).await;
        if started.is_err() {
            // Who stands by need not wait for the lease of a process that does not serve.
            tokio::join!(closing.close(), to_close.close());
        }
        started
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where probes and metrics are served without a token.
    pub const fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_address
    }

    /// Finishes what is under way, soon accepts nothing, saves, closes the Telegram connections. Under 5 s.
    pub async fn stop(self) {
        let begun = Instant::now();
        self.tasks.stop();
        // What is under way may still want the connection, so it goes first.
        let drained = tokio::time::timeout(DRAIN, self.sign_in.drained()).await;
        let left = STOP_SAVE.min(STOP.saturating_sub(STOP_SETTLE + begun.elapsed()));
        let closing = async { tokio::join!(self.gateway.close(), self.bots.close()) };
        let saved = tokio::time::timeout(left, closing).await;
        let left = STOP.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, self.sign_in.settle_custody()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store does not keep the unsaved session"),
            Err(_) => tracing::error!("the store has not said in time whether it keeps an unsaved session"),
        }
        self.outbox.end();
        let ended = self.tasks.finish(STOP.saturating_sub(begun.elapsed())).await;
        if drained.is_err() || saved.is_err() || !ended {
            tracing::warn!("not everything ended in time");
        }
    }
}

/// A store that failed is opened anew by a process that is started anew: this one ends, with a failure, as soon as that
/// would work. Until then it tells what it can.
fn watch_store(tasks: &Tasks, store: Arc<dyn Store>) {
    let stopping = tasks.stopping();
    tasks.spawn_essential("store", async move {
        tokio::select! { () = store.is_to_be_reopened() => {}, () = stopping.cancelled() => {} }
    });
}

/// A service that has its parts and does not serve yet.
struct Begun {
    settings: Settings,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    store: Arc<dyn Store>,
    gateway: Gateway,
    bots: Bots,
    outbox: Outbox,
    confirm: Confirm,
    declared: Option<Vec<Declared>>,
}

type Listening = (TcpListener, SocketAddr);

impl Begun {
    /// Joins the parts, and answers requests from when this returns.
    async fn serve(
        self,
        listener: TcpListener,
        address: SocketAddr,
        ops: Option<Listening>,
    ) -> Result<App, StartError> {
        let Self { settings, clock, ids, tasks, store, gateway, bots, outbox, confirm, declared } = self;
        let default_bot = settings.bot_token.map(|token| bots.run(token)).transpose()?;
        let accounts = Accounts::new(gateway.clone(), bots.clone(), default_bot);
        let sign_in =
            SignIn::open(Arc::clone(&store), gateway.clone(), Arc::clone(&clock), tasks.clone()).await?;
        let readiness =
            Readiness::new(Arc::clone(&store), gateway.clone(), bots.clone(), default_bot, tasks.clone());
        let operator_clock = Arc::clone(&clock);
        let room = sign_ins::Room {
            store,
            accounts,
            outbox: outbox.clone(),
            confirm,
            clock,
            ids: ids.clone(),
            mode: settings.mode,
            declared,
        };
        let demo = settings.apps.demo;
        let webhooks = webhooks::open(&room.store, &room.clock, &ids, settings.mode, &settings.apps, &tasks);
        let (auth, developers, ledger) = room.open(settings.apps, address, &tasks).await?;
        let deliveries = webhooks.begin(&tasks);

        let operator = http::OperatorPolicy::new(settings.admin_token, settings.loopback, operator_clock);
        let trusted_proxies: Arc<[IpNet]> = settings.trusted_proxies.into();
        let limits = settings.limits.within_open_files();
        let custody = sign_in.clone();
        let parts = http::Parts {
            auth,
            developers,
            ledger,
            deliveries,
            sign_in,
            readiness,
            operator,
            trusted_proxies: Arc::clone(&trusted_proxies),
            demo,
            limits,
        };
        tasks.spawn("metrics", upkeep(tasks.clone()));
        let ops_address = ops.as_ref().map(|(_, address)| *address);
        if let Some((listener, _)) = ops {
            let routes = http::ops_routes(parts.clone());
            let serving = http::serve(
                listener,
                routes,
                limits,
                Arc::clone(&trusted_proxies),
                ids.clone(),
                tasks.clone(),
            );
            tasks.spawn_essential("ops http", serving);
        }
        let serving = http::serve(listener, http::routes(parts), limits, trusted_proxies, ids, tasks.clone());
        tasks.spawn_essential("http", serving);
        tracing::info!(%address, mode = %settings.mode, "serving");
        Ok(App { address, ops_address, gateway, bots, sign_in: custody, outbox, tasks })
    }
}

async fn upkeep(tasks: Tasks) {
    let stopping = tasks.stopping();
    loop {
        tokio::select! { () = network_sleep(METRICS_UPKEEP) => {}, () = stopping.cancelled() => return }
        telemetry::upkeep_metrics();
    }
}

fn listen(address: SocketAddr) -> Result<Listening, StartError> {
    let listener = http::listen(address).map_err(|source| StartError::Listen { address, source })?;
    let bound = listener.local_addr().unwrap_or(address);
    Ok((listener, bound))
}
