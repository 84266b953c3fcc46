//! What the service is about, without IO: time, ids, the two-step sign-in, what is sealed at rest.
//! Nothing here opens a socket, reads a file, spawns a task, or asks the system for the time or for randomness.

pub mod account;
pub mod auth_session;
pub mod bot_token;
pub mod clock;
pub mod delivery;
pub mod developer;
pub mod errand;
pub mod ids;
pub mod language;
pub mod ledger;
pub mod login;
pub mod page_policy;
pub mod place;
pub mod project;
pub mod project_wishes;
pub mod proof;
pub mod seal;
pub mod string_session;
pub mod subscriber;
pub mod webhook_target;
