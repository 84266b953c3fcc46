//! The client's half of creating an authorisation key, for networks whose RSA key is not compiled into grammers.
//! (`core.telegram.org/mtproto/auth_key`). Telegram's own networks never come here: grammers does its own.

use std::io;

use grammers_crypto::{AuthKey as CryptoKey, aes, factorize, generate_key_data_from_nonce, rsa};
use grammers_tl_types as tl;
use num_bigint::BigUint;
use sha1::{Digest, Sha1};
use tl::{Cursor, Deserializable, Serializable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::account::Account;
use super::account::closed;
use super::errors::TelegramError;
use super::network::RsaPublicKey;
use super::proxy;
use super::proxy::Stream;
use crate::domain::account::AuthKey;
use crate::domain::ids::Ids;

/// Longest answer of an exchange; real ones stay under 1 KB.
const LONGEST_ANSWER: usize = 4096;

impl Account {
    /// Negotiates a key for the home data centre where the network has an RSA key of its own and the session has none.
    pub(super) async fn ensure_key(&self) -> Result<(), TelegramError> {
        let session = self.live_session();
        let dc = session.home_dc();
        let Some(rsa_key) = session.network().rsa_key().filter(|_| !session.has_key(dc)) else {
            return Ok(());
        };
        let unknown = || TelegramError::Unexpected(format!("data centre {dc} is not part of this network"));
        let option = session.dc_option(dc).ok_or_else(unknown)?;
        let proxy = self.settings().proxy.as_ref();
        let negotiation = async {
            let stream = proxy::dial(option.ipv4, proxy).await?;
            negotiate(stream, rsa_key, self.ids()).await
        };
        let limited = tokio::time::timeout(self.settings().call_limit, negotiation);
        let key = tokio::select! {
            key = limited => key.map_err(|_| TelegramError::Unreachable("no key within the time limit".to_owned()))?,
            () = self.closed() => return Err(closed()),
        };
        let key = key.map_err(|error| TelegramError::Unreachable(error.to_string()))?;
        session.set_key(dc, key).map_err(|error| TelegramError::Unexpected(error.to_string()))
    }
}

/// Negotiates a key with the data centre at the other end. The caller sets the time limit.
///
/// # Errors
/// The network fails, or the other side does not prove that it holds the RSA key.
pub(super) async fn negotiate(
    stream: Box<dyn Stream>,
    rsa_key: &RsaPublicKey,
    ids: &Ids,
) -> io::Result<AuthKey> {
    let mut wire = Wire::begin(stream).await?;
    let nonce: [u8; 16] = ids.bytes();
    let tl::enums::ResPq::Pq(offer) = wire.ask(&tl::functions::ReqPqMulti { nonce }).await?;
    let fingerprint = rsa_key.fingerprint();
    ensure(offer.nonce == nonce, "another nonce came back")?;
    ensure(offer.server_public_key_fingerprints.contains(&fingerprint), "it has another RSA key")?;
    let server_nonce = offer.server_nonce;

    let pq = <[u8; 8]>::try_from(offer.pq.as_slice()).map(u64::from_be_bytes);
    let pq = pq.map_err(|_| io::Error::other("pq is not 8 bytes"))?;
    let (p, q) = tokio::task::spawn_blocking(move || factorize(pq)).await.map_err(io::Error::other)?;
    let (p, q) = (BigUint::from(p).to_bytes_be(), BigUint::from(q).to_bytes_be());
    let new_nonce: [u8; 32] = ids.bytes();
    let inner =
        tl::types::PQInnerData { pq: offer.pq, p: p.clone(), q: q.clone(), nonce, server_nonce, new_nonce };
    let inner = tl::enums::PQInnerData::Data(inner).to_bytes();
    let request = tl::functions::ReqDhParams {
        nonce,
        server_nonce,
        p,
        q,
        public_key_fingerprint: fingerprint,
        encrypted_data: encrypt_for(rsa_key, &inner, ids)?,
    };
    let tl::enums::ServerDhParams::Ok(params) = wire.ask(&request).await? else {
        return Err(io::Error::other("it refused the exchange"));
    };
    ensure(params.nonce == nonce && params.server_nonce == server_nonce, "another nonce came back")?;

    let (key, iv) = generate_key_data_from_nonce(&server_nonce, &new_nonce);
    let offer = open_dh_offer(params.encrypted_answer, &key, &iv)?;
    ensure(offer.nonce == nonce && offer.server_nonce == server_nonce, "another nonce came back")?;
    let agreement = Agreement::new(&offer, ids)?;

    let inner = tl::types::ClientDhInnerData { nonce, server_nonce, retry_id: 0, g_b: agreement.g_b.clone() };
    let encrypted_data =
        seal_dh_answer(&tl::enums::ClientDhInnerData::Data(inner).to_bytes(), &key, &iv, ids);
    let request = tl::functions::SetClientDhParams { nonce, server_nonce, encrypted_data };
    let tl::enums::SetClientDhParamsAnswer::DhGenOk(done) = wire.ask(&request).await? else {
        return Err(io::Error::other("it refused the agreed key"));
    };
    let expected = CryptoKey::from_bytes(agreement.key).calc_new_nonce_hash(&new_nonce, 1);
    ensure(done.new_nonce_hash1 == expected, "it agreed on another key")?;
    Ok(AuthKey::new(agreement.key))
}

/// Makes the first exchange only and returns the data centre's time in Unix seconds. With an RSA key, the data centre
/// must offer it.
pub(super) async fn server_time(
    stream: Box<dyn Stream>,
    rsa_key: Option<&RsaPublicKey>,
    ids: &Ids,
) -> io::Result<i64> {
    let mut wire = Wire::begin(stream).await?;
    let nonce: [u8; 16] = ids.bytes();
    let tl::enums::ResPq::Pq(offer) = wire.ask(&tl::functions::ReqPqMulti { nonce }).await?;
    ensure(offer.nonce == nonce, "another nonce came back")?;
    if let Some(key) = rsa_key {
        ensure(offer.server_public_key_fingerprints.contains(&key.fingerprint()), "it has another RSA key")?;
    }
    Ok(wire.server_time)
}

fn ensure(condition: bool, otherwise: &'static str) -> io::Result<()> {
    if condition { Ok(()) } else { Err(io::Error::other(otherwise)) }
}

fn encrypt_for(rsa_key: &RsaPublicKey, data: &[u8], ids: &Ids) -> io::Result<Vec<u8>> {
    let key = rsa::Key::new(&rsa_key.modulus.to_string(), &rsa_key.exponent.to_string());
    let key = key.ok_or_else(|| io::Error::other("the RSA key is not a number"))?;
    Ok(rsa::encrypt_hashed(data, &key, &ids.bytes()))
}

/// Opens `server_DH_inner_data`: SHA-1, data, padding.
fn open_dh_offer(
    mut answer: Vec<u8>,
    key: &[u8; 32],
    iv: &[u8; 32],
) -> io::Result<tl::types::ServerDhInnerData> {
    ensure(answer.len().is_multiple_of(16), "the answer is not a number of blocks")?;
    aes::ige_decrypt(&mut answer, key, iv);
    let (digest, data) =
        answer.split_at_checked(20).ok_or_else(|| io::Error::other("the answer is too short"))?;
    let mut cursor = Cursor::from_slice(data);
    let offer = tl::enums::ServerDhInnerData::deserialize(&mut cursor);
    let tl::enums::ServerDhInnerData::Data(offer) =
        offer.map_err(|_| io::Error::other("the answer is garbled"))?;
    let signed = data.get(..cursor.pos()).unwrap_or_default();
    ensure(Sha1::digest(signed).as_slice() == digest, "the answer's digest is wrong")?;
    Ok(offer)
}

fn seal_dh_answer(inner: &[u8], key: &[u8; 32], iv: &[u8; 32], ids: &Ids) -> Vec<u8> {
    let mut sealed = Sha1::digest(inner).to_vec();
    sealed.extend(inner);
    let padding = (16 - sealed.len() % 16) % 16;
    sealed.extend(ids.bytes::<16>().iter().take(padding));
    aes::ige_encrypt(&mut sealed, key, iv);
    sealed
}

/// Diffie and Hellman's part.
struct Agreement {
    g_b: Vec<u8>,
    key: [u8; 256],
}

impl Agreement {
    fn new(offer: &tl::types::ServerDhInnerData, ids: &Ids) -> io::Result<Self> {
        let prime = BigUint::from_bytes_be(&offer.dh_prime);
        ensure(offer.dh_prime == super::known_prime() && offer.g == 3, "the prime is not Telegram's")?;
        let g_a = BigUint::from_bytes_be(&offer.g_a);
        // Both public values lie well inside the group, as Telegram's security guidelines ask.
        let margin = BigUint::from(1u8) << (2048 - 64);
        ensure(g_a >= margin && g_a <= &prime - &margin, "g_a is out of range")?;
        let b = BigUint::from_bytes_be(&ids.bytes::<256>());
        let g_b = BigUint::from(3u8).modpow(&b, &prime);
        let shared = g_a.modpow(&b, &prime).to_bytes_be();
        let mut key = [0; 256];
        key.iter_mut().rev().zip(shared.iter().rev()).for_each(|(to, from)| *to = *from);
        Ok(Self { g_b: g_b.to_bytes_be(), key })
    }
}

/// Plain messages in intermediate framing (core.telegram.org/mtproto/mtproto-transports).
struct Wire {
    stream: Box<dyn Stream>,
    message_id: i64,
    /// Unix seconds, from the id of the latest answer.
    server_time: i64,
}

impl Wire {
    async fn begin(mut stream: Box<dyn Stream>) -> io::Result<Self> {
        stream.write_all(&[0xee; 4]).await?;
        let now = crate::domain::clock::Clock::now(&crate::lifecycle::SystemClock).as_secs();
        Ok(Self { stream, message_id: now << 32, server_time: 0 })
    }

    async fn ask<R: tl::RemoteCall + Sync>(&mut self, request: &R) -> io::Result<R::Return> {
        let body = request.to_bytes();
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        self.message_id += 4;
        let mut packet = Vec::with_capacity(body.len() + 24);
        (length + 20).serialize(&mut packet);
        0i64.serialize(&mut packet);
        self.message_id.serialize(&mut packet);
        length.serialize(&mut packet);
        packet.extend(body);
        self.stream.write_all(&packet).await?;

        let length = usize::try_from(self.stream.read_u32_le().await?).map_err(io::Error::other)?;
        ensure((24..=LONGEST_ANSWER).contains(&length), "it refused the exchange")?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let message_id = answer.get(8..).and_then(<[u8]>::first_chunk).copied().map_or(0, i64::from_le_bytes);
        self.server_time = message_id >> 32;
        let body = answer.get(20..).unwrap_or_default();
        R::Return::from_bytes(body).map_err(|_| io::Error::other("an answer is garbled"))
    }
}
