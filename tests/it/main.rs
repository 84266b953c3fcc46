//! What a client sees, end to end: every test starts the real service and a sandbox Telegram on free ports.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    clippy::format_collect,
    reason = "a test that meets the unexpected has failed; helpers outside #[test] functions too"
)]

mod support;

mod account;
mod apps;
mod architecture;
mod audit;
mod bots;
mod clients;
mod confirm;
mod confirm_by_person;
mod confirm_restart;
mod conversation;
mod crash;
mod delivery_conformance;
mod developers;
mod disk;
mod doctor;
mod faults;
mod guard;
mod lease;
mod ledger_store;
mod limits;
mod outage;
mod pace;
mod pages;
mod project_bots;
mod project_secrets;
mod projects;
mod projects_file;
mod proxy;
mod quick;
mod quoted;
mod restart;
mod sandbox_alone;
mod secrets;
mod session_move;
mod session_store;
mod sessions;
mod sign_in;
mod soak;
mod store_conformance;
mod surface;
mod threats;
mod waiting;
mod webhook_client;
mod webhook_targets;
mod webhooks;
