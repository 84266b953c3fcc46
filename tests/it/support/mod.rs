//! A world for a test: a sandbox Telegram, the service joined to it, and somebody who calls both over HTTP.

mod app;
mod client;
mod process;
mod receiver;
mod recorder;
mod s3;
mod store;
mod world;

pub(crate) use self::app::{App, Attempt, jwt_part};
pub(crate) use self::client::{Answer, Client};
pub(crate) use self::process::{Process, files_with, run, signal};
pub(crate) use self::receiver::{Received, Receiver, Reply};
pub(crate) use self::recorder::Recorder;
pub(crate) use self::s3::{ACCESS_KEY, BUCKET, Conditions, Door, Fault, MASTER_KEY, S3Server, SECRET_KEY};
pub(crate) use self::store::{open_database, open_store, open_tree};
pub(crate) use self::world::{ALICE, BOB, CAROL, Options, PASSWORD, World, eventually, finish, random};
