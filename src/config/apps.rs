//! What apps and developers are offered: the links they get, and the first developer.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use url::Url;

use super::Environment;
use super::network::networks;
use crate::domain::developer::Email;
use crate::domain::ids::Secret;

/// Flags of `serve` that concern apps and developers.
#[derive(Debug, Args)]
pub struct AppFlags {
    /// What links to Telegram begin with [default: `https://t.me`; embedded sandbox: its own base URL].
    #[arg(long, env = "CONNECTOR_LINK_BASE")]
    pub link_base: Option<Url>,
    /// Permit links that show the account's phone number, where it has no username.
    #[arg(long, env = "CONNECTOR_DEEPLINK_BY_PHONE", num_args = 0..=1, default_value_t = false, default_missing_value = "true")]
    pub deeplink_by_phone: bool,
    /// Create a developer with this e-mail address (and `CONNECTOR_BOOTSTRAP_PASSWORD`) if there is none. One who has the
    /// address with another password gets this one, and their tokens end.
    #[arg(long, env = "CONNECTOR_BOOTSTRAP_EMAIL")]
    pub bootstrap_email: Option<String>,
    /// A TOML file of projects, applied at each start; they belong to the bootstrap developer.
    #[arg(long, env = "CONNECTOR_PROJECTS", value_name = "FILE")]
    pub projects: Option<PathBuf>,
    /// Who may register as a developer [default: closed; embedded sandbox: open].
    #[arg(long, env = "CONNECTOR_REGISTRATION")]
    pub registration: Option<Registration>,
    /// Networks (CIDR, comma-separated) that webhooks may reach although they are not public; http too [default: none;
    /// embedded sandbox that listens on loopback: loopback].
    #[arg(long, env = "CONNECTOR_WEBHOOK_ALLOW", value_delimiter = ',')]
    pub webhook_allow: Vec<String>,
    /// Days after which ended sessions and webhook deliveries are removed; four at least, because webhooks are repeated
    /// for three. Totals stay.
    #[arg(long, env = "CONNECTOR_RETENTION_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub retention_days: u32,
}

/// Who may register as a developer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Nobody.
    Closed,
    /// Anybody.
    Open,
}

/// The same, all valid.
#[derive(Clone, Debug)]
pub struct Apps {
    /// `CONNECTOR_PUBLIC_URL`, without a slash at the end.
    pub public_url: Option<String>,
    /// `CONNECTOR_LINK_BASE`, without a slash at the end.
    pub link_base: Option<String>,
    /// `CONNECTOR_DEEPLINK_BY_PHONE`.
    pub deeplink_by_phone: bool,
    /// `CONNECTOR_BOOTSTRAP_EMAIL` and `CONNECTOR_BOOTSTRAP_PASSWORD`.
    pub bootstrap: Option<(Email, Secret<String>)>,
    /// `CONNECTOR_PROJECTS`.
    pub projects: Option<PathBuf>,
    /// `CONNECTOR_REGISTRATION`.
    pub registration_open: bool,
    /// `CONNECTOR_WEBHOOK_ALLOW`.
    pub webhook_allow: Vec<IpNet>,
    /// `CONNECTOR_RETENTION_DAYS`.
    pub retention: Duration,
}

impl AppFlags {
    /// Flags and environment as settings; `embedded`: for a service with a sandbox of its own, `alone`: which listens on
    /// loopback, so that nobody else is a developer there.
    pub(super) fn resolve(
        &self,
        embedded: bool,
        alone: bool,
        public_url: Option<&Url>,
        environment: &Environment,
        problems: &mut Vec<String>,
    ) -> Apps {
        let password = environment.secret("CONNECTOR_BOOTSTRAP_PASSWORD", problems);
        let bootstrap = match (self.bootstrap_email.as_deref().map(Email::parse), password) {
            (Some(Ok(email)), Some(password)) if password.reveal().chars().count() >= 12 => {
                Some((email, password))
            }
            (Some(Ok(_)), Some(_)) => {
                problems.push("CONNECTOR_BOOTSTRAP_PASSWORD has fewer than 12 characters".to_owned());
                None
            }
            (Some(Err(error)), _) => {
                problems.push(format!("CONNECTOR_BOOTSTRAP_EMAIL is {error}"));
                None
            }
            (Some(Ok(_)), None) | (None, Some(_)) => {
                let both = "CONNECTOR_BOOTSTRAP_EMAIL and CONNECTOR_BOOTSTRAP_PASSWORD go together: set both or none";
                problems.push(both.to_owned());
                None
            }
            (None, None) => None,
        };
        let plain = |url: &Url, name: &str, problems: &mut Vec<String>| {
            if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some()
            {
                problems.push(format!("{name} is an http or https URL without query and fragment"));
            }
            url.as_str().trim_end_matches('/').to_owned()
        };
        if self.projects.is_some() && bootstrap.is_none() && !embedded {
            let owner = "CONNECTOR_PROJECTS needs an owner for its projects: set CONNECTOR_BOOTSTRAP_EMAIL and _PASSWORD";
            problems.push(owner.to_owned());
        }
        let webhook_allow = if embedded && alone && self.webhook_allow.is_empty() {
            vec!["127.0.0.0/8".to_owned(), "::1".to_owned()]
        } else {
            self.webhook_allow.clone()
        };
        Apps {
            public_url: public_url.map(|url| plain(url, "CONNECTOR_PUBLIC_URL", problems)),
            link_base: self.link_base.as_ref().map(|url| plain(url, "CONNECTOR_LINK_BASE", problems)),
            deeplink_by_phone: self.deeplink_by_phone,
            bootstrap,
            projects: self.projects.clone(),
            registration_open: self.registration.map_or(embedded, |who| who == Registration::Open),
            webhook_allow: networks("CONNECTOR_WEBHOOK_ALLOW", &webhook_allow, problems),
            retention: Duration::from_secs(u64::from(self.retention_days) * 24 * 3600),
        }
    }
}
