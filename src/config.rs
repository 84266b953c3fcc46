//! Flags and environment become settings (contract, section 1). The only file that reads either; all problems are
//! told at once. Secrets come from `NAME` or from the file that `NAME_FILE` names, never from a flag.

mod apps;
mod limits;
mod network;
mod projects;
mod session;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use url::Url;

pub use self::apps::AppFlags;
pub use self::apps::Apps;
pub use self::apps::Registration;
pub use self::limits::LimitFlags;
pub use self::network::TelegramChoice;
use self::network::{SandboxFlag, default_data_dir, is_loopback, networks, sandbox_flag};
pub use self::projects::read_projects;
pub use self::session::LeaseFlags;
pub use self::session::MoveCommand;
pub use self::session::Moving;
pub use self::session::SessionFlags;
use crate::domain::ids::Secret;
use crate::domain::place::LeaseSettings;
use crate::domain::place::SessionStore;

/// What the command line asks for.
#[derive(Debug, Parser)]
#[command(name = "telegram-connector", version, about = "Sign in with Telegram, run by its owner")]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines look: text on a terminal, json elsewhere.
    #[arg(long, env = "CONNECTOR_LOG_FORMAT", global = true)]
    pub log_format: Option<Format>,
    /// Which log lines are written, as in `info` or `debug,telegram_connector::telegram=trace`.
    #[arg(long, env = "RUST_LOG", global = true, default_value = "info")]
    pub log: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The program's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service; `--sandbox` embeds a sandbox Telegram, which needs no account and no internet.
    Serve(Box<ServeFlags>),
    /// Check a set-up part by part: configuration, store, session store, clock, Telegram. Takes `serve`'s flags.
    Doctor(Box<ServeFlags>),
    /// Ask a running service whether it lives; exit code 0 or 1. For images that hold nothing else.
    Healthcheck(HealthcheckFlags),
    /// Run only the sandbox Telegram.
    Sandbox(SandboxFlags),
    /// Move the account's Telegram session in or out, as a Telethon `StringSession`.
    Session(SessionFlags),
    /// Print the OpenAPI document.
    Openapi,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeFlags {
    /// Address to listen on.
    #[arg(long, env = "CONNECTOR_LISTEN", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Second address, for probes and metrics only, without a token.
    #[arg(long, env = "CONNECTOR_OPS_LISTEN")]
    pub ops_listen: Option<SocketAddr>,
    /// How clients reach this service, where that is not http:// and the listen address.
    #[arg(long, env = "CONNECTOR_PUBLIC_URL")]
    pub public_url: Option<Url>,
    /// Folder of the store and of the master key [default: ./data, with --sandbox ./sandbox-data].
    #[arg(long, env = "CONNECTOR_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where Telegram sessions are kept: `file:FOLDER`, or `s3://BUCKET/PREFIX` with the ordinary AWS variables and
    /// `CONNECTOR_MASTER_KEY` [default: `file:./sessions`, with --sandbox in the data folder].
    #[arg(long, env = "CONNECTOR_SESSION_STORE")]
    pub session_store: Option<String>,
    /// How sessions are owned.
    #[command(flatten)]
    pub lease: LeaseFlags,
    /// Where there is no session yet, start with the Telethon `StringSession` in this file (or `s3://BUCKET/KEY`).
    #[arg(long, env = "CONNECTOR_IMPORT_SESSION", value_name = "PLACE")]
    pub import_session: Option<String>,
    /// Not built yet: the embedded store is the only one.
    #[arg(long, env = "CONNECTOR_DATABASE_URL")]
    pub database_url: Option<String>,
    /// Use a sandbox Telegram: embedded, or the running one whose control API is at URL.
    #[arg(
        long,
        env = "CONNECTOR_SANDBOX",
        value_name = "URL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1"
    )]
    pub sandbox: Option<String>,
    /// Networks (CIDR, comma-separated) whose X-Forwarded-For and Forwarded headers are believed.
    #[arg(long, env = "CONNECTOR_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<String>,
    /// What apps and developers are offered.
    #[command(flatten)]
    pub apps: AppFlags,
    /// How much is borne.
    #[command(flatten)]
    pub limits: LimitFlags,
    /// The embedded sandbox.
    #[command(flatten)]
    pub embedded: SandboxListenFlags,
    /// The embedded store's cache, in MB.
    #[arg(long, env = "CONNECTOR_CACHE_MB", default_value_t = 32)]
    pub cache_mb: u64,
    /// Your application's id, from <https://my.telegram.org>.
    #[arg(long, env = "TELEGRAM_API_ID")]
    pub telegram_api_id: Option<i32>,
}

/// Flags of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckFlags {
    /// Address the service listens on.
    #[arg(long, env = "CONNECTOR_LISTEN", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
}

impl HealthcheckFlags {
    /// Where to ask: a service that listens everywhere is asked on loopback.
    pub fn address(&self) -> SocketAddr {
        let ip = match self.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            IpAddr::V4(_) | IpAddr::V6(_) => self.listen.ip(),
        };
        SocketAddr::new(ip, self.listen.port())
    }
}

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxFlags {
    /// Folder the sandbox keeps its state in.
    #[arg(long, env = "CONNECTOR_DATA_DIR", default_value = "./sandbox-data")]
    pub data_dir: PathBuf,
    /// Where it listens.
    #[command(flatten)]
    pub listen: SandboxListenFlags,
}

/// Where a sandbox listens.
#[derive(Clone, Debug, Args)]
pub struct SandboxListenFlags {
    /// Address of the sandbox's control API.
    #[arg(long, env = "CONNECTOR_SANDBOX_LISTEN", default_value = "127.0.0.1:5001")]
    pub sandbox_listen: SocketAddr,
    /// Base address of the sandbox's data centres (port + data-centre id) [default: free loopback ports, kept].
    #[arg(long, env = "CONNECTOR_SANDBOX_DC_LISTEN")]
    pub sandbox_dc_listen: Option<SocketAddr>,
    /// The IP address that the sandbox tells its clients.
    #[arg(long, env = "CONNECTOR_SANDBOX_ADVERTISE")]
    pub sandbox_advertise: Option<Ipv4Addr>,
    /// Allow sandbox listeners that are not loopback.
    #[arg(long)]
    pub sandbox_public: bool,
}

/// Settings of `serve`, all valid.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Where to serve probes and metrics without a token.
    pub ops_listen: Option<SocketAddr>,
    /// Whether listener and public URL are both loopback.
    pub loopback: bool,
    /// Folder of the store.
    pub data_dir: PathBuf,
    /// Where Telegram sessions are kept.
    pub session_store: SessionStore,
    /// How they are owned.
    pub lease: LeaseSettings,
    /// Which Telegram.
    pub telegram: TelegramChoice,
    /// Where an embedded sandbox listens.
    pub embedded: SandboxListenFlags,
    /// The embedded store's cache, in bytes.
    pub cache_bytes: u64,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// `TELEGRAM_PROXY`.
    pub proxy: Option<Secret<String>>,
    /// `CONNECTOR_ADMIN_TOKEN`.
    pub admin_token: Option<Secret<String>>,
    /// `CONNECTOR_MASTER_KEY`.
    pub master_key: Option<Secret<[u8; 32]>>,
    /// `TELEGRAM_BOT_TOKEN`.
    pub bot_token: Option<Secret<String>>,
    /// What apps and developers are offered.
    pub apps: Apps,
    /// How much is borne.
    pub limits: LimitFlags,
}

/// Everything that is wrong with the settings, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the settings do not work:\n  - {}", .0.join("\n  - "))]
pub struct Problems(pub Vec<String>);

/// The environment as handed in, so that tests need no process of their own.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    /// Variables whose value is not UTF-8.
    not_text: Vec<String>,
}

impl Environment {
    /// From pairs of name and value, such as `std::env::vars_os`.
    pub fn new(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        for (name, value) in pairs {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(environment.values.insert(name, value)),
                Err(_) => environment.not_text.push(name),
            }
        }
        environment
    }

    /// A secret from `name`, or from the file that `name_FILE` names.
    fn secret(&self, name: &str, problems: &mut Vec<String>) -> Option<Secret<String>> {
        let file_name = format!("{name}_FILE");
        if let Some(odd) = self.not_text.iter().find(|odd| *odd == name || **odd == file_name) {
            problems.push(format!("{odd} is not UTF-8 text"));
            return None;
        }
        let value = match (self.values.get(name), self.values.get(&file_name)) {
            (Some(_), Some(_)) => {
                problems.push(format!("{name} and {file_name} are both set: keep one"));
                return None;
            }
            (Some(value), None) => value.clone(),
            (None, Some(file)) => match std::fs::read_to_string(file) {
                Ok(value) => value.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => {
                    problems.push(format!("{file_name}: {file}: {error}"));
                    return None;
                }
            },
            (None, None) => return None,
        };
        if value.is_empty() {
            problems.push(format!("{name} is empty"));
            return None;
        }
        Some(Secret::new(value))
    }

    /// A warning for each `CONNECTOR_` variable that means nothing, with the nearest that does.
    pub fn unknown_variables(&self) -> Vec<String> {
        let command = <CommandLine as clap::CommandFactory>::command();
        let flags =
            command.get_subcommands().flat_map(clap::Command::get_arguments).chain(command.get_arguments());
        let secrets = SECRETS.iter().flat_map(|name| [(*name).to_owned(), format!("{name}_FILE")]);
        let known: Vec<String> =
            flags.filter_map(|flag| Some(flag.get_env()?.to_str()?.to_owned())).chain(secrets).collect();
        let unknown =
            self.values.keys().filter(|name| name.starts_with("CONNECTOR_") && !known.contains(name));
        unknown
            .map(|name| {
                let nearest = known.iter().max_by(|one, two| {
                    strsim::jaro_winkler(one, name).total_cmp(&strsim::jaro_winkler(two, name))
                });
                format!("{name} means nothing here; did you mean {}?", nearest.map_or("", String::as_str))
            })
            .collect()
    }
}

const SECRETS: [&str; 6] = [
    "CONNECTOR_BOOTSTRAP_PASSWORD",
    "TELEGRAM_PROXY",
    "TELEGRAM_BOT_TOKEN",
    "CONNECTOR_ADMIN_TOKEN",
    "CONNECTOR_MASTER_KEY",
    "TELEGRAM_API_HASH",
];

impl ServeFlags {
    /// Flags and environment as settings.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn resolve(self, environment: &Environment) -> Result<Serve, Problems> {
        let mut problems = Vec::new();
        let admin_token = environment.secret("CONNECTOR_ADMIN_TOKEN", &mut problems);
        let master_key = environment.master_key(&mut problems);
        let api_hash = environment.secret("TELEGRAM_API_HASH", &mut problems);
        let proxy = environment.secret("TELEGRAM_PROXY", &mut problems);
        let bot_token = environment.bot_token(&mut problems);
        let trusted_proxies = networks("CONNECTOR_TRUSTED_PROXIES", &self.trusted_proxies, &mut problems);

        let telegram = self.telegram_choice(api_hash, &mut problems);
        if self.database_url.is_some() {
            problems
                .push("CONNECTOR_DATABASE_URL is set, but Postgres is not built yet: unset it".to_owned());
        }
        let embedded = telegram == Some(TelegramChoice::EmbeddedSandbox);
        let alone = self.listen.ip().is_loopback();
        let apps = self.apps.resolve(embedded, alone, self.public_url.as_ref(), environment, &mut problems);
        let data_dir = self.data_dir.clone().unwrap_or_else(|| default_data_dir(embedded));
        let store = self.session_store.as_deref();
        let place = session::store_place(store, embedded.then_some(&data_dir), &mut problems);
        session::check_bucket(&place, master_key.is_some(), environment, &mut problems);
        let session_store = SessionStore {
            place,
            path_style: environment.path_style(),
            import: session::import_place(self.import_session.as_deref(), &mut problems),
        };
        let loopback = self.listen.ip().is_loopback() && self.public_url.as_ref().is_none_or(is_loopback);
        if !loopback && admin_token.is_none() && !embedded {
            problems.push(
                "listening or being public beyond this machine needs CONNECTOR_ADMIN_TOKEN, which guards /sign_in"
                    .to_owned(),
            );
        }
        match telegram {
            Some(telegram) if problems.is_empty() => Ok(Serve {
                listen: self.listen,
                ops_listen: self.ops_listen,
                loopback,
                data_dir,
                session_store,
                lease: self.lease.settings(),
                telegram,
                embedded: self.embedded,
                cache_bytes: self.cache_mb.saturating_mul(1024 * 1024),
                trusted_proxies,
                proxy,
                admin_token,
                master_key,
                bot_token,
                apps,
                limits: self.limits,
            }),
            _ => Err(Problems(problems)),
        }
    }

    fn telegram_choice(
        &self,
        api_hash: Option<Secret<String>>,
        problems: &mut Vec<String>,
    ) -> Option<TelegramChoice> {
        match sandbox_flag(self.sandbox.as_deref(), problems)? {
            SandboxFlag::Embedded => Some(TelegramChoice::EmbeddedSandbox),
            SandboxFlag::Off => {
                let credentials = self.telegram_api_id.zip(api_hash);
                if credentials.is_none() {
                    let needed = "TELEGRAM_API_ID and TELEGRAM_API_HASH are needed (from https://my.telegram.org), \
                                  or --sandbox for a Telegram of your own";
                    problems.push(needed.to_owned());
                }
                credentials.map(|(api_id, api_hash)| TelegramChoice::Telegram { api_id, api_hash })
            }
            SandboxFlag::At(url) => {
                let credentials = self.telegram_api_id.zip(api_hash);
                Some(TelegramChoice::SandboxAt { url, credentials })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(flags: &[&str], environment: &[(&str, &str)]) -> Result<Serve, Problems> {
        let line = [&["telegram-connector", "serve"], flags].concat();
        let Command::Serve(flags) = CommandLine::try_parse_from(line).unwrap().command else {
            unreachable!()
        };
        flags.resolve(&self::environment(environment))
    }

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_sandbox_needs_nothing_and_telegram_needs_an_api_id() {
        let sandbox = serve(&["--sandbox"], &[]).unwrap();
        assert_eq!(sandbox.telegram, TelegramChoice::EmbeddedSandbox);
        assert_eq!(sandbox.data_dir, PathBuf::from("./sandbox-data"));
        let folder = |folder: &str| SessionStore::folder(folder.into());
        assert_eq!(sandbox.session_store, folder("./sandbox-data/sessions"));

        let error = serve(&[], &[]).unwrap_err();
        assert!(error.to_string().contains("TELEGRAM_API_ID"), "{error}");
        let real = serve(&["--telegram-api-id", "7"], &[("TELEGRAM_API_HASH", "hash")]).unwrap();
        assert_eq!(real.session_store, folder("./sessions"));
        assert_eq!(real.data_dir, PathBuf::from("./data"));

        let joined = serve(&["--sandbox=http://127.0.0.1:5001"], &[]).unwrap();
        assert!(matches!(joined.telegram, TelegramChoice::SandboxAt { .. }));
    }

    #[test]
    fn an_empty_variable_does_not_turn_production_into_a_sandbox() {
        let real = [("CONNECTOR_SANDBOX", ""), ("TELEGRAM_API_HASH", "hash")];
        assert!(matches!(
            serve(&["--telegram-api-id", "7", "--sandbox="], &real).unwrap().telegram,
            TelegramChoice::Telegram { .. }
        ));
    }

    #[test]
    #[cfg(unix)]
    fn a_secret_that_is_not_text_is_a_problem_and_not_no_secret() {
        let odd = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
        let environment = Environment::new([("CONNECTOR_ADMIN_TOKEN".into(), odd)]);
        let line = ["telegram-connector", "serve", "--sandbox"];
        let Command::Serve(flags) = CommandLine::try_parse_from(line).unwrap().command else {
            unreachable!()
        };
        assert!(flags.resolve(&environment).unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let flags =
            ["--listen", "0.0.0.0:5000", "--database-url", "postgres://x", "--session-store", "ftp://x"];
        let Problems(problems) = serve(&flags, &[("CONNECTOR_MASTER_KEY", "short")]).unwrap_err();
        assert_eq!(problems.len(), 5, "{problems:#?}");
    }

    #[test]
    fn beyond_this_machine_a_token_is_needed() {
        let public = ["--sandbox=http://127.0.0.1:1", "--public-url", "https://login.example"];
        assert!(serve(&public, &[]).is_err());
        let guarded = serve(&public, &[("CONNECTOR_ADMIN_TOKEN", "t")]).unwrap();
        assert!(!guarded.loopback);
        assert!(!serve(&["--sandbox", "--listen", "0.0.0.0:5000"], &[]).unwrap().loopback);
        assert!(serve(&["--sandbox", "--public-url", "http://localhost:5000"], &[]).unwrap().loopback);
    }

    #[test]
    fn webhooks_reach_this_machine_where_the_sandbox_is_alone_on_it() {
        let allowed =
            |flags: &[&str]| serve(&[&["--sandbox"], flags].concat(), &[]).unwrap().apps.webhook_allow;
        assert_eq!(allowed(&[]).len(), 2);
        assert_eq!(allowed(&["--listen", "[::1]:0"]).len(), 2);
        assert!(allowed(&["--listen", "0.0.0.0:5000"]).is_empty());
        assert_eq!(allowed(&["--listen", "0.0.0.0:5000", "--webhook-allow", "127.0.0.1"]).len(), 1);
        assert!(serve(&["--sandbox=http://127.0.0.1:1"], &[]).unwrap().apps.webhook_allow.is_empty());
    }

    #[test]
    fn a_secret_can_be_in_a_file_but_not_in_both_places() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\n").unwrap();
        let place = file.to_str().unwrap();
        let read = serve(&["--sandbox"], &[("CONNECTOR_ADMIN_TOKEN_FILE", place)]).unwrap();
        assert_eq!(read.admin_token.unwrap().reveal(), "s3cret");
        let both = [("CONNECTOR_ADMIN_TOKEN_FILE", place), ("CONNECTOR_ADMIN_TOKEN", "x")];
        assert!(serve(&["--sandbox"], &both).is_err());
        assert!(serve(&["--sandbox"], &[("CONNECTOR_ADMIN_TOKEN_FILE", "/none")]).is_err());
    }

    #[test]
    fn a_bot_token_is_checked_for_its_form_and_never_told() {
        let set = |token| serve(&["--sandbox"], &[("TELEGRAM_BOT_TOKEN", token)]);
        let good = set("110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw").unwrap();
        assert!(good.bot_token.is_some() && serve(&["--sandbox"], &[]).unwrap().bot_token.is_none());
        let error = set("hunter2").unwrap_err().to_string();
        assert!(error.contains("TELEGRAM_BOT_TOKEN") && !error.contains("hunter2"), "{error}");
        assert!(set("").is_err());
    }

    #[test]
    fn an_unknown_variable_is_warned_of_with_the_nearest() {
        let warnings =
            environment(&[("CONNECTOR_LISTN", "x"), ("CONNECTOR_LISTEN", "y")]).unknown_variables();
        assert_eq!(warnings, ["CONNECTOR_LISTN means nothing here; did you mean CONNECTOR_LISTEN?"]);
    }
}
