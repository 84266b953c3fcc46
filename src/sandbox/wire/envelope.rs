//! The MTProto 2.0 envelope, server side (<https://core.telegram.org/mtproto/description>): encryption, containers,
//! gzip. Checks every length; knows no session state and no method.

use std::fmt;
use std::io::Read;
use std::io::Write;

use grammers_crypto::aes;
use grammers_tl_types::Cursor;
use grammers_tl_types::Deserializable;
use grammers_tl_types::Serializable;

use super::Input;
use super::sha1;
use super::sha256;

/// `msg_container#73f1f8dc`
pub(crate) const MSG_CONTAINER: u32 = 0x73f1_f8dc;
/// `rpc_result#f35c6d01`
pub(crate) const RPC_RESULT: u32 = 0xf35c_6d01;
/// `gzip_packed#3072cfa1`
pub(crate) const GZIP_PACKED: u32 = 0x3072_cfa1;

/// The most messages in one container, as Telegram has it.
pub(crate) const MAX_CONTAINED: usize = 1020;
/// The most bytes that one packet may inflate to, all that is compressed in it taken together.
pub(crate) const MAX_INFLATED: u64 = 4 << 20;

/// A 2048-bit authorisation key. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AuthKey([u8; 256]);

impl AuthKey {
    /// From the 256 bytes of g^ab.
    pub(crate) fn new(bytes: [u8; 256]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8; 256] {
        &self.0
    }

    /// `auth_key_id`: the lower 64 bits of the key's SHA-1.
    pub(crate) fn id(&self) -> i64 {
        super::long_at(&sha1(&[&self.0]), 12)
    }

    fn part(&self, from: usize, length: usize) -> &[u8] {
        self.0.get(from..from + length).unwrap_or_default()
    }

    /// AES key and IV for one message. `x` is 0 from client to server and 8 the other way.
    fn aes(&self, msg_key: &[u8], x: usize) -> ([u8; 32], [u8; 32]) {
        let a = sha256(&[msg_key, self.part(x, 36)]);
        let b = sha256(&[self.part(40 + x, 36), msg_key]);
        let mut key = [0; 32];
        let mut iv = [0; 32];
        mix(&mut key, &a, &b);
        mix(&mut iv, &b, &a);
        (key, iv)
    }
}

/// `outer[0..8] + inner[8..24] + outer[24..32]`
fn mix(into: &mut [u8; 32], outer: &[u8; 32], inner: &[u8; 32]) {
    for (index, ((byte, outer), inner)) in into.iter_mut().zip(outer).zip(inner).enumerate() {
        *byte = if (8..24).contains(&index) { *inner } else { *outer };
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AuthKey(…)")
    }
}

/// One message: `msg_id`, `seqno` and its body, a boxed TL value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: i64,
    pub(crate) seq_no: i32,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The constructor id of the body; zero when it has none.
    pub(crate) fn constructor(&self) -> u32 {
        constructor(&self.body)
    }

    fn write(&self, into: &mut Vec<u8>) {
        into.extend(self.id.to_le_bytes());
        into.extend(self.seq_no.to_le_bytes());
        into.extend(i32::try_from(self.body.len()).unwrap_or(i32::MAX).to_le_bytes());
        into.extend(&self.body);
    }
}

/// The constructor id that `body` starts with; zero when it is too short to have one.
pub(crate) fn constructor(body: &[u8]) -> u32 {
    body.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// What was inside an encrypted packet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) salt: i64,
    pub(crate) session: i64,
    pub(crate) message: Message,
}

/// Decrypts a client's packet (key id, `msg_key`, ciphertext). `None` when anything about it is wrong: such a packet
/// was not made with the key, and says nothing about who sent it.
pub(crate) fn open(key: &AuthKey, packet: &[u8]) -> Option<Opened> {
    let mut input = Input(packet);
    input.take(8)?;
    let msg_key: [u8; 16] = input.array()?;
    let mut plain = input.0.to_vec();
    if plain.len() < 48 || !plain.len().is_multiple_of(16) {
        return None;
    }
    let (aes_key, iv) = key.aes(&msg_key, 0);
    aes::ige_decrypt(&mut plain, &aes_key, &iv);
    if sha256(&[key.part(88, 32), &plain]).get(8..24) != Some(&msg_key[..]) {
        return None;
    }
    let mut input = Input(&plain);
    let (salt, session) = (input.long()?, input.long()?);
    let (id, seq_no, length) = (input.long()?, input.int()?, input.length()?);
    let body = input.take(length)?.to_vec();
    let padding = input.0.len();
    if !(12..=1024).contains(&padding) || body.len() < 4 || !body.len().is_multiple_of(4) {
        return None;
    }
    Some(Opened { salt, session, message: Message { id, seq_no, body } })
}

/// Encrypts a server's message. `padding` supplies the random tail of 12 to 27 bytes.
pub(crate) fn seal(key: &AuthKey, salt: i64, session: i64, message: &Message, padding: [u8; 32]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(message.body.len() + 64);
    plain.extend(salt.to_le_bytes());
    plain.extend(session.to_le_bytes());
    message.write(&mut plain);
    let tail = 12 + (16 - (plain.len() + 12) % 16) % 16;
    plain.extend(padding.iter().take(tail));
    let large = sha256(&[key.part(96, 32), &plain]);
    let msg_key = large.get(8..24).unwrap_or_default();
    let (aes_key, iv) = key.aes(msg_key, 8);
    aes::ige_encrypt(&mut plain, &aes_key, &iv);
    let mut packet = Vec::with_capacity(24 + plain.len());
    packet.extend(key.id().to_le_bytes());
    packet.extend(msg_key);
    packet.extend(plain);
    packet
}

/// The body of a `msg_container` with these messages.
pub(crate) fn container(messages: &[Message]) -> Vec<u8> {
    let mut body = MSG_CONTAINER.to_le_bytes().to_vec();
    body.extend(i32::try_from(messages.len()).unwrap_or(i32::MAX).to_le_bytes());
    for message in messages {
        message.write(&mut body);
    }
    body
}

/// The body of the `rpc_result` that answers this request.
pub(crate) fn rpc_result(request: i64, result: Vec<u8>) -> Vec<u8> {
    let mut body = RPC_RESULT.to_le_bytes().to_vec();
    body.extend(request.to_le_bytes());
    body.extend(result);
    body
}

/// A message as it came: alone, or a container's contents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unpacked {
    Single(Message),
    Container(Vec<Message>),
}

/// Why a message cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unpackable {
    /// `error_code` 64 of `bad_msg_notification`: invalid container.
    BadContainer,
    /// Compressed data that is none, or too much of it: the connection is closed.
    BadGzip,
}

/// Takes gzip and one level of container off a message. Containers do not nest. `budget`: how many bytes may come out of
/// what is compressed, of which is taken what did.
pub(crate) fn unpack(message: Message, budget: &mut u64) -> Result<Unpacked, Unpackable> {
    let message = inflated(message, budget)?;
    if message.constructor() != MSG_CONTAINER {
        return Ok(Unpacked::Single(message));
    }
    let mut contained = Vec::new();
    for inner in contents(&message).ok_or(Unpackable::BadContainer)? {
        let inner = inflated(inner, budget)?;
        if inner.constructor() == MSG_CONTAINER || inner.id >= message.id {
            return Err(Unpackable::BadContainer);
        }
        contained.push(inner);
    }
    Ok(Unpacked::Container(contained))
}

fn contents(container: &Message) -> Option<Vec<Message>> {
    let mut input = Input(container.body.get(4..)?);
    let count = input.length().filter(|count| *count <= MAX_CONTAINED)?;
    let mut messages = Vec::new();
    for _ in 0..count {
        let (id, seq_no, length) = (input.long()?, input.int()?, input.length()?);
        if length < 4 || !length.is_multiple_of(4) {
            return None;
        }
        let body = input.take(length)?.to_vec();
        messages.push(Message { id, seq_no, body });
    }
    input.0.is_empty().then_some(messages)
}

fn inflated(message: Message, budget: &mut u64) -> Result<Message, Unpackable> {
    if message.constructor() != GZIP_PACKED {
        return Ok(message);
    }
    let body = gunzip(&message.body, budget).ok_or(Unpackable::BadGzip)?;
    if constructor(&body) == GZIP_PACKED {
        return Err(Unpackable::BadGzip);
    }
    Ok(Message { body, ..message })
}

/// Inflates a whole `gzip_packed` and takes its length off the budget. `None` when it is damaged or longer than that.
pub(crate) fn gunzip(packed: &[u8], budget: &mut u64) -> Option<Vec<u8>> {
    let limit = *budget;
    let data = Vec::<u8>::deserialize(&mut Cursor::from_slice(packed.get(4..)?)).ok()?;
    let mut body = Vec::new();
    let inflated =
        flate2::read::GzDecoder::new(data.as_slice()).take(limit.saturating_add(1)).read_to_end(&mut body);
    let left = limit.checked_sub(u64::try_from(body.len()).unwrap_or(u64::MAX));
    // What was too much, or damaged at its end, was inflated all the same.
    *budget = left.unwrap_or(0);
    (inflated.is_ok() && left.is_some() && body.len() >= 4).then_some(body)
}

/// A `gzip_packed` of `body`; `None` when compressing failed, which memory never does.
pub(crate) fn gzip(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).ok()?;
    let mut packed = GZIP_PACKED.to_le_bytes().to_vec();
    encoder.finish().ok()?.serialize(&mut packed);
    Some(packed)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn test_key() -> AuthKey {
        let mut bytes = [0; 256];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(index * 7 % 256).unwrap();
        }
        AuthKey::new(bytes)
    }

    /// What a client does: the mirror image of `open`.
    pub(crate) fn seal_as_client(key: &AuthKey, salt: i64, session: i64, message: &Message) -> Vec<u8> {
        seal_with_padding(key, salt, session, message, None)
    }

    fn seal_with_padding(
        key: &AuthKey,
        salt: i64,
        session: i64,
        message: &Message,
        tail: Option<usize>,
    ) -> Vec<u8> {
        let mut plain = Vec::new();
        plain.extend(salt.to_le_bytes());
        plain.extend(session.to_le_bytes());
        message.write(&mut plain);
        let tail = tail.unwrap_or(12 + (16 - (plain.len() + 12) % 16) % 16);
        plain.resize(plain.len() + tail, 0x5a);
        let msg_key = sha256(&[key.part(88, 32), &plain])[8..24].to_vec();
        let (aes_key, iv) = key.aes(&msg_key, 0);
        aes::ige_encrypt(&mut plain, &aes_key, &iv);
        [&key.id().to_le_bytes()[..], &msg_key, &plain].concat()
    }

    fn message(id: i64, body: &[u8]) -> Message {
        Message { id, seq_no: 1, body: body.to_vec() }
    }

    fn unpack(message: Message) -> Result<Unpacked, Unpackable> {
        super::unpack(message, &mut { MAX_INFLATED })
    }

    #[test]
    fn a_clients_packet_opens_and_one_changed_bit_closes_it() {
        let (key, sent) = (test_key(), message(1 << 34, &[9; 20]));
        let packet = seal_as_client(&key, 5, 6, &sent);
        let opened = open(&key, &packet).unwrap();
        assert_eq!((opened.salt, opened.session, &opened.message), (5, 6, &sent));
        for position in [8, 24, packet.len() - 1] {
            let mut damaged = packet.clone();
            damaged[position] ^= 1;
            assert!(open(&key, &damaged).is_none());
        }
    }

    #[test]
    fn padding_outside_12_to_1024_bytes_is_refused() {
        let key = test_key();
        // 32 bytes of header and 16 of body: 16n bytes of padding keep the block size.
        for (tail, accepted) in [(0, false), (16, true), (1024, true), (1040, false)] {
            let packet = seal_with_padding(&key, 0, 0, &message(4, &[1; 16]), Some(tail));
            assert_eq!(open(&key, &packet).is_some(), accepted, "padding of {tail}");
        }
    }

    #[test]
    fn what_the_server_seals_is_what_grammers_opens() {
        let key = test_key();
        let packet = seal(&key, 1, 2, &message(5, &[3; 24]), [8; 32]);
        let mut buffer = packet.clone();
        let theirs = grammers_crypto::AuthKey::from_bytes(*key.bytes());
        let plain = grammers_crypto::decrypt_data_v2(&mut buffer, &theirs).unwrap();
        assert_eq!(plain[..8], 1i64.to_le_bytes());
        assert_eq!(plain[32..56], [3; 24]);
    }

    #[test]
    fn containers_hold_messages_older_than_themselves_and_no_containers() {
        let inner = vec![message(4, &[1; 8]), message(8, &[2; 12])];
        let outer = message(12, &container(&inner));
        assert_eq!(unpack(outer.clone()), Ok(Unpacked::Container(inner.clone())));
        let newer = message(8, &container(&inner));
        assert_eq!(unpack(newer), Err(Unpackable::BadContainer));
        let nested = message(16, &container(&[outer]));
        assert_eq!(unpack(nested), Err(Unpackable::BadContainer));
        let mut counted = container(&inner);
        counted[4] = 3;
        assert_eq!(unpack(message(12, &counted)), Err(Unpackable::BadContainer));
    }

    #[test]
    fn gzip_is_taken_off_but_a_bomb_is_not() {
        let packed = gzip(&[7; 4096]).unwrap();
        assert_eq!(unpack(message(4, &packed)), Ok(Unpacked::Single(message(4, &[7; 4096]))));
        let bomb = gzip(&vec![0; 5 << 20]).unwrap();
        assert!(bomb.len() < 64 << 10);
        assert_eq!(unpack(message(4, &bomb)), Err(Unpackable::BadGzip));
        assert_eq!(unpack(message(4, &gzip(&packed).unwrap())), Err(Unpackable::BadGzip));
        let mut budget = MAX_INFLATED;
        super::unpack(message(4, &packed), &mut budget).unwrap();
        assert_eq!(budget, MAX_INFLATED - 4096, "the rest is for what else is compressed in there");
    }

    proptest! {
        #[test]
        fn hostile_packets_are_refused_without_a_panic(packet in prop::collection::vec(any::<u8>(), 0..400)) {
            assert!(open(&test_key(), &packet).is_none());
        }

        #[test]
        fn hostile_bodies_unpack_or_are_refused(
            prefix in prop::sample::select(vec![vec![], MSG_CONTAINER.to_le_bytes().to_vec(), GZIP_PACKED.to_le_bytes().to_vec()]),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = unpack(message(1 << 40, &[prefix, bytes].concat()));
        }

        #[test]
        fn a_container_with_any_byte_changed_does_not_panic(position in 0usize..60, value: u8) {
            let mut body = container(&[message(4, &[1; 8]), message(8, &gzip(&[2; 64]).unwrap())]);
            let position = position % body.len();
            body[position] = value;
            let _ = unpack(message(1 << 40, &body));
        }
    }
}
