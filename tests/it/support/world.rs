//! A sandbox and a service in this process, on free ports, in temporary folders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use telegram_connector::app::{App, AppSettings, Settings, StartError};
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::clock::Clock as _;
use telegram_connector::domain::ids::{Ids, Secret};
use telegram_connector::domain::place::{LeaseSettings, SessionStore};
use telegram_connector::http::Limits;
use telegram_connector::lifecycle::{OffsetClock, Tasks};
use telegram_connector::sandbox::{self, Sandbox};
use telegram_connector::store::StoreError;
use telegram_connector::telegram;
use telegram_connector::telegram::Network;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use super::{Answer, Client};

/// People of every world.
pub(crate) const ALICE: &str = "+15550100001";
pub(crate) const BOB: &str = "+15550100002";
/// Has a 2FA password, and comes when she is asked to: [`World::carol`].
pub(crate) const CAROL: &str = "+15550100003";
/// Carol's.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// How long a test waits for what must come. The machine may be busy with other things, and only a test that has failed
/// waits to the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The sandbox's RSA key takes long to make, so all worlds share one.
static RSA_KEY: OnceCell<String> = OnceCell::const_new();

/// How a test wants its service.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) call_limit: Duration,
    pub(crate) watchdog_interval: Duration,
    pub(crate) admin_token: Option<&'static str>,
    pub(crate) loopback: bool,
    pub(crate) session_folder: Option<PathBuf>,
    pub(crate) proxy: Option<telegram::Proxy>,
    pub(crate) bot_token: Option<String>,
    pub(crate) apps: AppSettings,
    pub(crate) limits: Limits,
    /// Whether programs on this machine are proxies: who a request says that it is from, it is from.
    pub(crate) behind_proxy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            call_limit: Duration::from_secs(20),
            watchdog_interval: Duration::from_secs(60),
            admin_token: None,
            loopback: true,
            session_folder: None,
            proxy: None,
            bot_token: None,
            apps: AppSettings { demo: true, ..AppSettings::default() },
            limits: Limits::default(),
            behind_proxy: false,
        }
    }
}

/// A sandbox with two people, and a service that has joined it.
pub(crate) struct World {
    pub(crate) sandbox: Client,
    pub(crate) service: Client,
    /// The ops listener.
    pub(crate) ops: Client,
    pub(crate) clock: OffsetClock,
    pub(crate) folder: TempDir,
    options: Options,
    network: sandbox::Network,
    app: Option<(App, Tasks)>,
    sandbox_tasks: Tasks,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let mut world = Self::without_service(options).await;
        world.start().await.unwrap();
        world
    }

    /// Only the sandbox; [`World::start`] adds the service.
    pub(crate) async fn without_service(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = OffsetClock::default();
        let sandbox_tasks = Tasks::new();
        let any_port = "127.0.0.1:0".parse().unwrap();
        let mut settings = sandbox::Settings::new(folder.path().join("sandbox"), any_port);
        settings.rsa_key_pem = Some(RSA_KEY.get_or_init(rsa_key).await.clone());
        let sandbox = Sandbox::start(settings, clock.clone(), random(), &sandbox_tasks).await.unwrap();
        let control = Client::new(sandbox.control_address());
        let network = sandbox.network();
        let world = Self {
            sandbox: control,
            service: Client::new("unknown"),
            ops: Client::new("unknown"),
            clock,
            folder,
            options,
            network,
            app: None,
            sandbox_tasks,
        };
        for (phone, name) in [(ALICE, "Alice"), (BOB, "Bob")] {
            let username = format!("{}_sandbox", name.to_lowercase());
            world.person(json!({ "phone": phone, "first_name": name, "username": username })).await;
        }
        world
    }

    async fn person(&self, person: Value) {
        let answer = self.sandbox.post("/api/accounts", &person).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Carol comes. Not every world has her: to make her password takes as long as all the rest of a world.
    pub(crate) async fn carol(&self) {
        let mut carol = json!({ "phone": CAROL, "first_name": "Carol", "username": "carol_sandbox" });
        carol["two_factor_password"] = PASSWORD.into();
        self.person(carol).await;
    }

    /// The person with this phone writes to somebody: user name, phone or id. Returns the message's id on their side.
    pub(crate) async fn send(&self, phone: &str, to: impl std::fmt::Display, text: &str) -> i64 {
        let body = json!({ "to": to.to_string(), "text": text });
        let answer = self.sandbox.post(&format!("/api/accounts/{phone}/send"), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["id"].as_i64().unwrap_or_default()
    }

    /// A new bot of the sandbox: its id and its token.
    pub(crate) async fn new_bot(&self, username: &str) -> (i64, String) {
        let bot = self.sandbox.post("/api/bots", &json!({ "username": username, "name": "A bot" })).await;
        assert_eq!(bot.status, 200, "{bot:?}");
        let token = bot.json()["token"].as_str().unwrap().to_owned();
        (token.split(':').next().unwrap().parse().unwrap(), token)
    }

    /// A sandbox with a bot, and a service whose default bot that is. Also the bot's id.
    pub(crate) async fn with_bot(options: Options) -> (Self, i64) {
        let mut world = Self::without_service(options).await;
        let (id, token) = world.new_bot("login_bot").await;
        world.options.bot_token = Some(token);
        world.start().await.unwrap();
        (world, id)
    }

    /// How the default bot is.
    pub(crate) async fn bot_is(&self, condition: &str) {
        let bot = || async { self.service.get("/readyz").await.json()["bot"].clone() };
        eventually(condition, || async { bot().await == condition }).await;
        assert_eq!(self.service.get("/readyz").await.status, 200, "whatever the bot does");
    }

    /// How to reach the sandbox, with the pauses of a test.
    pub(crate) fn telegram(&self) -> telegram::Settings {
        let addresses = self.network.dcs.iter().copied().collect();
        let network = Network::other(addresses, &self.network.rsa_public_key).unwrap();
        telegram::Settings {
            call_limit: self.options.call_limit,
            watchdog_interval: self.options.watchdog_interval,
            proxy: self.options.proxy.clone(),
            back_off: (Duration::from_millis(10), Duration::from_millis(200)),
            save_delay: Duration::from_millis(20),
            ..telegram::Settings::new(1, Secret::new("a".repeat(32)), network)
        }
    }

    pub(crate) fn session_folder(&self) -> PathBuf {
        self.options.session_folder.clone().unwrap_or_else(|| self.folder.path().join("sessions"))
    }

    /// Starts the service on what an earlier one left.
    pub(crate) async fn start(&mut self) -> Result<(), StartError> {
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            ops_listen: Some("127.0.0.1:0".parse().unwrap()),
            loopback: self.options.loopback,
            trusted_proxies: if self.options.behind_proxy {
                vec!["127.0.0.0/8".parse().unwrap()]
            } else {
                Vec::new()
            },
            admin_token: self.options.admin_token.map(|token| Secret::new(token.to_owned())),
            data_dir: self.folder.path().join("data"),
            session_store: SessionStore::folder(self.session_folder()),
            lease: LeaseSettings::default(),
            master_key: None,
            cache_bytes: 1024 * 1024,
            mode: Mode::Sandbox,
            telegram: self.telegram(),
            bot_token: self.options.bot_token.clone().map(Secret::new),
            apps: self.options.apps.clone(),
            limits: self.options.limits,
        };
        let begun = Instant::now();
        let (app, tasks) = loop {
            let tasks = Tasks::new();
            match App::start(settings.clone(), Arc::new(self.clock.clone()), random(), tasks.clone()).await {
                // What runs aside of a request may hold the folder for a moment longer than the service that was stopped.
                Err(StartError::Store(StoreError::InUse(_))) if begun.elapsed() < PATIENCE => {
                    telegram_connector::lifecycle::network_sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    // What it had begun would keep the store open.
                    finish(&tasks).await;
                    return Err(error);
                }
                Ok(app) => break (app, tasks),
            }
        };
        self.service = Client::new(app.address());
        self.ops = Client::new(app.ops_address().unwrap());
        self.app = Some((app, tasks));
        Ok(())
    }

    /// Stops the service as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        if let Some((app, tasks)) = self.app.take() {
            app.stop().await;
            assert_eq!(tasks.failed(), None);
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.start().await.unwrap();
    }

    pub(crate) async fn sign_in(&self, body: Value) -> Answer {
        self.service.post("/sign_in", &body).await
    }

    /// As [`World::sign_in`], by a caller who repeats a 503: that a connection was cut is often learnt only when it
    /// is used, and then the answer is rightly that Telegram could not be reached; as it is where calls may take so
    /// little time that a busy machine does not answer them.
    pub(crate) async fn sign_in_after_a_cut(&self, body: Value) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.sign_in(body.clone()).await;
            if answer.status != 503 || begun.elapsed() > PATIENCE {
                return answer;
            }
            assert_eq!(answer.code(), "TELEGRAM_UNREACHABLE", "{answer:?}");
        }
    }

    /// Step 1, which must succeed.
    pub(crate) async fn request_code(&self, phone: &str) {
        let answer = self.sign_in(json!({ "phone": phone })).await;
        assert!(answer.is_empty(206), "{answer:?}");
    }

    /// The newest code that Telegram sent to `phone`.
    pub(crate) async fn code(&self, phone: &str) -> String {
        let answer = self.sandbox.get(&format!("/api/accounts/{phone}/code?wait=25")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["code"].as_str().unwrap().to_owned()
    }

    /// A code that is not `phone`'s.
    pub(crate) async fn wrong_code(&self, phone: &str) -> String {
        let code = self.code(phone).await;
        if code == "11111" { "22222".to_owned() } else { "11111".to_owned() }
    }

    /// Both steps, which must succeed.
    pub(crate) async fn signed_in_as(&self, phone: &str) {
        self.request_code(phone).await;
        let code = self.code(phone).await;
        let answer = self.sign_in(json!({ "phone": phone, "password": code })).await;
        assert!(answer.is_empty(200), "{answer:?}");
    }

    /// `GET /sign_in`.
    pub(crate) async fn view(&self) -> Value {
        let answer = self.service.get("/sign_in").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub(crate) async fn state(&self) -> String {
        self.view().await["state"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn fault(&self, fault: Value) {
        let answer = self.sandbox.post("/api/faults", &fault).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The next call of `method` fails with `error`.
    pub(crate) async fn fail(&self, method: &str, error: &str) {
        self.fault(json!({ "method": method, "error": error, "times": 1 })).await;
    }

    /// Holds the next call of `method` up until [`World::heal`].
    pub(crate) async fn hold(&self, method: &str) {
        self.fault(json!({ "method": method, "delay_ms": 3_600_000, "times": 1 })).await;
    }

    /// The default bot of services that are started from now on.
    pub(crate) fn set_bot_token(&mut self, token: &str) {
        self.options.bot_token = Some(token.to_owned());
    }

    /// The time of the service, Unix milliseconds.
    pub(crate) fn clock_millis(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// What services that are started from now on offer.
    pub(crate) fn apps(&mut self) -> &mut AppSettings {
        &mut self.options.apps
    }

    /// Services and hosts that are opened from now on wait this long for a call, dialling included.
    pub(crate) fn limit_calls(&mut self, limit: Duration) {
        self.options.call_limit = limit;
    }

    /// Waits until the faults that are counted have befallen the calls they were meant for.
    pub(crate) async fn faults_are_spent(&self) {
        let spent = || async { self.sandbox.get("/api/faults").await.json() == json!([]) };
        eventually("the call is under way", spent).await;
    }

    pub(crate) async fn heal(&self) {
        assert_eq!(self.sandbox.delete("/api/faults").await.status, 200);
    }

    /// How often `method` has been called so far.
    pub(crate) async fn calls(&self, method: &str) -> u64 {
        let calls = self.sandbox.get("/api/calls").await.json();
        let of_method = calls.as_array().unwrap().iter().filter(|call| call["method"] == method);
        of_method.filter_map(|call| call["count"].as_u64()).sum()
    }

    /// Methods the sandbox does not know that somebody called.
    pub(crate) async fn unknown_calls(&self) -> Vec<Value> {
        let calls = self.sandbox.get("/api/calls").await.json();
        calls.as_array().unwrap().iter().filter(|call| call["unknown"] == true).cloned().collect()
    }

    /// Another device that nobody has signed in yet, with a vault of its own.
    pub(crate) async fn gateway_elsewhere(world: &Self) -> telegram::Gateway {
        let folder = world.folder.path().join("elsewhere");
        let sealer = telegram_connector::domain::seal::Sealer::new(&[7; 32], random());
        let vault = telegram_connector::vault::Vault::folder(&folder, "other.session", Mode::Sandbox, sealer);
        let sink: telegram::EventSink = Arc::new(|_, _| Box::pin(std::future::ready(true)));
        telegram::Gateway::open(world.telegram(), vault, None, random(), Tasks::new(), sink).await.unwrap()
    }

    /// Ends the world and checks that nobody called what the sandbox does not know.
    pub(crate) async fn end(mut self) {
        assert_eq!(self.unknown_calls().await, Vec::<Value>::new());
        self.stop().await;
        finish(&self.sandbox_tasks).await;
    }
}

pub(crate) fn random() -> Ids {
    Ids::from_seed(telegram_connector::lifecycle::os_seed().unwrap())
}

async fn rsa_key() -> String {
    use rsa::pkcs1::{EncodeRsaPrivateKey as _, LineEnding};
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    key.to_pkcs1_pem(LineEnding::LF).unwrap().to_string()
}

/// Looks again until `condition` holds; a test that hangs here has failed.
pub(crate) async fn eventually<F: Future<Output = bool> + Send>(
    what: &str,
    condition: impl Fn() -> F + Send + Sync,
) {
    let looking = async {
        while !condition().await {
            telegram_connector::lifecycle::network_sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, looking).await.is_ok(), "never came true: {what}");
}

/// Stops tasks; all must end.
pub(crate) async fn finish(tasks: &Tasks) {
    assert!(tasks.finish(PATIENCE).await, "a task did not end");
}
