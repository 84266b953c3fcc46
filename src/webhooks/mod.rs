//! Delivering webhooks: the one place that connects to addresses which somebody else chose.
//! What may be chosen is `domain/webhook_target.rs`; what is delivered, and when again, is not decided in the client.

pub mod client;
pub mod courier;
pub mod dispatcher;
pub mod resolver;
mod retry_after;
mod trust;
