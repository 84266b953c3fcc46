//! What the settings say of sessions: where they are kept, where one is imported from, and the command `session`.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use url::Url;

use super::Environment;
use super::Problems;
use super::network::SandboxFlag;
use super::network::default_data_dir;
use super::network::sandbox_flag;
use crate::domain::account::Mode;
use crate::domain::ids::Secret;
use crate::domain::place::LeaseSettings;
use crate::domain::place::Place;
use crate::domain::place::SessionStore;

const MAKE_A_KEY: &str = "make one with: head -c 32 /dev/urandom | base64";

const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];

/// Flags of `session`.
#[derive(Debug, Args)]
pub struct SessionFlags {
    /// In or out.
    #[command(subcommand)]
    pub command: MoveCommand,
    /// Folder of the service's store [default: `./data`; with --sandbox `./sandbox-data`].
    #[arg(long, env = "CONNECTOR_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Where Telegram sessions are kept, as `serve` has it.
    #[arg(long, env = "CONNECTOR_SESSION_STORE", global = true)]
    pub session_store: Option<String>,
    /// The session belongs to a sandbox: the embedded one, or the running one whose control API is at URL.
    #[arg(
        long,
        env = "CONNECTOR_SANDBOX",
        value_name = "URL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        global = true
    )]
    pub sandbox: Option<String>,
    /// How sessions are owned, as `serve` has it.
    #[command(flatten)]
    pub lease: LeaseFlags,
}

/// How a process owns the sessions that it keeps.
#[derive(Clone, Copy, Debug, Args)]
pub struct LeaseFlags {
    /// How long a lease on a session in a bucket lasts, in seconds, when its owner is gone and does not renew it: then
    /// another process takes the session over. 3 to 3600; below 90 the connection to Telegram is made anew every minute.
    #[arg(long, env = "CONNECTOR_LEASE_SECONDS", default_value_t = 90, global = true,
          value_parser = clap::value_parser!(u16).range(3..=3600))]
    pub lease_seconds: u16,
    /// Use a bucket whose server does not honour conditional writes. Two processes on it can destroy the session.
    #[arg(long, env = "CONNECTOR_ALLOW_UNLEASED", global = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set)]
    pub allow_unleased: bool,
}

impl LeaseFlags {
    pub(super) fn settings(self) -> LeaseSettings {
        let lasts = Duration::from_secs(u64::from(self.lease_seconds));
        LeaseSettings { lasts, allow_unleased: self.allow_unleased }
    }
}

/// Which way a session is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum MoveCommand {
    /// Make the `StringSession` on standard input the account's session. The service must not be running.
    Import {
        /// Replace the session that is there. It is not signed out at Telegram.
        #[arg(long)]
        replace: bool,
    },
    /// Print the account's session as a `StringSession`. Whoever has the text has the account.
    Export {
        /// Also while the service is running. Telegram destroys a session that two programs use at once.
        #[arg(long)]
        force: bool,
    },
}

/// Settings of `session`, all valid.
#[derive(Clone, Debug)]
pub struct Moving {
    /// Folder of the service's store.
    pub data_dir: PathBuf,
    /// Where sessions are kept.
    pub session_store: SessionStore,
    /// How they are owned.
    pub lease: LeaseSettings,
    /// `CONNECTOR_MASTER_KEY`.
    pub master_key: Option<Secret<[u8; 32]>>,
    /// Which Telegram the session belongs to.
    pub mode: Mode,
    /// The control API of the running sandbox it belongs to.
    pub sandbox: Option<Url>,
}

impl SessionFlags {
    /// Flags and environment as settings.
    ///
    /// # Errors
    /// All that is wrong, at once.
    pub fn resolve(self, environment: &Environment) -> Result<Moving, Problems> {
        let mut problems = Vec::new();
        let master_key = environment.master_key(&mut problems);
        let (mode, embedded, sandbox) = match sandbox_flag(self.sandbox.as_deref(), &mut problems) {
            Some(SandboxFlag::Off) => (Mode::Telegram, false, None),
            Some(SandboxFlag::Embedded) => (Mode::Sandbox, true, None),
            Some(SandboxFlag::At(url)) => (Mode::Sandbox, false, Some(url)),
            None => (Mode::Sandbox, false, None), // a problem, told below
        };
        let data_dir = self.data_dir.unwrap_or_else(|| default_data_dir(embedded));
        let store = self.session_store.as_deref();
        let place = store_place(store, embedded.then_some(&data_dir), &mut problems);
        check_bucket(&place, master_key.is_some(), environment, &mut problems);
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        let session_store = SessionStore { place, path_style: environment.path_style(), import: None };
        let lease = self.lease.settings();
        Ok(Moving { data_dir, session_store, lease, master_key, mode, sandbox })
    }
}

impl Environment {
    /// `CONNECTOR_MASTER_KEY`.
    pub(super) fn master_key(&self, problems: &mut Vec<String>) -> Option<Secret<[u8; 32]>> {
        let text = self.secret("CONNECTOR_MASTER_KEY", problems)?;
        let key = STANDARD.decode(text.reveal().trim()).ok();
        let key = key.and_then(|key| key.try_into().ok()).map(Secret::new);
        if key.is_none() {
            problems.push(format!("CONNECTOR_MASTER_KEY is not 32 bytes in base64; {MAKE_A_KEY}"));
        }
        key
    }

    /// Whether the AWS variables name an S3 server, so that the bucket is no part of a host name.
    pub(super) fn path_style(&self) -> bool {
        ENDPOINTS.iter().any(|name| self.values.get(*name).is_some_and(|value| !value.is_empty()))
    }

    fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.values.contains_key(&format!("{name}_FILE"))
    }
}

/// `embedded_in`: the data folder of an embedded sandbox, which keeps its sessions to itself.
pub(super) fn store_place(
    text: Option<&str>,
    embedded_in: Option<&PathBuf>,
    problems: &mut Vec<String>,
) -> Place {
    let Some(text) = text else {
        return Place::Path(
            embedded_in.map_or_else(|| "./sessions".into(), |folder| folder.join("sessions")),
        );
    };
    Place::store(text).unwrap_or_else(|| {
        problems
            .push(format!("CONNECTOR_SESSION_STORE={text} is neither file:FOLDER nor s3://BUCKET/PREFIX"));
        Place::Path(PathBuf::new())
    })
}

pub(super) fn import_place(text: Option<&str>, problems: &mut Vec<String>) -> Option<Place> {
    let text = text?;
    let place = Place::object(text);
    if place.is_none() {
        problems.push(format!("CONNECTOR_IMPORT_SESSION={text} is neither a path nor s3://BUCKET/KEY"));
    }
    place
}

/// What a bucket needs. A key in the data directory would be lost with the machine, and with it what the bucket holds.
pub(super) fn check_bucket(
    place: &Place,
    has_master_key: bool,
    environment: &Environment,
    problems: &mut Vec<String>,
) {
    if !place.is_remote() {
        return;
    }
    if !has_master_key && !environment.is_set("CONNECTOR_MASTER_KEY") {
        problems.push(format!(
            "a session store in S3 needs CONNECTOR_MASTER_KEY, the same wherever the service runs; {MAKE_A_KEY}"
        ));
    }
    for name in ENDPOINTS {
        let Some(value) = environment.values.get(name).filter(|value| !value.is_empty()) else { continue };
        let url = Url::parse(value).ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            // Not repeated: there may be a password in it.
            problems.push(format!("{name} is not the http or https URL of an S3 server"));
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::Command;
    use crate::config::CommandLine;
    use crate::config::Serve;

    const KEY: (&str, &str) = ("CONNECTOR_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn serve(flags: &[&str], variables: &[(&str, &str)]) -> Result<Serve, Problems> {
        let line = [&["telegram-connector", "serve", "--sandbox"], flags].concat();
        let Command::Serve(flags) = CommandLine::try_parse_from(line).unwrap().command else {
            unreachable!()
        };
        flags.resolve(&environment(variables))
    }

    fn moving(flags: &[&str], variables: &[(&str, &str)]) -> (MoveCommand, Result<Moving, Problems>) {
        let line = [&["telegram-connector", "session"], flags].concat();
        let Command::Session(flags) = CommandLine::try_parse_from(line).unwrap().command else {
            unreachable!()
        };
        (flags.command, flags.resolve(&environment(variables)))
    }

    #[test]
    fn a_bucket_needs_a_master_key_and_the_error_says_how_to_make_one() {
        let flags = ["--session-store", "s3://bucket/prefix"];
        let Problems(problems) = serve(&flags, &[]).unwrap_err();
        assert!(
            problems.len() == 1 && problems[0].contains("head -c 32 /dev/urandom | base64"),
            "{problems:?}"
        );
        let Problems(problems) = serve(&flags, &[("CONNECTOR_MASTER_KEY", "short")]).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let settings = serve(&flags, &[KEY]).unwrap();
        assert_eq!(settings.session_store.place.to_string(), "s3://bucket/prefix");
        assert!(!settings.session_store.path_style);
        for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"] {
            assert!(serve(&flags, &[KEY, (name, "http://minio:9000")]).unwrap().session_store.path_style);
        }
        assert!(moving(&["export", "--session-store", "s3://b"], &[]).1.is_err());
        for bad in ["minio:9000", "::", "ftp://x"] {
            let Problems(problems) = serve(&flags, &[KEY, ("AWS_ENDPOINT_URL", bad)]).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains("AWS_ENDPOINT_URL"), "{problems:?}");
        }
    }

    #[test]
    fn a_place_that_is_none_is_named() {
        for flag in ["--session-store", "--import-session"] {
            let Problems(problems) = serve(&[flag, "ftp://x"], &[]).unwrap_err();
            assert!(problems.len() == 1 && problems[0].contains("ftp://x"), "{problems:?}");
        }
        let settings = serve(&["--import-session", "old.txt"], &[]).unwrap();
        assert_eq!(settings.session_store.import, Some(Place::Path("old.txt".into())));
    }

    #[test]
    fn a_session_is_moved_where_serve_would_keep_it() {
        let (command, settings) = moving(&["import", "--replace"], &[]);
        let settings = settings.unwrap();
        assert_eq!((command, settings.mode), (MoveCommand::Import { replace: true }, Mode::Telegram));
        assert_eq!(settings.data_dir.to_str(), Some("./data"));
        assert_eq!(settings.session_store, SessionStore::folder("./sessions".into()));

        let (command, settings) = moving(&["export", "--sandbox"], &[]);
        let settings = settings.unwrap();
        assert_eq!((command, settings.mode), (MoveCommand::Export { force: false }, Mode::Sandbox));
        assert_eq!(settings.session_store, SessionStore::folder("./sandbox-data/sessions".into()));
        let joined = moving(&["--sandbox=http://127.0.0.1:5001", "export"], &[]).1.unwrap();
        assert!(joined.sandbox.is_some() && joined.data_dir.ends_with("data"));
        assert!(moving(&["export", "--sandbox=x"], &[]).1.is_err());
    }
}
