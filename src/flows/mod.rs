//! The use cases: one function for each thing a caller can do, with typed outcomes. No HTTP, no MTProto, no SQL here.

pub mod readiness;
pub mod sign_in;
