//! The sandbox as clients see it: a plain grammers client, a client that speaks MTProto by hand, and the control API.

mod chats;
mod control;
mod hostile;
mod protocol;
mod sign_in;
mod support;
