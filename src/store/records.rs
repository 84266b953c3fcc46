//! Records as bytes, the same for every backend: a version, then a sealed value. Key layout and databases are not here.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::domain::seal::Sealer;
use crate::domain::seal::UnsealError;

/// The versions of a record: how its value is written. Any other is refused rather than half understood.
const JSON: u8 = 1;
/// `MessagePack`, structures as arrays of their fields in their order: less than half the length, and work. So a field is added
/// to what is written in this way at its end only, and with `#[serde(default)]`, also an `Option`. A program of before refuses
/// such a record: who adds one cannot go back.
const COMPACT: u8 = 2;
/// Bytes of a usual record, and some more.
const ROOM: usize = 1024;

/// Seals `value` for the place `name`.
pub(super) fn encode<T: Serialize>(sealer: &Sealer, name: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    sealed(JSON, sealer, name, |record| serde_json::to_writer(record, value))
}

/// As [`encode`], for what is written and read at every sign-in.
pub(super) fn encode_compact<T: Serialize>(
    sealer: &Sealer,
    name: &str,
    value: &T,
) -> Result<Vec<u8>, StoreError> {
    sealed(COMPACT, sealer, name, |record| rmp_serde::encode::write(record, value))
}

fn sealed<E: Display>(
    version: u8,
    sealer: &Sealer,
    name: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<Vec<u8>, StoreError> {
    // Room for nearly every record: what is outgrown is not erased.
    let mut record = Vec::with_capacity(ROOM);
    record.push(version);
    let written = sealer.seal_onto(&mut record, name, write);
    written.map_err(|error| StoreError::Unavailable(format!("{name} cannot be encoded: {error}")))?;
    Ok(record)
}

/// Opens what [`encode`] or [`encode_compact`] made for the same place.
pub(super) fn decode<T: DeserializeOwned>(
    sealer: &Sealer,
    name: &str,
    record: &[u8],
) -> Result<T, StoreError> {
    let corrupt = || StoreError::Corrupt(name.to_owned());
    let (version, contents) = record.split_first().ok_or_else(corrupt)?;
    if ![JSON, COMPACT].contains(version) {
        return Err(StoreError::Corrupt(format!("{name} (version {version})")));
    }
    let value = sealer.open(name, contents).map_err(|error| match error {
        UnsealError::OtherKey { sealed_with, configured } => {
            StoreError::OtherKey { place: name.to_owned(), sealed_with, configured }
        }
        UnsealError::Damaged => corrupt(),
    })?;
    match *version {
        JSON => serde_json::from_slice(&value).map_err(|_| corrupt()),
        _ => rmp_serde::from_slice(&value).map_err(|_| corrupt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::auth_session::AuthSession;
    use crate::domain::errand::Errand;
    use crate::domain::ids::Ids;

    /// A session in which everything is that one may have, as version 1 wrote it.
    const AS_JSON: &str = r#"{
        "id": "0123456789abcdefghjkmnpqrstv", "token": "sess_0123456789abcdefghijABCDEFGHIJ01", "project": "proj_demo",
        "via": { "account": 500, "bot": true }, "watch": "abcdefghijk", "created_at": 1700000000000,
        "expires_at": 1700000600000, "nonce": "n-1",
        "origin": { "device": { "Browser": "Firefox on Linux" }, "address": "203.0.113.x", "site": "shop.example" },
        "language": "ru", "wants_phone": true, "match_code": { "right": 12, "offered": [11, 12, 13] },
        "opening": {
            "person": { "id": 7, "access_hash": -9, "name": "Alice", "username": "alice" },
            "via": { "account": 500, "bot": true }, "message": 10, "language": "en", "prompt": 20,
            "awaits_contact": false, "answered_by": [30]
        },
        "state": {
            "Used": { "phone": "+15550100001", "confirmed_at": 1700000003000, "at": 1700000004000, "receipt": "digest" }
        },
        "timeline": [
            { "at": 1700000000000, "what": "Created" }, { "at": 1700000001000, "what": "Opened" },
            { "at": 1700000002000, "what": { "PromptDelayed": 3 } },
            { "at": 1700000002000, "what": { "Cancelled": "Person" } }
        ],
        "forgotten": false
    }"#;
    /// The same, as version 2 does. What is once written so must always be read.
    const AS_COMPACT: &str = "dc0010bc3031323334353637383961626364656667686a6b6d6e707172737476d925736573735f3031323334353637383961\
        62636465666768696a4142434445464748494a3031a970726f6a5f64656d6f92cd01f4c3ab6162636465666768696a6bcf00\
        00018bcfe56800cf0000018bcfee8fc0a36e2d319381a742726f77736572b046697265666f78206f6e204c696e7578ab3230\
        332e302e3131332e78ac73686f702e6578616d706c65a27275c3920c930b0c0d979407f7a5416c696365a5616c69636592cd\
        01f4c30aa2656e14c2911e81a45573656494ac2b3135353530313030303031cf0000018bcfe573b8cf0000018bcfe577a0a6\
        6469676573749492cf0000018bcfe56800a74372656174656492cf0000018bcfe56be8a64f70656e656492cf0000018bcfe5\
        6fd081ad50726f6d707444656c617965640392cf0000018bcfe56fd081a943616e63656c6c6564a6506572736f6ec2";

    /// Errands, in both ways.
    const ERRANDS: [(&str, &str); 2] = [
        (
            r#"{"via":{"account":500,"bot":true},"person":7,"access_hash":-9,"random_id":-3,
                "task":{"Prompt":{"session":"0123456789abcdefghjkmnpqrstv"}},
                "created_at":1700000000000,"not_after":1700000600000}"#,
            "9792cd01f4c307f7fd81a650726f6d707491bc3031323334353637383961626364656667686a6b6d6e707172737476cf\
             0000018bcfe56800cf0000018bcfee8fc0",
        ),
        (
            r#"{"via":{"account":500,"bot":false},"person":7,"access_hash":0,"random_id":3,
                "task":{"Reply":{"to":5,"says":"AlreadyAsked","language":"ru"}},
                "created_at":1700000000000,"not_after":1700000600000}"#,
            "9792cd01f4c207000381a55265706c799305ac416c726561647941736b6564a27275cf0000018bcfe56800cf0000018b\
             cfee8fc0",
        ),
    ];

    fn sealer() -> Sealer {
        Sealer::new(&[7; 32], Ids::from_seed([1; 32]))
    }

    fn as_written(version: u8, plaintext: &[u8]) -> Vec<u8> {
        [&[version][..], &sealer().seal("session/x", plaintext)].concat()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    #[test]
    fn a_session_is_read_however_it_was_written_and_written_in_less_than_half_the_length() {
        let session: AuthSession =
            decode(&sealer(), "session/x", &as_written(JSON, AS_JSON.as_bytes())).unwrap();
        let record = encode_compact(&sealer(), "session/x", &session).unwrap();
        let written = sealer().open("session/x", &record[1..]).unwrap();
        assert_eq!(hex(&written), AS_COMPACT);
        assert!(decode::<AuthSession>(&sealer(), "session/x", &record).unwrap() == session);
        let as_json = serde_json::to_vec(&session).unwrap();
        assert!(written.len() * 2 < as_json.len(), "{} of {} bytes", written.len(), as_json.len());
    }

    #[test]
    fn an_errand_is_read_however_it_was_written() {
        for (as_json, compact) in ERRANDS {
            let errand: Errand =
                decode(&sealer(), "session/x", &as_written(JSON, as_json.as_bytes())).unwrap();
            let record = encode_compact(&sealer(), "session/x", &errand).unwrap();
            assert_eq!(hex(&sealer().open("session/x", &record[1..]).unwrap()), compact);
            assert_eq!(decode::<Errand>(&sealer(), "session/x", &record).unwrap(), errand);
        }
    }

    #[test]
    fn fields_may_be_added_at_the_end_and_other_versions_are_refused() {
        #[derive(serde::Deserialize, PartialEq, Debug)]
        struct Later(u8, String, #[serde(default)] Option<u8>);
        let record = encode_compact(&sealer(), "x", &(1, "two")).unwrap();
        assert_eq!(decode::<Later>(&sealer(), "x", &record).unwrap(), Later(1, "two".to_owned(), None));
        let other = decode::<Later>(&sealer(), "x", &as_written(3, b"")).unwrap_err();
        assert!(matches!(other, StoreError::Corrupt(what) if what == "x (version 3)"));
        assert!(matches!(decode::<Later>(&sealer(), "x", &[]), Err(StoreError::Corrupt(_))));
        assert!(matches!(
            decode::<Later>(&sealer(), "session/x", &as_written(COMPACT, b"\x93")),
            Err(StoreError::Corrupt(_))
        ));
    }
}
