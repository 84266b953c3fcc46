//! Which Telegram is meant: the one difference between production and a sandbox is this value.
//! Telegram itself needs nothing; another network is its data centres' addresses and its RSA key.

use std::collections::BTreeMap;
use std::net::{SocketAddrV4, SocketAddrV6};

use grammers_session::SessionData;
use grammers_session::types::DcOption;
use grammers_tl_types::Serializable as _;
use num_bigint::BigUint;
use sha1::{Digest, Sha1};

/// Where a fresh session starts.
#[derive(Clone, Debug)]
pub struct Network(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Telegram,
    Other { addresses: BTreeMap<i32, SocketAddrV4>, rsa_key: RsaPublicKey },
}

/// The RSA key that a network's data centres prove themselves with.
#[derive(Clone, Debug)]
pub(super) struct RsaPublicKey {
    pub(super) modulus: BigUint,
    pub(super) exponent: BigUint,
}

/// The RSA key of a network is not a PKCS#1 PEM public key.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the RSA key is not a PKCS#1 PEM public key")]
pub struct BadRsaKey;

impl Network {
    /// Telegram: addresses and keys are built into grammers.
    pub const fn telegram() -> Self {
        Self(Kind::Telegram)
    }

    /// Another network, such as a sandbox: its data centres by id, its RSA key as PKCS#1 PEM.
    ///
    /// # Errors
    /// [`BadRsaKey`].
    pub fn other(
        addresses: BTreeMap<i32, SocketAddrV4>,
        rsa_public_key_pem: &str,
    ) -> Result<Self, BadRsaKey> {
        let document = pkcs1::der::SecretDocument::from_pem(rsa_public_key_pem).map_err(|_| BadRsaKey)?.1;
        let key = pkcs1::RsaPublicKey::try_from(document.as_bytes()).map_err(|_| BadRsaKey)?;
        let rsa_key = RsaPublicKey {
            modulus: BigUint::from_bytes_be(key.modulus.as_bytes()),
            exponent: BigUint::from_bytes_be(key.public_exponent.as_bytes()),
        };
        Ok(Self(Kind::Other { addresses, rsa_key }))
    }

    /// The key for our own key exchange; `None` where grammers' own does it.
    pub(super) const fn rsa_key(&self) -> Option<&RsaPublicKey> {
        match &self.0 {
            Kind::Telegram => None,
            Kind::Other { rsa_key, .. } => Some(rsa_key),
        }
    }

    /// Where data centre `id` is, for a program that goes on with a session of ours.
    pub fn address(&self, id: i32, learnt: Option<SocketAddrV4>) -> Option<SocketAddrV4> {
        self.dc_option(id, learnt).map(|option| option.ipv4)
    }

    /// Where data centre `id` is. An address learnt from Telegram counts; on another network only the configured
    /// one does, so that nothing a session remembers leads elsewhere.
    pub(super) fn dc_option(&self, id: i32, learnt: Option<SocketAddrV4>) -> Option<DcOption> {
        match &self.0 {
            Kind::Telegram => {
                let known = SessionData::default().dc_options.remove(&id);
                match (learnt, known) {
                    (None, known) => known,
                    (Some(address), Some(known)) => Some(DcOption { ipv4: address, ..known }),
                    (Some(address), None) => Some(plain_option(id, address)),
                }
            }
            Kind::Other { addresses, .. } => addresses.get(&id).map(|&address| plain_option(id, address)),
        }
    }
}

fn plain_option(id: i32, ipv4: SocketAddrV4) -> DcOption {
    let ipv6 = SocketAddrV6::new(ipv4.ip().to_ipv6_mapped(), ipv4.port(), 0, 0);
    DcOption { id, ipv4, ipv6, auth_key: None }
}

impl RsaPublicKey {
    /// The last 8 bytes of SHA-1 over the TL `rsa_public_key` (`core.telegram.org/mtproto/auth_key`).
    pub(super) fn fingerprint(&self) -> i64 {
        let mut bytes = Vec::new();
        self.modulus.to_bytes_be().serialize(&mut bytes);
        self.exponent.to_bytes_be().serialize(&mut bytes);
        let digest: [u8; 20] = Sha1::digest(&bytes).into();
        digest.last_chunk().map_or(0, |last| i64::from_le_bytes(*last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Telegram's test key, as its documentation prints it; its fingerprint is well known.
    const TEST_KEY: &str = "-----BEGIN RSA PUBLIC KEY-----
MIIBCgKCAQEAyMEdY1aR+sCR3ZSJrtztKTKqigvO/vBfqACJLZtS7QMgCGXJ6XIR
yy7mx66W0/sOFa7/1mAZtEoIokDP3ShoqF4fVNb6XeqgQfaUHd8wJpDWHcR2OFwv
plUUI1PLTktZ9uW2WE23b+ixNwJjJGwBDJPQEQFBE+vfmH0JP503wr5INS1poWg/
j25sIWeYPHYeOrFp/eXaqhISP6G+q2IeTaWTXpwZj4LzXq5YOpk4bYEQ6mvRq7D1
aHWfYmlEGepfaYR8Q0YqvvhYtMte3ITnuSJs171+GDqpdKcSwHnd6FudwGO4pcCO
j4WcDuXc2CTHgH8gFTNhp/Y8/SpDOhvn9QIDAQAB
-----END RSA PUBLIC KEY-----";

    #[test]
    fn a_pem_key_is_read_and_has_its_well_known_fingerprint() {
        let network = Network::other(BTreeMap::new(), TEST_KEY).unwrap();
        assert_eq!(network.rsa_key().unwrap().fingerprint(), -5_595_554_452_916_591_101);
        assert!(Network::other(BTreeMap::new(), "no key").is_err());
    }

    #[test]
    fn on_another_network_only_the_configured_addresses_count() {
        let ours: SocketAddrV4 = "127.0.0.1:4001".parse().unwrap();
        let learnt: SocketAddrV4 = "149.154.167.50:443".parse().unwrap();
        let network = Network::other(BTreeMap::from([(2, ours)]), TEST_KEY).unwrap();
        assert_eq!(network.dc_option(2, Some(learnt)).unwrap().ipv4, ours);
        assert!(network.dc_option(1, Some(learnt)).is_none());
        assert_eq!(Network::telegram().dc_option(2, Some(learnt)).unwrap().ipv4, learnt);
        assert!(Network::telegram().dc_option(1, None).is_some());
    }
}
