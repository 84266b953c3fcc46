//! The sandbox as clients see it: a plain grammers client, a client that speaks MTProto by hand, and the control API.

mod chats;
mod control;
mod cost;
mod hostile;
mod misfortune;
mod phone;
mod protocol;
mod sign_in;
pub(super) mod support;
mod updates;
mod wording;
