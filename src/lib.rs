//! Sign in with Telegram, run by its owner.
//!
//! The rooms of the house and who may call whom (kept by `tests/it/architecture.rs`, told in ARCHITECTURE.md):
//! `http` → `flows` → `store`, `telegram` → `vault` → `domain`. Data flows one way; nothing calls upwards.
//! `sandbox` is a Telegram of its own and knows nothing of the service: they meet on the wire.

pub mod app;
pub mod audit;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod flows;
pub mod http;
pub mod lifecycle;
pub mod master_key;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod store;
pub mod telegram;
pub mod telemetry;
pub mod vault;
pub mod webhooks;
