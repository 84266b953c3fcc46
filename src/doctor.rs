//! `doctor`: whether a set-up works, part by part, before and while it runs. Changes nothing but probes it removes.

use std::fmt;

use crate::app::Settings;
use crate::domain::ids::Ids;
use crate::domain::ids::Secret;
use crate::domain::seal::Sealer;
use crate::master_key;
use crate::store::EmbeddedStore;
use crate::store::Store as _;
use crate::store::StoreError;
use crate::telegram;
use crate::vault::NO_CONDITIONS;
use crate::vault::Probe;

/// MTProto refuses messages from clocks further off than this (`bad_msg_notification` 16 and 17), in seconds.
const CLOCK_BEHIND_AT_MOST: i64 = 300;
const CLOCK_AHEAD_AT_MOST: i64 = 30;

/// One part's finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which part.
    pub part: &'static str,
    /// Whether it works.
    pub works: bool,
    /// What was seen, or what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:<14} {}", if self.works { "ok  " } else { "FAIL" }, self.part, self.text)
    }
}

fn finding(part: &'static str, outcome: Result<String, String>) -> Finding {
    let works = outcome.is_ok();
    Finding { part, works, text: outcome.unwrap_or_else(|text| text) }
}

/// Examines every part of a set-up whose configuration was understood.
pub async fn examine(settings: &Settings, ids: &Ids) -> Vec<Finding> {
    let key = master_key::find(settings.master_key.as_ref(), &settings.data_dir);
    let configuration = match &key {
        Ok(key) => Ok(describe(settings, key.as_ref())),
        Err(error) => Err(error.to_string()),
    };
    let mut findings = vec![finding("configuration", configuration)];
    match key {
        Ok(Some(key)) => {
            let sealer = Sealer::new(key.reveal(), ids.clone());
            findings.push(finding("store", store(settings, &sealer).await));
            findings.push(finding("session store", session_store(settings, &sealer, ids).await));
        }
        Ok(None) if settings.data_dir.join("store").exists() => {
            let why = "there is a store, but no master key: restore master.key or set CONNECTOR_MASTER_KEY";
            findings.push(finding("store", Err(why.to_owned())));
        }
        Ok(None) => {
            findings.push(finding("store", Ok("not made yet; the first start makes it".to_owned())));
            let sealer = Sealer::new(&[0; 32], ids.clone());
            findings.push(finding("session store", session_store(settings, &sealer, ids).await));
        }
        Err(_) => {}
    }
    findings.extend(telegram(settings, ids).await);
    findings
}

fn describe(settings: &Settings, key: Option<&Secret<[u8; 32]>>) -> String {
    let key = match (key, &settings.master_key) {
        (Some(_), Some(_)) => "master key from the environment",
        (Some(_), None) => "master key in the data directory",
        (None, _) => "no master key yet",
    };
    let token = if settings.admin_token.is_some() { "operator token set" } else { "no operator token" };
    let (listen, mode, data) = (settings.listen, settings.mode, settings.data_dir.display());
    format!("{mode} mode, listening on {listen}, data in {data}, {key}, {token}")
}

async fn store(settings: &Settings, sealer: &Sealer) -> Result<String, String> {
    let directory = settings.data_dir.join("store");
    match EmbeddedStore::open_as_is(&directory, settings.cache_bytes, settings.mode, sealer.clone()).await {
        Ok(None) => Ok("not made yet; the first start makes it".to_owned()),
        Err(error @ StoreError::Former(_)) => Ok(error.to_string()),
        Ok(Some(store)) => {
            store.ping().await.map(|()| "a durable write works".to_owned()).map_err(|error| error.to_string())
        }
        Err(StoreError::InUse(_)) => Ok("ok (in use)".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

async fn session_store(settings: &Settings, sealer: &Sealer, ids: &Ids) -> Result<String, String> {
    let vault = settings.vault(sealer.clone()).await;
    let probe = vault.probe(&ids.base62(12)).await.map_err(|error| error.to_string())?;
    let probe = match probe {
        Probe::Folder => "the folder can be written",
        Probe::Conditions => "the bucket can be written, with conditions",
        Probe::NoConditions if settings.lease.allow_unleased => {
            "the bucket can be written, but the server does not honour conditional writes: never run two processes on it"
        }
        Probe::NoConditions => return Err(NO_CONDITIONS.to_owned()),
    };
    let session = match vault.load().await.map_err(|error| error.to_string())? {
        None => "no session yet".to_owned(),
        Some(session) => match session.user.and_then(|user| user.phone) {
            Some(phone) => format!("holds the session of {}", phone.masked()),
            None => "holds a session".to_owned(),
        },
    };
    Ok(format!("{session}; {probe}"))
}

async fn telegram(settings: &Settings, ids: &Ids) -> Vec<Finding> {
    match telegram::reach(&settings.telegram, ids).await {
        Err(error) => {
            let advice = "check the network, and TELEGRAM_PROXY where Telegram is blocked";
            let unknown = "not known: Telegram, which tells the time, cannot be reached".to_owned();
            vec![
                finding("clock", Err(unknown)),
                finding("telegram", Err(format!("cannot be reached: {error}; {advice}"))),
            ]
        }
        Ok(reached) => {
            let ahead = reached.clock_ahead_s;
            let clock = if (-CLOCK_BEHIND_AT_MOST..=CLOCK_AHEAD_AT_MOST).contains(&ahead) {
                Ok(format!("{ahead} s ahead of Telegram's"))
            } else {
                Err(format!("{ahead} s ahead of Telegram's, which refuses such messages: set it (NTP)"))
            };
            let took = reached.took.as_millis();
            vec![
                finding("clock", clock),
                finding("telegram", Ok(format!("a data centre answered in {took} ms"))),
            ]
        }
    }
}
