//! The sandbox's RSA key: made at first start, kept in the data directory, its public half told to clients.

use std::fmt;

use grammers_tl_types::Serializable;
use num_bigint::BigUint;
use rsa::RsaPrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::pkcs1::EncodeRsaPublicKey;
use rsa::pkcs1::LineEnding;
use rsa::traits::PrivateKeyParts;
use rsa::traits::PublicKeyParts;

use crate::domain::ids::Ids;

use super::sha1;

const BITS: usize = 2048;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RsaKeyError {
    #[error("not a PKCS#1 private key in PEM: {0}")]
    Pem(#[from] pkcs1::Error),
    #[error("an RSA key of 2048 bits is needed, this one has {0}")]
    Size(usize),
    #[error("cannot make an RSA key: {0}")]
    Generate(#[from] rsa::Error),
}

/// A 2048-bit RSA key pair, ready to open `req_DH_params.encrypted_data`.
pub(crate) struct RsaKey {
    modulus: BigUint,
    private_exponent: BigUint,
    fingerprint: i64,
    public_pem: String,
}

impl RsaKey {
    /// A new key, as PKCS#1 PEM. Takes from a fraction of a second to a few seconds.
    pub(crate) fn generate(ids: &Ids) -> Result<String, RsaKeyError> {
        let key = RsaPrivateKey::new(&mut Randomness(ids.clone()), BITS)?;
        Ok(key.to_pkcs1_pem(LineEnding::LF)?.to_string())
    }

    /// Reads a private key in PKCS#1 PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, RsaKeyError> {
        let key = RsaPrivateKey::from_pkcs1_pem(pem)?;
        if key.size() != BITS / 8 {
            return Err(RsaKeyError::Size(key.size() * 8));
        }
        let mut public = Vec::new();
        key.n().to_bytes_be().serialize(&mut public);
        key.e().to_bytes_be().serialize(&mut public);
        Ok(Self {
            modulus: BigUint::from_bytes_be(&key.n().to_bytes_be()),
            private_exponent: BigUint::from_bytes_be(&key.d().to_bytes_be()),
            fingerprint: super::long_at(&sha1(&[&public]), 12),
            public_pem: key.to_public_key().to_pkcs1_pem(LineEnding::LF)?,
        })
    }

    /// The lower 64 bits of the SHA-1 of the public key's TL form.
    pub(crate) fn fingerprint(&self) -> i64 {
        self.fingerprint
    }

    /// The modulus, for tests that encrypt with the public half.
    #[cfg(test)]
    pub(crate) fn modulus(&self) -> BigUint {
        self.modulus.clone()
    }

    /// The public half, PKCS#1 PEM.
    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The RSA operation itself, as 256 big-endian bytes; `None` when `cipher` is not below the modulus.
    pub(crate) fn decrypt(&self, cipher: &[u8]) -> Option<[u8; 256]> {
        let cipher = BigUint::from_bytes_be(cipher);
        (cipher < self.modulus)
            .then(|| super::srp::padded(&cipher.modpow(&self.private_exponent, &self.modulus)))
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RsaKey({:016x})", self.fingerprint)
    }
}

/// `Ids` as the generator that the `rsa` crate asks for.
struct Randomness(Ids);

impl rsa::rand_core::RngCore for Randomness {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.bytes())
    }

    fn next_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.0.bytes())
    }

    fn fill_bytes(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }

    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill(buffer);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Randomness {}
