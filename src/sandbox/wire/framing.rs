//! TCP transports (<https://core.telegram.org/mtproto/mtproto-transports>): full, abridged, intermediate and padded
//! intermediate. Finds out which one a client speaks; anything else, obfuscation too, ends the connection.

use std::io;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;

use super::Input;

/// The longest packet accepted or sent, in bytes. Telegram's clients send at most about 1 MiB.
pub(crate) const MAX_PACKET: usize = (1 << 20) + 1024;

const FULL_OVERHEAD: usize = 12;

/// How packets are cut out of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Full,
    Abridged,
    Intermediate,
    Padded,
}

/// Why no further packet can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("connection ended: {0}")]
    Ended(#[from] io::Error),
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
}

/// The receiving half. Not cancel safe: who drops a `next` must drop the reader.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    source: R,
    framing: Framing,
    sequence: i32,
    head: Option<[u8; 4]>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads the client's first bytes, which name the transport.
    ///
    /// # Errors
    /// When the stream ends.
    pub(crate) async fn detect(mut source: R) -> Result<Self, FrameError> {
        let first = source.read_u8().await?;
        if first == 0xef {
            return Ok(Self::with(source, Framing::Abridged, None));
        }
        let mut rest = [0; 3];
        source.read_exact(&mut rest).await?;
        let [b, c, d] = rest;
        let head = [first, b, c, d];
        Ok(match head {
            [0xee, 0xee, 0xee, 0xee] => Self::with(source, Framing::Intermediate, None),
            [0xdd, 0xdd, 0xdd, 0xdd] => Self::with(source, Framing::Padded, None),
            _ => Self::with(source, Framing::Full, Some(head)),
        })
    }

    fn with(source: R, framing: Framing, head: Option<[u8; 4]>) -> Self {
        Self { source, framing, sequence: 0, head }
    }

    /// The transport the client speaks.
    pub(crate) fn framing(&self) -> Framing {
        self.framing
    }

    /// The payload of the next packet.
    ///
    /// # Errors
    /// When the stream ends or the frame is malformed: the connection is of no further use.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>, FrameError> {
        match self.framing {
            Framing::Full => self.next_full().await,
            Framing::Abridged => {
                // The high bit asks for a quick acknowledgement, which is optional and not sent.
                let mut words = usize::from(self.source.read_u8().await? & 0x7f);
                if words == 0x7f {
                    let mut length = [0; 3];
                    self.source.read_exact(&mut length).await?;
                    let [a, b, c] = length;
                    words = usize::try_from(u32::from_le_bytes([a, b, c, 0])).unwrap_or(usize::MAX);
                }
                self.body(words.saturating_mul(4)).await
            }
            Framing::Intermediate => {
                let length = self.source.read_u32_le().await? & 0x7fff_ffff;
                self.body(usize::try_from(length).unwrap_or(usize::MAX)).await
            }
            Framing::Padded => {
                let length = self.source.read_u32_le().await? & 0x7fff_ffff;
                let mut packet = self.body(usize::try_from(length).unwrap_or(usize::MAX)).await?;
                let kept =
                    unpadded_length(&packet).ok_or(FrameError::Malformed("padded packet too short"))?;
                packet.truncate(kept);
                Ok(packet)
            }
        }
    }

    async fn next_full(&mut self) -> Result<Vec<u8>, FrameError> {
        let head = match self.head.take() {
            Some(head) => head,
            None => self.source.read_u32_le().await?.to_le_bytes(),
        };
        let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if !(FULL_OVERHEAD..=MAX_PACKET + FULL_OVERHEAD).contains(&length) {
            return Err(FrameError::Malformed("full: length"));
        }
        let mut rest = self.body(length - head.len()).await?;
        let mut tail = [0; 4];
        let end = rest.len().saturating_sub(tail.len());
        for (into, from) in tail.iter_mut().zip(rest.iter().skip(end)) {
            *into = *from;
        }
        rest.truncate(end);
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&head);
        checksum.update(&rest);
        if checksum.finalize() != u32::from_le_bytes(tail) {
            return Err(FrameError::Malformed("full: checksum"));
        }
        if Input(&rest).int() != Some(self.sequence) {
            return Err(FrameError::Malformed("full: sequence"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        rest.drain(..4);
        Ok(rest)
    }

    /// Reads exactly `length` bytes; memory grows with what arrives, not with what is announced.
    async fn body(&mut self, length: usize) -> Result<Vec<u8>, FrameError> {
        if length > MAX_PACKET {
            return Err(FrameError::Malformed("length"));
        }
        let mut bytes = Vec::with_capacity(length.min(4096));
        let wanted = u64::try_from(length).unwrap_or(u64::MAX);
        (&mut self.source).take(wanted).read_to_end(&mut bytes).await?;
        if bytes.len() < length {
            return Err(FrameError::Ended(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }
}

/// How much of a padded-intermediate packet is payload: plain messages say it, encrypted ones are 24 + 16n bytes.
fn unpadded_length(packet: &[u8]) -> Option<usize> {
    let mut input = Input(packet);
    if input.long()? == 0 {
        input.take(8)?;
        return input.length()?.checked_add(20).filter(|kept| *kept <= packet.len());
    }
    let encrypted = packet.len().checked_sub(24)?;
    Some(24 + encrypted / 16 * 16)
}

/// The sending half: turns payloads into frames.
#[derive(Debug)]
pub(crate) struct Packer {
    framing: Framing,
    sequence: i32,
}

impl Packer {
    /// For a client that speaks `framing`.
    pub(crate) fn new(framing: Framing) -> Self {
        Self { framing, sequence: 0 }
    }

    /// One frame around `payload`.
    pub(crate) fn pack(&mut self, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(payload.len() + FULL_OVERHEAD);
        match self.framing {
            Framing::Full => {
                frame.extend(length.saturating_add(12).to_le_bytes());
                frame.extend(self.sequence.to_le_bytes());
                frame.extend(payload);
                frame.extend(crc32fast::hash(&frame).to_le_bytes());
                self.sequence = self.sequence.wrapping_add(1);
            }
            Framing::Abridged => {
                let words = length / 4;
                let [a, b, c, _] = words.to_le_bytes();
                if words < 0x7f {
                    frame.push(a);
                } else {
                    frame.extend([0x7f, a, b, c]);
                }
                frame.extend(payload);
            }
            Framing::Intermediate | Framing::Padded => {
                frame.extend(length.to_le_bytes());
                frame.extend(payload);
            }
        }
        frame
    }

    /// A transport error, e.g. 404 for an unknown key. In full framing the code is sent three times: grammers reads
    /// four bytes of it, Telethon waits for twelve.
    pub(crate) fn error(&mut self, code: i32) -> Vec<u8> {
        let code = (-code).to_le_bytes();
        match self.framing {
            Framing::Full => [code, code, code].concat(),
            Framing::Abridged | Framing::Intermediate | Framing::Padded => self.pack(&code),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn opening(framing: Framing) -> &'static [u8] {
        match framing {
            Framing::Full => &[],
            Framing::Abridged => &[0xef],
            Framing::Intermediate => &[0xee; 4],
            Framing::Padded => &[0xdd; 4],
        }
    }

    #[test]
    fn every_transport_is_recognised_and_gives_back_what_was_packed() {
        let payloads = [vec![7; 40], vec![1; 40 + 16 * 100]];
        for framing in [Framing::Full, Framing::Abridged, Framing::Intermediate, Framing::Padded] {
            let mut packer = Packer::new(framing);
            let mut stream = opening(framing).to_vec();
            for payload in &payloads {
                stream.extend(packer.pack(payload));
            }
            block_on(async {
                let mut reader = Reader::detect(stream.as_slice()).await.unwrap();
                assert_eq!(reader.framing(), framing);
                for payload in &payloads {
                    assert_eq!(&reader.next().await.unwrap(), payload);
                }
                assert!(matches!(reader.next().await, Err(FrameError::Ended(_))));
            });
        }
    }

    #[test]
    fn a_full_frame_with_a_wrong_checksum_or_sequence_is_refused() {
        let mut packer = Packer::new(Framing::Full);
        let (first, second) = (packer.pack(&[1; 40]), packer.pack(&[2; 40]));
        let mut damaged = first.clone();
        damaged[20] ^= 1;
        for stream in [damaged, second] {
            let outcome = block_on(async { Reader::detect(stream.as_slice()).await.unwrap().next().await });
            assert!(matches!(outcome, Err(FrameError::Malformed(_))));
        }
    }

    #[test]
    fn an_announced_length_costs_nothing_until_the_bytes_arrive() {
        let stream = [&[0xee; 4][..], &u32::to_le_bytes(1 << 20), &[0; 10]].concat();
        let outcome = block_on(async { Reader::detect(stream.as_slice()).await.unwrap().next().await });
        assert!(matches!(outcome, Err(FrameError::Ended(_))));
        let stream = [&[0xee; 4][..], &u32::to_le_bytes(1 << 28)].concat();
        let outcome = block_on(async { Reader::detect(stream.as_slice()).await.unwrap().next().await });
        assert!(matches!(outcome, Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn hostile_streams_end_in_an_error_not_a_panic(
            opening in prop::sample::select(vec![Framing::Full, Framing::Abridged, Framing::Intermediate, Framing::Padded]),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let stream = [self::opening(opening), &bytes].concat();
            block_on(async {
                if let Ok(mut reader) = Reader::detect(stream.as_slice()).await {
                    while let Ok(packet) = reader.next().await {
                        assert!(packet.len() <= MAX_PACKET);
                    }
                }
            });
        }
    }
}
