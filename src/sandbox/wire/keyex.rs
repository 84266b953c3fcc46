//! Making an authorisation key, server half (<https://core.telegram.org/mtproto/auth_key>): everything Telegram checks is
//! checked, every number is random per exchange. Takes both paddings: `RSA_PAD` and the older SHA-1 one of Telethon.

use grammers_crypto::aes;
use grammers_crypto::generate_key_data_from_nonce;
use grammers_tl_types as tl;
use num_bigint::BigUint;
use tl::Cursor;
use tl::Deserializable;
use tl::Identifiable;
use tl::Serializable;
use tl::enums::PQInnerData;

use crate::domain::ids::Ids;

use super::Input;
use super::envelope::AuthKey;
use super::envelope::constructor;
use super::rsa_key::RsaKey;
use super::sha1;
use super::sha256;
use super::srp;

/// How often a client may be told `dh_gen_retry` or `dh_gen_fail` on one connection.
const MAX_TRIES: u8 = 5;

/// A finished key.
#[derive(Debug)]
pub(crate) struct NewKey {
    pub(crate) key: AuthKey,
    /// The salt that both sides derive from the nonces.
    pub(crate) first_salt: i64,
    /// Seconds after which a temporary key ends; `None` for a permanent one.
    pub(crate) expires_in: Option<i32>,
}

/// What to do after a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// Send this; the key is made.
    Done(Vec<u8>, Box<NewKey>),
    /// Something did not match: the connection ends.
    Refused,
}

#[derive(Debug)]
struct Nonces {
    nonce: [u8; 16],
    server_nonce: [u8; 16],
}

enum State {
    Idle,
    Factors {
        nonces: Nonces,
        p: u32,
        q: u32,
    },
    Power {
        nonces: Nonces,
        new_nonce: [u8; 32],
        expires_in: Option<i32>,
        a: BigUint,
        retry_id: i64,
        tries: u8,
    },
}

/// One key exchange; a connection has at most one under way.
pub(crate) struct Exchange {
    dc: i32,
    state: State,
}

/// What an exchange needs of its surroundings.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) rsa: &'a RsaKey,
    pub(crate) ids: &'a Ids,
    /// Unix seconds, real time.
    pub(crate) now: i64,
    /// Whether a key id is in use already.
    pub(crate) taken: &'a dyn Fn(i64) -> bool,
}

impl Exchange {
    /// Nothing asked yet. `dc` is this data centre's id, which the client may name.
    pub(crate) fn new(dc: i32) -> Self {
        Self { dc, state: State::Idle }
    }

    /// Answers one unencrypted message (its body, a boxed TL value).
    pub(crate) fn step(&mut self, around: Surroundings<'_>, body: &[u8]) -> Step {
        let state = std::mem::replace(&mut self.state, State::Idle);
        let rest = body.get(4..).unwrap_or_default();
        let answer = match (constructor(body), state) {
            (tl::functions::ReqPqMulti::CONSTRUCTOR_ID | tl::functions::ReqPq::CONSTRUCTOR_ID, _) => {
                self.req_pq(around, rest)
            }
            (tl::functions::ReqDhParams::CONSTRUCTOR_ID, State::Factors { nonces, p, q }) => {
                self.req_dh_params(around, rest, nonces, (p, q))
            }
            (tl::functions::SetClientDhParams::CONSTRUCTOR_ID, power @ State::Power { .. }) => {
                self.set_client_dh_params(around, rest, power)
            }
            _ => None,
        };
        answer.unwrap_or(Step::Refused)
    }

    fn req_pq(&mut self, around: Surroundings<'_>, rest: &[u8]) -> Option<Step> {
        let nonces = Nonces { nonce: Input(rest).array()?, server_nonce: around.ids.bytes() };
        let (first, second) = (random_prime(around.ids), random_prime(around.ids));
        let (p, q) = (first.min(second), first.max(second));
        let reply = tl::enums::ResPq::Pq(tl::types::ResPq {
            nonce: nonces.nonce,
            server_nonce: nonces.server_nonce,
            pq: (u64::from(p) * u64::from(q)).to_be_bytes().to_vec(),
            server_public_key_fingerprints: vec![around.rsa.fingerprint()],
        });
        self.state = State::Factors { nonces, p, q };
        Some(Step::Reply(reply.to_bytes()))
    }

    fn req_dh_params(
        &mut self,
        around: Surroundings<'_>,
        rest: &[u8],
        nonces: Nonces,
        (p, q): (u32, u32),
    ) -> Option<Step> {
        let request = tl::functions::ReqDhParams::from_bytes(rest).ok()?;
        let expected = request.nonce == nonces.nonce
            && request.server_nonce == nonces.server_nonce
            && request.public_key_fingerprint == around.rsa.fingerprint()
            && request.encrypted_data.len() == 256
            && (number(&request.p)?, number(&request.q)?) == (u64::from(p), u64::from(q));
        if !expected {
            return None;
        }
        let inner = inner_data(around.rsa, &request.encrypted_data)?;
        let matches = inner.nonce == nonces.nonce
            && inner.server_nonce == nonces.server_nonce
            && number(&inner.pq)? == u64::from(p) * u64::from(q)
            && (number(&inner.p)?, number(&inner.q)?) == (u64::from(p), u64::from(q))
            // Test data centres are named 10000 and up, media ones negative.
            && inner.dc.is_none_or(|dc| dc.unsigned_abs() % 10_000 == self.dc.unsigned_abs());
        if !matches {
            return None;
        }
        let a = BigUint::from_bytes_be(&around.ids.bytes::<256>());
        let answer = tl::enums::ServerDhInnerData::Data(tl::types::ServerDhInnerData {
            nonce: nonces.nonce,
            server_nonce: nonces.server_nonce,
            g: srp::G,
            dh_prime: srp::prime_bytes(),
            g_a: srp::padded(&srp::power(&a)).to_vec(),
            server_time: i32::try_from(around.now).unwrap_or(i32::MAX),
        })
        .to_bytes();
        let mut encrypted_answer = [&sha1(&[&answer])[..], &answer].concat();
        let tail = (16 - encrypted_answer.len() % 16) % 16;
        encrypted_answer.extend(around.ids.bytes::<16>().iter().take(tail));
        let (key, iv) = generate_key_data_from_nonce(&nonces.server_nonce, &inner.new_nonce);
        aes::ige_encrypt(&mut encrypted_answer, &key, &iv);
        let reply = tl::enums::ServerDhParams::Ok(tl::types::ServerDhParamsOk {
            nonce: nonces.nonce,
            server_nonce: nonces.server_nonce,
            encrypted_answer,
        });
        self.state = State::Power {
            nonces,
            new_nonce: inner.new_nonce,
            expires_in: inner.expires_in,
            a,
            retry_id: 0,
            tries: 0,
        };
        Some(Step::Reply(reply.to_bytes()))
    }

    fn set_client_dh_params(&mut self, around: Surroundings<'_>, rest: &[u8], state: State) -> Option<Step> {
        let State::Power { nonces, new_nonce, expires_in, a, retry_id, tries } = state else {
            return None;
        };
        let request = tl::functions::SetClientDhParams::from_bytes(rest).ok()?;
        if request.nonce != nonces.nonce || request.server_nonce != nonces.server_nonce || tries >= MAX_TRIES
        {
            return None;
        }
        let inner = client_inner_data(&nonces, &new_nonce, request.encrypted_data)?;
        if inner.nonce != nonces.nonce
            || inner.server_nonce != nonces.server_nonce
            || inner.retry_id != retry_id
            || inner.g_b.len() > 256
        {
            return None;
        }
        let g_b = BigUint::from_bytes_be(&inner.g_b);
        let shared = srp::padded(&g_b.modpow(&a, &srp::prime()));
        let key = AuthKey::new(shared);
        let new_nonce_hash =
            |number| grammers_crypto::AuthKey::from_bytes(shared).calc_new_nonce_hash(&new_nonce, number);
        let (nonce, server_nonce) = (nonces.nonce, nonces.server_nonce);
        let reply = if !srp::is_safe_public_value(&g_b) {
            tl::enums::SetClientDhParamsAnswer::DhGenFail(tl::types::DhGenFail {
                nonce,
                server_nonce,
                new_nonce_hash3: new_nonce_hash(3),
            })
        } else if (around.taken)(key.id()) {
            tl::enums::SetClientDhParamsAnswer::DhGenRetry(tl::types::DhGenRetry {
                nonce,
                server_nonce,
                new_nonce_hash2: new_nonce_hash(2),
            })
        } else {
            let reply = tl::enums::SetClientDhParamsAnswer::DhGenOk(tl::types::DhGenOk {
                nonce,
                server_nonce,
                new_nonce_hash1: new_nonce_hash(1),
            });
            let first_salt = super::long_at(&new_nonce, 0) ^ super::long_at(&server_nonce, 0);
            let made = NewKey { key, first_salt, expires_in };
            return Some(Step::Done(reply.to_bytes(), Box::new(made)));
        };
        self.state = State::Power {
            nonces,
            new_nonce,
            expires_in,
            a,
            // auth_key_aux_hash: the higher 64 bits of the key's SHA-1.
            retry_id: super::long_at(&sha1(&[&shared]), 0),
            tries: tries + 1,
        };
        Some(Step::Reply(reply.to_bytes()))
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Exchange(…)")
    }
}

/// The fields of all four kinds of `p_q_inner_data`.
struct Inner {
    pq: Vec<u8>,
    p: Vec<u8>,
    q: Vec<u8>,
    nonce: [u8; 16],
    server_nonce: [u8; 16],
    new_nonce: [u8; 32],
    dc: Option<i32>,
    expires_in: Option<i32>,
}

fn inner_data(rsa: &RsaKey, encrypted: &[u8]) -> Option<Inner> {
    let opened = rsa.decrypt(encrypted)?;
    let data = unpad(&opened).or_else(|| old_unpad(&opened))?;
    macro_rules! inner {
        ($data:ident, $dc:expr, $expires_in:expr) => {
            Inner {
                pq: $data.pq,
                p: $data.p,
                q: $data.q,
                nonce: $data.nonce,
                server_nonce: $data.server_nonce,
                new_nonce: $data.new_nonce,
                dc: $dc,
                expires_in: $expires_in,
            }
        };
    }
    Some(match data {
        PQInnerData::Data(data) => inner!(data, None, None),
        PQInnerData::Dc(data) => inner!(data, Some(data.dc), None),
        PQInnerData::Temp(data) => inner!(data, None, Some(data.expires_in)),
        PQInnerData::TempDc(data) => inner!(data, Some(data.dc), Some(data.expires_in)),
    })
}

/// `RSA_PAD`: `temp_key` xor hash, then AES-IGE over the reversed data and its hash.
fn unpad(opened: &[u8; 256]) -> Option<PQInnerData> {
    let (head, sealed) = opened.split_first_chunk::<32>()?;
    let mut temp_key = *head;
    for (byte, other) in temp_key.iter_mut().zip(sha256(&[sealed])) {
        *byte ^= other;
    }
    let mut sealed = sealed.to_vec();
    aes::ige_decrypt(&mut sealed, &temp_key, &[0; 32]);
    let (reversed, hash) = sealed.split_at_checked(192)?;
    let data: Vec<u8> = reversed.iter().rev().copied().collect();
    if sha256(&[&temp_key, &data]) != hash {
        return None;
    }
    PQInnerData::from_bytes(&data).ok()
}

/// The padding before `RSA_PAD`: a zero byte, SHA-1 of the data, the data, random bytes.
fn old_unpad(opened: &[u8; 256]) -> Option<PQInnerData> {
    let (_, rest) = opened.split_first_chunk::<1>()?;
    let (hash, padded) = rest.split_first_chunk::<20>()?;
    let mut cursor = Cursor::from_slice(padded);
    let data = PQInnerData::deserialize(&mut cursor).ok()?;
    (sha1(&[padded.get(..cursor.pos())?]) == *hash).then_some(data)
}

fn client_inner_data(
    nonces: &Nonces,
    new_nonce: &[u8; 32],
    mut encrypted: Vec<u8>,
) -> Option<tl::types::ClientDhInnerData> {
    if encrypted.is_empty() || !encrypted.len().is_multiple_of(16) || encrypted.len() > 1024 {
        return None;
    }
    let (key, iv) = generate_key_data_from_nonce(&nonces.server_nonce, new_nonce);
    aes::ige_decrypt(&mut encrypted, &key, &iv);
    let (hash, padded) = encrypted.split_first_chunk::<20>()?;
    let mut cursor = Cursor::from_slice(padded);
    let tl::enums::ClientDhInnerData::Data(data) =
        tl::enums::ClientDhInnerData::deserialize(&mut cursor).ok()?;
    let padding = padded.len().checked_sub(cursor.pos())?;
    (padding < 16 && sha1(&[padded.get(..cursor.pos())?]) == *hash).then_some(data)
}

/// A big-endian number of at most eight bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A random prime between 2^30 and 2^31.
fn random_prime(ids: &Ids) -> u32 {
    loop {
        let candidate = (1 << 30) | ids.below(1 << 30) | 1;
        let mut divisor = 3;
        while divisor * divisor <= candidate && !candidate.is_multiple_of(divisor) {
            divisor += 2;
        }
        if divisor * divisor > candidate {
            return candidate;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::OnceLock;

    use grammers_crypto::factorize;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn test_rsa() -> &'static (String, RsaKey) {
        static KEY: OnceLock<(String, RsaKey)> = OnceLock::new();
        KEY.get_or_init(|| {
            let pem = RsaKey::generate(&Ids::from_seed([9; 32])).unwrap();
            let key = RsaKey::from_pem(&pem).unwrap();
            (pem, key)
        })
    }

    /// The client's half, one step at a time, so that tests can bend each of them.
    struct Client {
        ids: Ids,
        exchange: Exchange,
        nonce: [u8; 16],
        server_nonce: [u8; 16],
        new_nonce: [u8; 32],
        pq: Vec<u8>,
    }

    fn around<'a>(ids: &'a Ids, taken: &'a dyn Fn(i64) -> bool) -> Surroundings<'a> {
        Surroundings { rsa: &test_rsa().1, ids, now: 1_700_000_000, taken }
    }

    impl Client {
        fn new() -> Self {
            let ids = Ids::from_seed([4; 32]);
            let mut client = Self {
                nonce: ids.bytes(),
                new_nonce: ids.bytes(),
                server_nonce: [0; 16],
                exchange: Exchange::new(2),
                pq: Vec::new(),
                ids,
            };
            let request = tl::functions::ReqPqMulti { nonce: client.nonce };
            let Step::Reply(reply) = client.send(&request.to_bytes(), false) else { panic!("refused") };
            let tl::enums::ResPq::Pq(reply) = tl::enums::ResPq::from_bytes(&reply).unwrap();
            client.server_nonce = reply.server_nonce;
            client.pq = reply.pq;
            client
        }

        fn send(&mut self, body: &[u8], taken: bool) -> Step {
            let ids = self.ids.clone();
            self.exchange.step(around(&ids, &|_| taken), body)
        }

        fn dh_params(&mut self, bend: impl FnOnce(&mut tl::types::PQInnerDataDc), old_padding: bool) -> Step {
            let (p, q) = factorize(u64::from_be_bytes(self.pq.clone().try_into().unwrap()));
            let bytes = |number: u64| BigUint::from(number).to_bytes_be();
            let mut inner = tl::types::PQInnerDataDc {
                pq: self.pq.clone(),
                p: bytes(p),
                q: bytes(q),
                nonce: self.nonce,
                server_nonce: self.server_nonce,
                new_nonce: self.new_nonce,
                dc: 2,
            };
            bend(&mut inner);
            let inner = PQInnerData::Dc(inner).to_bytes();
            let rsa = &test_rsa().1;
            let encrypted_data = if old_padding {
                let mut block = [&[0][..], &sha1(&[&inner]), &inner].concat();
                block.resize(256, 7);
                srp::padded(&BigUint::from_bytes_be(&block).modpow(&BigUint::from(65_537u32), &rsa.modulus()))
                    .to_vec()
            } else {
                let key = grammers_crypto::rsa::Key::new(&rsa.modulus().to_string(), "65537").unwrap();
                grammers_crypto::rsa::encrypt_hashed(&inner, &key, &self.ids.bytes())
            };
            let request = tl::functions::ReqDhParams {
                nonce: self.nonce,
                server_nonce: self.server_nonce,
                p: bytes(p),
                q: bytes(q),
                public_key_fingerprint: rsa.fingerprint(),
                encrypted_data,
            };
            self.send(&request.to_bytes(), false)
        }

        fn finish(&mut self, g_b: &BigUint, retry_id: i64, taken: bool) -> Step {
            let inner = tl::enums::ClientDhInnerData::Data(tl::types::ClientDhInnerData {
                nonce: self.nonce,
                server_nonce: self.server_nonce,
                retry_id,
                g_b: g_b.to_bytes_be(),
            })
            .to_bytes();
            let mut encrypted_data = [&sha1(&[&inner])[..], &inner].concat();
            encrypted_data.resize(encrypted_data.len().next_multiple_of(16), 0);
            let (key, iv) = generate_key_data_from_nonce(&self.server_nonce, &self.new_nonce);
            aes::ige_encrypt(&mut encrypted_data, &key, &iv);
            let request = tl::functions::SetClientDhParams {
                nonce: self.nonce,
                server_nonce: self.server_nonce,
                encrypted_data,
            };
            self.send(&request.to_bytes(), taken)
        }
    }

    #[test]
    fn both_paddings_lead_to_the_same_key_on_both_sides() {
        for old_padding in [false, true] {
            let mut client = Client::new();
            let Step::Reply(reply) = client.dh_params(|_| {}, old_padding) else { panic!("refused") };
            let tl::enums::ServerDhParams::Ok(reply) = tl::enums::ServerDhParams::from_bytes(&reply).unwrap()
            else {
                panic!("failed")
            };
            let mut answer = reply.encrypted_answer;
            let (key, iv) = generate_key_data_from_nonce(&client.server_nonce, &client.new_nonce);
            aes::ige_decrypt(&mut answer, &key, &iv);
            let tl::enums::ServerDhInnerData::Data(inner) =
                tl::enums::ServerDhInnerData::from_bytes(&answer[20..]).unwrap();
            let b = BigUint::from_bytes_be(&client.ids.bytes::<256>());
            let Step::Done(_, made) = client.finish(&srp::power(&b), 0, false) else { panic!("refused") };
            let ours = BigUint::from_bytes_be(&inner.g_a).modpow(&b, &srp::prime());
            assert_eq!(made.key.bytes(), &srp::padded(&ours));
        }
    }

    #[test]
    fn inner_data_that_does_not_match_is_refused() {
        type Bend = fn(&mut tl::types::PQInnerDataDc);
        let bends: [Bend; 5] = [
            |inner| inner.nonce[0] ^= 1,
            |inner| inner.server_nonce[0] ^= 1,
            |inner| inner.p = vec![3],
            |inner| inner.pq[7] ^= 1,
            |inner| inner.dc = 3,
        ];
        for bend in bends {
            assert!(matches!(Client::new().dh_params(bend, false), Step::Refused));
        }
        assert!(
            matches!(Client::new().dh_params(|inner| inner.dc = 10_002, false), Step::Reply(_)),
            "a test data centre's name"
        );
    }

    #[test]
    fn a_bad_public_value_fails_and_a_taken_key_is_tried_again() {
        let mut client = Client::new();
        assert!(matches!(client.dh_params(|_| {}, false), Step::Reply(_)));
        let Step::Reply(reply) = client.finish(&BigUint::from(1u8), 0, false) else { panic!("refused") };
        assert!(matches!(
            tl::enums::SetClientDhParamsAnswer::from_bytes(&reply),
            Ok(tl::enums::SetClientDhParamsAnswer::DhGenFail(_))
        ));

        let mut client = Client::new();
        assert!(matches!(client.dh_params(|_| {}, false), Step::Reply(_)));
        let g_b = srp::power(&BigUint::from_bytes_be(&client.ids.bytes::<256>()));
        let Step::Reply(reply) = client.finish(&g_b, 0, true) else { panic!("refused") };
        assert!(matches!(
            tl::enums::SetClientDhParamsAnswer::from_bytes(&reply),
            Ok(tl::enums::SetClientDhParamsAnswer::DhGenRetry(_))
        ));
        assert!(matches!(client.finish(&g_b, 0, false), Step::Refused), "a retry names the key it replaces");
    }

    #[test]
    fn steps_out_of_order_are_refused() {
        let mut client = Client::new();
        let g_b = srp::power(&BigUint::from_bytes_be(&client.ids.bytes::<256>()));
        assert!(matches!(client.finish(&g_b, 0, false), Step::Refused));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn hostile_exchanges_are_refused_without_a_panic(
            method in prop::sample::select(vec![
                tl::functions::ReqPqMulti::CONSTRUCTOR_ID,
                tl::functions::ReqDhParams::CONSTRUCTOR_ID,
                tl::functions::SetClientDhParams::CONSTRUCTOR_ID,
            ]),
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut client = Client::new();
            let _ = client.dh_params(|_| {}, true);
            let body = [&method.to_le_bytes()[..], &bytes].concat();
            prop_assert!(!matches!(client.send(&body, false), Step::Done(..)));
        }
    }
}
