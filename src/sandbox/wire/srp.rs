//! Two-factor passwords by SRP, server half (<https://core.telegram.org/api/srp>), and Telegram's Diffie-Hellman group.
//! Only salts and verifier are kept, never the password.

use num_bigint::BigUint;
use serde::Deserialize;
use serde::Serialize;
use sha2::Sha512;
use subtle::ConstantTimeEq;

use crate::domain::ids::Ids;

use super::sha256;

/// The generator of the group.
pub(crate) const G: i32 = 3;

const PRIME: &str = "c71caeb9c6b1c9048e6c522f70f13f73980d40238e3e21c14934d037563d930f48198a0aa7c14058229493d22530f4dbfa336f6e0ac925139543aed44cce7c3720fd51f69458705ac68cd4fe6b6b13abdc9746512969328454f18faf8c595f642477fe96bb2a941d5bcd1d4ac8cc49880708fa9b378e3c4f3a9060bee67cf9a4a4a695811051907e162753b56b0f6b410dba74d8a84b2a14b3144e0ef1284754fd17ed950d5965b4b9dd46582db1178d169c6bc465b0d6ff9ca3928fef5b9ae4e418fc15e83ebea0f87fa9ff5eed70050ded2849f47bf959d956850ce929851f0d8115f635b105ee2e4e15d04b2454bf6f4fadf034b10403119cd8e3b92fcc5b";

/// Telegram's known safe prime, as a number.
pub(crate) fn prime() -> BigUint {
    BigUint::parse_bytes(PRIME.as_bytes(), 16).unwrap_or_default()
}

/// Telegram's known safe prime, as it goes over the wire.
pub(crate) fn prime_bytes() -> Vec<u8> {
    prime().to_bytes_be()
}

/// g^exponent mod p
pub(crate) fn power(exponent: &BigUint) -> BigUint {
    BigUint::from(G.unsigned_abs()).modpow(exponent, &prime())
}

/// A number as 256 big-endian bytes. A number too long for that keeps its low bytes; none here is.
pub(crate) fn padded(number: &BigUint) -> [u8; 256] {
    let mut bytes = [0; 256];
    for (into, from) in bytes.iter_mut().rev().zip(number.to_bytes_le()) {
        *into = from;
    }
    bytes
}

/// Whether a peer's public value is one that a key may be made with: 2^1984 ≤ value ≤ p - 2^1984
/// (<https://core.telegram.org/mtproto/auth_key>, step 6).
pub(crate) fn is_safe_public_value(value: &BigUint) -> bool {
    let margin = BigUint::from(1u8) << 1984;
    *value >= margin && *value <= prime() - margin
}

/// What the server keeps of a password.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Verifier {
    pub(crate) salt1: Vec<u8>,
    pub(crate) salt2: Vec<u8>,
    v: Vec<u8>,
}

/// One challenge: `srp_id` and `srp_B`, good for a single answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id: i64,
    secret: Vec<u8>,
    pub(crate) public: Vec<u8>,
}

impl Verifier {
    /// Derives the verifier; costs about as much as a client's answer (100,000 rounds).
    pub(crate) fn new(password: &str, ids: &Ids) -> Self {
        let (salt1, salt2): ([u8; 16], [u8; 16]) = (ids.bytes(), ids.bytes());
        let first = sha256(&[&salt1, password.as_bytes(), &salt1]);
        let second = sha256(&[&salt2, &first, &salt2]);
        let stretched = pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(&second, &salt1, 100_000);
        let x = sha256(&[&salt2, &stretched, &salt2]);
        Self {
            v: power(&BigUint::from_bytes_be(&x)).to_bytes_be(),
            salt1: salt1.to_vec(),
            salt2: salt2.to_vec(),
        }
    }

    /// A fresh challenge.
    pub(crate) fn challenge(&self, ids: &Ids) -> Challenge {
        let secret: [u8; 256] = ids.bytes();
        let v = BigUint::from_bytes_be(&self.v);
        let k = BigUint::from_bytes_be(&sha256(&[&prime_bytes(), &padded_g()]));
        let public = (k * v + power(&BigUint::from_bytes_be(&secret))) % prime();
        Challenge { id: ids.int64(), secret: secret.to_vec(), public: padded(&public).to_vec() }
    }

    /// Whether `A` and `M1` prove that the client knows the password.
    pub(crate) fn check(&self, challenge: &Challenge, a: &[u8], m1: &[u8]) -> bool {
        let p = prime();
        let a = BigUint::from_bytes_be(a.get(..a.len().min(256)).unwrap_or_default());
        if a == BigUint::ZERO || a >= p {
            return false;
        }
        let a_bytes = padded(&a);
        let u = BigUint::from_bytes_be(&sha256(&[&a_bytes, &challenge.public]));
        if u == BigUint::ZERO {
            return false;
        }
        let v = BigUint::from_bytes_be(&self.v);
        let shared = (&a * v.modpow(&u, &p) % &p).modpow(&BigUint::from_bytes_be(&challenge.secret), &p);
        let shared_hash = sha256(&[&padded(&shared)]);
        let mut mixed = sha256(&[&prime_bytes()]);
        for (byte, other) in mixed.iter_mut().zip(sha256(&[&padded_g()])) {
            *byte ^= other;
        }
        let expected = sha256(&[
            &mixed,
            &sha256(&[&self.salt1]),
            &sha256(&[&self.salt2]),
            &a_bytes,
            &challenge.public,
            &shared_hash,
        ]);
        expected.ct_eq(m1).into()
    }
}

fn padded_g() -> [u8; 256] {
    padded(&BigUint::from(G.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use grammers_crypto::two_factor_auth::calculate_2fa;

    use super::*;

    #[test]
    fn grammers_proves_the_right_password_and_no_other() {
        let ids = Ids::from_seed([3; 32]);
        let verifier = Verifier::new("correct horse", &ids);
        let challenge = verifier.challenge(&ids);
        let answer = |password: &str| {
            calculate_2fa(
                &verifier.salt1,
                &verifier.salt2,
                &prime_bytes(),
                &G,
                challenge.public.clone(),
                ids.bytes::<256>().to_vec(),
                password,
            )
        };
        let (m1, a) = answer("correct horse");
        assert!(verifier.check(&challenge, &a, &m1));
        assert!(!verifier.check(&verifier.challenge(&ids), &a, &m1), "another challenge");
        let (m1, a) = answer("wrong horse");
        assert!(!verifier.check(&challenge, &a, &m1));
        assert!(!verifier.check(&challenge, &[], &[]));
        assert!(!verifier.check(&challenge, &prime_bytes(), &m1), "A = p");
    }

    #[test]
    fn the_prime_is_the_one_that_clients_know() {
        assert!(grammers_crypto::two_factor_auth::check_p_and_g(&prime_bytes(), &G));
        assert!(!is_safe_public_value(&BigUint::from(1u8)));
        assert!(!is_safe_public_value(&(prime() - 2u8)));
        assert!(is_safe_public_value(&(prime() / 2u8)));
    }
}
