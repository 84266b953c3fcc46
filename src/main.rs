//! The program: subcommands, signals, exit codes. What a command does is in the library.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use telegram_connector::app::{App, AppSettings, Settings, export_session, import_session};
use telegram_connector::config::{
    Command, CommandLine, Environment, Format, HealthcheckFlags, MoveCommand, Problems, Serve, ServeFlags,
    SessionFlags, TelegramChoice,
};
use telegram_connector::domain::account::Mode;
use telegram_connector::domain::clock::Clock;
use telegram_connector::domain::ids::{Ids, Secret};
use telegram_connector::domain::place::Place;
use telegram_connector::flows::auth::AppLimits;
use telegram_connector::http::{Limits, openapi_document};
use telegram_connector::lifecycle::{SystemClock, Tasks, boot_time, os_seed};
use telegram_connector::telegram;
use telegram_connector::telegram::{Network, Proxy};
use telegram_connector::telemetry::{self, LogFormat};
use tokio_util::sync::CancellationToken;

/// "File size limit exceeded", by the number it has on Linux and macOS alike.
const SIGXFSZ: i32 = 25;
/// Signals within this time are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Of the program alone: tests, and the bare handler that the bench compares with, have the system's. Settings: .cargo/config.toml.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let format = match line.log_format {
        Some(Format::Text) => LogFormat::Text,
        None if terminal => LogFormat::Text,
        Some(Format::Json) | None => LogFormat::Json,
    };
    telemetry::start(format, &line.log);
    let outcome = match line.command {
        Command::Openapi => {
            say(&openapi_document());
            Ok(ExitCode::SUCCESS)
        }
        Command::Serve(flags) => serve(*flags),
        Command::Doctor(flags) => run(doctor(*flags)),
        Command::Healthcheck(flags) => run(healthcheck(flags)),
        Command::Sandbox(flags) => run(sandbox::run(flags)),
        Command::Session(flags) => run(session(flags)),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => {
            complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(command: impl Future<Output = Result<(), Failure>>) -> Result<ExitCode, Failure> {
    on(&mut tokio::runtime::Builder::new_multi_thread(), command).map(|()| ExitCode::SUCCESS)
}

fn on<T>(
    runtime: &mut tokio::runtime::Builder,
    command: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    runtime.enable_all().build()?.block_on(command)
}

#[expect(clippy::print_stdout, reason = "what a command was asked to print")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the last words of a failing program are for people")]
fn complain(text: &str) {
    eprintln!("telegram-connector: {text}");
}

fn serve(flags: ServeFlags) -> Result<ExitCode, Failure> {
    let environment = Environment::new(std::env::vars_os());
    // Before anything is read that can be read once only.
    let bucket = flags.session_store.as_deref().and_then(Place::store);
    if init::is_first()
        && matches!(bucket, Some(Place::S3 { .. }))
        && let Some(code) = on(&mut tokio::runtime::Builder::new_current_thread(), init::stand_by())?
    {
        return Ok(code);
    }
    for warning in environment.unknown_variables() {
        tracing::warn!("{warning}");
    }
    run(serve_resolved(flags.resolve(&environment)?))
}

async fn serve_resolved(serve: Serve) -> Result<(), Failure> {
    let ids = Ids::from_seed(os_seed()?);
    let tasks = Tasks::new();
    let stopping = stop_on_signal(&tasks)?;
    match serve.telegram.clone() {
        TelegramChoice::EmbeddedSandbox => sandbox::serve_embedded(serve, ids, tasks).await?,
        TelegramChoice::SandboxAt { url, credentials } => {
            let (api_id, api_hash) = credentials.unwrap_or_else(any_credentials);
            let telegram = reach(&serve, api_id, api_hash, join(&url).await?)?;
            serve_until_stopped(
                settings(&serve, Mode::Sandbox, telegram),
                Arc::new(SystemClock),
                ids,
                tasks,
                |_| {},
            )
            .await?;
        }
        TelegramChoice::Telegram { api_id, api_hash } => {
            let telegram = reach(&serve, api_id, api_hash, Network::telegram())?;
            let settings = settings(&serve, Mode::Telegram, telegram);
            serve_until_stopped(settings, Arc::new(SystemClock), ids, tasks, |_| {}).await?;
        }
    }
    drop(stopping);
    Ok(())
}

/// `session import` and `session export`.
async fn session(flags: SessionFlags) -> Result<(), Failure> {
    const LONGEST: u64 = 64 * 1024;
    let command = flags.command;
    let place = flags.resolve(&Environment::new(std::env::vars_os()))?;
    let ids = Ids::from_seed(os_seed()?);
    match command {
        MoveCommand::Import { replace } => {
            let mut text = zeroize::Zeroizing::new(Vec::new());
            std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin(), LONGEST), &mut text)?;
            import_session(&place, &text, replace, ids).await?;
            complain("imported; the service verifies the session with Telegram when it starts");
        }
        MoveCommand::Export { force } => {
            let network = match (&place.sandbox, place.mode) {
                (Some(url), _) => Some(join(url).await?),
                (None, Mode::Telegram) => Some(Network::telegram()),
                (None, Mode::Sandbox) => None,
            };
            say(&export_session(&place, network.as_ref(), force, ids).await?);
            complain(
                "whoever has this text has the account. Telegram destroys a session that two programs use at once: \
                 do not start this service again once another program uses it",
            );
        }
    }
    Ok(())
}

/// A sandbox asks no more than that there be an id and a hash.
fn any_credentials() -> (i32, Secret<String>) {
    (1, Secret::new("0".repeat(32)))
}

fn reach(
    serve: &Serve,
    api_id: i32,
    api_hash: Secret<String>,
    network: Network,
) -> Result<telegram::Settings, Failure> {
    let proxy = serve.proxy.as_ref().map(|url| Proxy::parse(url.reveal())).transpose();
    let proxy = proxy.map_err(|error| format!("TELEGRAM_PROXY is {error}"))?;
    Ok(telegram::Settings { proxy, ..telegram::Settings::new(api_id, api_hash, network) })
}

fn settings(serve: &Serve, mode: Mode, telegram: telegram::Settings) -> Settings {
    Settings {
        listen: serve.listen,
        ops_listen: serve.ops_listen,
        loopback: serve.loopback,
        trusted_proxies: serve.trusted_proxies.clone(),
        admin_token: serve.admin_token.clone(),
        data_dir: serve.data_dir.clone(),
        session_store: serve.session_store.clone(),
        lease: serve.lease,
        master_key: serve.master_key.clone(),
        cache_bytes: serve.cache_bytes,
        mode,
        telegram,
        bot_token: serve.bot_token.clone(),
        apps: AppSettings {
            public_url: serve.apps.public_url.clone(),
            link_base: serve.apps.link_base.clone().unwrap_or_else(|| AppSettings::default().link_base),
            deeplink_by_phone: serve.apps.deeplink_by_phone,
            bootstrap: serve.apps.bootstrap.clone(),
            demo: false,
            projects: serve.apps.projects.clone(),
            registration_open: serve.apps.registration_open,
            webhook_allow: serve.apps.webhook_allow.clone(),
            retention: serve.apps.retention,
            limits: AppLimits {
                polls_per_second: serve.limits.polls_per_second,
                creates_per_minute: serve.limits.creates_per_minute,
                ..AppLimits::default()
            },
        },
        limits: Limits { connections: serve.limits.max_connections as usize, ..Limits::default() },
    }
}

async fn serve_until_stopped(
    settings: Settings,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tasks: Tasks,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Failure> {
    if !settings.listen.ip().is_loopback() {
        tracing::warn!(address = %settings.listen, "listening beyond this machine in the clear: put TLS in front");
    }
    let app = App::start(settings, clock, ids, tasks.clone()).await?;
    announce(app.address());
    tasks.stopping().cancelled().await;
    app.stop().await;
    match tasks.failed() {
        Some(task) => Err(format!("stopped because the task `{task}` ended").into()),
        None => Ok(()),
    }
}

/// `doctor`: a line for each part; fails when any does.
async fn doctor(flags: ServeFlags) -> Result<(), Failure> {
    let environment = Environment::new(std::env::vars_os());
    let resolved = flags.resolve(&environment);
    if let Err(Problems(problems)) = &resolved {
        for problem in problems {
            say(&format!("FAIL configuration  {problem}"));
        }
    }
    let serve = resolved?;
    let ids = Ids::from_seed(os_seed()?);
    let settings = match serve.telegram.clone() {
        // Nothing outside this process is needed, and nothing inside it runs now.
        TelegramChoice::EmbeddedSandbox => return Err("an embedded sandbox needs no doctor: start it".into()),
        TelegramChoice::SandboxAt { url, credentials } => {
            let (api_id, api_hash) = credentials.unwrap_or_else(any_credentials);
            let network = join(&url).await;
            let network = network.inspect_err(|error| say(&format!("FAIL telegram       {error}")))?;
            settings(&serve, Mode::Sandbox, reach(&serve, api_id, api_hash, network)?)
        }
        TelegramChoice::Telegram { api_id, api_hash } => {
            settings(&serve, Mode::Telegram, reach(&serve, api_id, api_hash, Network::telegram())?)
        }
    };
    let findings = telegram_connector::doctor::examine(&settings, &ids).await;
    for finding in &findings {
        say(&finding.to_string());
    }
    match findings.iter().filter(|finding| !finding.works).count() {
        0 => Ok(()),
        failing => Err(format!("{failing} of {} parts do not work", findings.len()).into()),
    }
}

/// `healthcheck`: asks the service on this machine.
async fn healthcheck(flags: HealthcheckFlags) -> Result<(), Failure> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().build()?;
    client.get(format!("http://{}/healthz", flags.address())).send().await?.error_for_status()?;
    Ok(())
}

/// Asks a running sandbox what a client needs to know of it.
async fn join(url: &url::Url) -> Result<Network, Failure> {
    #[derive(serde::Deserialize)]
    struct Server {
        dcs: Vec<DataCentre>,
        rsa_public_key: String,
    }
    #[derive(serde::Deserialize)]
    struct DataCentre {
        id: i32,
        address: std::net::SocketAddrV4,
    }
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build()?;
    let answer = client.get(url.join("api/server")?).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let answer = answer.map_err(|error| format!("no sandbox at {url}: {}", error.without_url()))?;
    let server: Server = answer.json().await.map_err(|_| format!("what answers at {url} is no sandbox"))?;
    let addresses = server.dcs.into_iter().map(|dc| (dc.id, dc.address)).collect();
    Ok(Network::other(addresses, &server.rsa_public_key)?)
}

/// The first SIGTERM or SIGINT begins shutdown, a second one ends the process at once. What comes along with the first is no
/// second one: whoever stops a group of processes and each of them sends two (`timeout`, systemd, the first process of a container).
fn stop_on_signal(tasks: &Tasks) -> Result<tokio_util::sync::DropGuard, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A file that outgrows its limit (`LimitFSIZE=`, `ulimit -f`) is an error of the write, not the end of the process:
    // the handler stays although nobody listens.
    drop(signal(SignalKind::from_raw(SIGXFSZ))?);
    let over = CancellationToken::new();
    let guard = over.clone().drop_guard();
    let stopping = tasks.clone();
    // Not one of the tasks that shutdown waits for.
    Tasks::new().spawn("signals", async move {
        let mut first = None;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = over.cancelled() => return,
            }
            match first {
                None => {
                    first = Some(boot_time());
                    tracing::info!("stopping; a second signal ends the process at once");
                    stopping.stop();
                }
                Some(first) if boot_time().saturating_sub(first) < SAME_SIGNAL => {}
                Some(_) => std::process::exit(1),
            }
        }
    });
    Ok(guard)
}

#[cfg(not(feature = "sandbox"))]
mod sandbox {
    use super::{Failure, Ids, Serve, Tasks};

    #[expect(clippy::unused_async, reason = "the same signature as with the feature")]
    pub(super) async fn run(_: telegram_connector::config::SandboxFlags) -> Result<(), Failure> {
        Err("this build has no sandbox (cargo feature `sandbox`)".into())
    }

    #[expect(clippy::unused_async, reason = "the same signature as with the feature")]
    pub(super) async fn serve_embedded(_: Serve, _: Ids, _: Tasks) -> Result<(), Failure> {
        Err("this build has no sandbox (cargo feature `sandbox`)".into())
    }
}

#[path = "main/init.rs"]
mod init;

#[cfg(feature = "sandbox")]
#[path = "main/sandbox.rs"]
mod sandbox;
