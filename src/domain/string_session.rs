//! Telethon's `StringSession`: the text form of a login that other Telegram programs read and write.
//! `1`, then URL-safe base64 of: data-centre id (1), IP address (4 or 16), port (2, big-endian), key (256).
//! It holds the key and nothing else, so who is signed in has to be asked of Telegram.

use std::fmt;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::net::SocketAddrV4;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::general_purpose::GeneralPurposeConfig;
use zeroize::Zeroizing;

use crate::domain::account::AuthKey;
use crate::domain::account::DataCentre;
use crate::domain::account::TelegramSession;

/// What a `SQLite` database begins with, and so Telethon's `.session` file.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// Telethon pads; what people paste may have lost that.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A login as Telethon writes it.
#[derive(Clone, PartialEq, Eq)]
pub struct StringSession {
    /// The data centre the account lives in.
    pub dc: u8,
    /// Where that is.
    pub address: SocketAddr,
    /// The login itself.
    pub key: AuthKey,
}

impl fmt::Debug for StringSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StringSession(data centre {})", self.dc)
    }
}

/// Why a text is not a `StringSession`. Never tells the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAStringSession {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// A `.session` file.
    #[error(
        "it is a Telethon .session file (SQLite), which is not read; make its StringSession with: \
         python3 -c \"from telethon.sync import TelegramClient; from telethon.sessions import StringSession; \
         print(StringSession.save(TelegramClient('NAME', 1, 'x').session))\" where NAME.session is the file"
    )]
    Sqlite,
    /// Another version of the format, or another program's.
    #[error("it is no StringSession: one of Telethon begins with 1 and has 353 or 369 characters")]
    Other,
    /// The key is all zeros, as in the session of a client that has never connected.
    #[error("it holds no key: the program that made it was not connected")]
    NoKey,
}

impl StringSession {
    /// Reads the text, which may have white space around it.
    ///
    /// # Errors
    /// See [`NotAStringSession`].
    pub fn parse(text: &[u8]) -> Result<Self, NotAStringSession> {
        if text.starts_with(SQLITE) {
            return Err(NotAStringSession::Sqlite);
        }
        let text = text.trim_ascii();
        if text.is_empty() {
            return Err(NotAStringSession::Empty);
        }
        let encoded = text.strip_prefix(b"1").ok_or(NotAStringSession::Other)?;
        let bytes = BASE64.decode(encoded).map_err(|_| NotAStringSession::Other)?;
        Self::from_bytes(&Zeroizing::new(bytes)).ok_or(NotAStringSession::Other)?
    }

    fn from_bytes(bytes: &[u8]) -> Option<Result<Self, NotAStringSession>> {
        let (&dc, rest) = bytes.split_first()?;
        let (rest, key) = rest.split_last_chunk::<256>()?;
        let (ip, &port) = rest.split_last_chunk::<2>()?;
        let ip = match ip.len() {
            4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
            16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
            _ => return None,
        };
        if dc == 0 {
            return None;
        }
        if key.iter().all(|&byte| byte == 0) {
            return Some(Err(NotAStringSession::NoKey));
        }
        Some(Ok(Self { dc, address: SocketAddr::new(ip, u16::from_be_bytes(port)), key: AuthKey::new(*key) }))
    }

    /// The text.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(275));
        bytes.push(self.dc);
        match self.address.ip() {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(self.address.port().to_be_bytes());
        bytes.extend(self.key.bytes());
        let mut text = Zeroizing::new(String::with_capacity(372));
        text.push('1');
        BASE64.encode_string(&bytes, &mut text);
        text
    }

    /// A session to go on with; who is signed in is not known yet.
    pub fn into_session(self) -> TelegramSession {
        let address = match self.address {
            SocketAddr::V4(address) => Some(address),
            // Our connections are IPv4; the built-in address serves.
            SocketAddr::V6(_) => None,
        };
        let centre = DataCentre { address, auth_key: Some(self.key) };
        let home_dc = i32::from(self.dc);
        TelegramSession { home_dc, data_centres: [(home_dc, centre)].into(), ..TelegramSession::default() }
    }

    /// The login of a session whose home data centre is at `address`; `None` when there is no key, or the data
    /// centre has a number that the format cannot hold.
    pub fn of(session: &TelegramSession, address: SocketAddrV4) -> Option<Self> {
        Some(Self {
            dc: session.home_dc.try_into().ok()?,
            address: address.into(),
            key: session.home_key()?.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Written by Telethon 1.45.0: data centre 4, 149.154.167.91:443, key bytes 0, 1, 2, ….
    const BY_TELETHON: &str = "1BJWap1sBuwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5_gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp-goaKjpKWmp6ipqqusra6vsLGys7S1tre4ubq7vL2-v8DBwsPExcbHyMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8=";
    /// The same with an IPv6 address.
    const BY_TELETHON_V6: &str = "1BCABBnwE6PAEAAAAAAAAAAoBuwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX2BhYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5_gIGCg4SFhoeIiYqLjI2Oj5CRkpOUlZaXmJmam5ydnp-goaKjpKWmp6ipqqusra6vsLGys7S1tre4ubq7vL2-v8DBwsPExcbHyMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8=";

    fn counting_key() -> AuthKey {
        AuthKey::new(std::array::from_fn(|index| u8::try_from(index).unwrap()))
    }

    #[test]
    fn what_telethon_wrote_is_read_and_written_the_same() {
        for (text, address) in
            [(BY_TELETHON, "149.154.167.91:443"), (BY_TELETHON_V6, "[2001:67c:4e8:f004::a]:443")]
        {
            let read = StringSession::parse(text.as_bytes()).unwrap();
            assert_eq!((read.dc, read.address), (4, address.parse().unwrap()));
            assert!(read.key == counting_key());
            assert_eq!(*read.to_text(), text);
            assert_eq!(StringSession::parse(format!(" {text}\r\n").as_bytes()), Ok(read.clone()));
            assert_eq!(StringSession::parse(text.trim_end_matches('=').as_bytes()), Ok(read));
        }
    }

    #[test]
    fn garbage_is_told_apart_and_never_repeated() {
        let at = |text: &str| StringSession::parse(text.as_bytes()).unwrap_err();
        assert_eq!(at(" \n"), NotAStringSession::Empty);
        assert_eq!(at("SQLite format 3\0 and so on"), NotAStringSession::Sqlite);
        for text in ["hello", "1", "1AAAA", &BY_TELETHON[..BY_TELETHON.len() - 8], &BY_TELETHON[1..], "2AQ=="]
        {
            assert_eq!(at(text), NotAStringSession::Other, "{text}");
        }
        let empty =
            StringSession { dc: 2, address: "1.2.3.4:443".parse().unwrap(), key: AuthKey::new([0; 256]) };
        assert_eq!(at(&empty.to_text()), NotAStringSession::NoKey);
    }

    #[test]
    fn a_session_keeps_what_the_text_holds_and_prints_no_key() {
        let read = StringSession::parse(BY_TELETHON.as_bytes()).unwrap();
        assert_eq!(format!("{read:?}"), "StringSession(data centre 4)");
        let session = read.clone().into_session();
        assert_eq!(session.home_dc, 4);
        assert!(session.user.is_none() && session.home_key() == Some(&counting_key()));
        let address = session.data_centres[&4].address.unwrap();
        assert_eq!(StringSession::of(&session, address), Some(read));
        assert_eq!(StringSession::of(&TelegramSession::default(), address), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(read) = StringSession::parse(&bytes) {
                prop_assert_eq!(StringSession::parse(read.to_text().as_bytes()), Ok(read));
            }
        }

        #[test]
        fn any_login_survives(dc in 1u8.., ip: [u8; 4], port: u16, key in any::<[u8; 32]>()) {
            let mut bytes = [1; 256];
            bytes[..32].copy_from_slice(&key);
            let session = StringSession {
                dc,
                address: SocketAddr::new(Ipv4Addr::from(ip).into(), port),
                key: AuthKey::new(bytes),
            };
            prop_assert_eq!(StringSession::parse(session.to_text().as_bytes()), Ok(session));
        }
    }
}
