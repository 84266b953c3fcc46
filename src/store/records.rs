//! Records as bytes, the same for every backend: a version, then sealed JSON. Key layout and databases are not here.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::StoreError;
use crate::domain::seal::Sealer;
use crate::domain::seal::UnsealError;

/// The version of a record's JSON; a newer one is refused rather than half understood.
const VERSION: u8 = 1;
/// Bytes of a usual record, and some more.
const ROOM: usize = 1024;

/// Seals `value` for the place `name`.
pub(super) fn encode<T: Serialize>(sealer: &Sealer, name: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    // Room for nearly every record: what is outgrown is not erased.
    let mut json = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *json, value)
        .map_err(|error| StoreError::Unavailable(format!("{name} cannot be encoded: {error}")))?;
    let contents = sealer.seal(name, &json);
    Ok([&[VERSION][..], &contents].concat())
}

/// Opens what [`encode`] made for the same place.
pub(super) fn decode<T: DeserializeOwned>(
    sealer: &Sealer,
    name: &str,
    record: &[u8],
) -> Result<T, StoreError> {
    let corrupt = || StoreError::Corrupt(name.to_owned());
    let (version, contents) = record.split_first().ok_or_else(corrupt)?;
    if *version != VERSION {
        return Err(StoreError::Corrupt(format!("{name} (version {version})")));
    }
    let json = sealer.open(name, contents).map_err(|error| match error {
        UnsealError::OtherKey { sealed_with, configured } => {
            StoreError::OtherKey { place: name.to_owned(), sealed_with, configured }
        }
        UnsealError::Damaged => corrupt(),
    })?;
    serde_json::from_slice(&json).map_err(|_| corrupt())
}
