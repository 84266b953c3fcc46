//! The use cases: one function for each thing a caller can do, with typed outcomes. No HTTP, no MTProto, no SQL here.

pub mod accounts;
pub mod auth;
pub mod confirm;
pub mod deliveries;
pub mod developers;
pub mod ledger;
pub mod outbox;
mod ownership;
mod pace;
pub mod readiness;
pub mod sign_in;
pub(crate) mod slowing;
mod texts;
mod to_its_end;
