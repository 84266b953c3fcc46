//! Faults.

mod ended;
mod floods;
mod missed;
mod network;
mod people;
