//! Faults.

mod ended;
mod floods;
mod network;
mod people;
