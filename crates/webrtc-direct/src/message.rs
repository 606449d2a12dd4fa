//! The messages of a stream, each with its length before it.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::channel::MAX_MESSAGE;

/// Most payload in one message: its length, tags and lengths take the rest.
pub(crate) const MAX_PAYLOAD: usize = MAX_MESSAGE - 16;

/// `Message` of the specification, and one field of our own.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(enumeration = "Flag", optional, tag = "1")]
    pub(crate) flag: Option<i32>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub(crate) payload: Option<Bytes>,
    /// So many more payload bytes may be sent to whoever sent this. Not in the specification; who
    /// does not know the field skips it, as protobuf asks.
    #[prost(uint64, optional, tag = "1017")]
    pub(crate) credit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Flag {
    /// The sender writes no more.
    Fin = 0,
    /// The sender reads no more.
    StopSending = 1,
    /// Both, at once, and what is on the way is void.
    Reset = 2,
    /// FIN and everything before it was read.
    FinAck = 3,
}

/// What is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("a message of {0} bytes is announced; the most is {MAX_MESSAGE}")]
    TooLong(u64),
    #[error("a message cannot be read: {0}")]
    Malformed(String),
}

impl Message {
    pub(crate) fn of(flag: Flag) -> Self {
        Self {
            flag: Some(flag.into()),
            ..Self::default()
        }
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        self.encode_length_delimited_to_vec().into()
    }

    /// Takes the next message from the start of `bytes`, if it is all there. A stream is a stream of
    /// bytes: a sender may cut a message, or put several into one data-channel message.
    pub(crate) fn take(bytes: &mut BytesMut) -> Result<Option<Self>, MessageError> {
        let Some((length, prefix)) = varint(bytes)? else {
            return Ok(None);
        };
        if length > MAX_MESSAGE as u64 {
            return Err(MessageError::TooLong(length));
        }
        let end = prefix + length as usize;
        if bytes.len() < end {
            return Ok(None);
        }
        let mut body = bytes.split_to(end).freeze();
        let body = body.split_off(prefix);
        Self::decode(body)
            .map(Some)
            .map_err(|e| MessageError::Malformed(e.to_string()))
    }
}

/// A length at the start of `bytes`: its value and how many bytes it takes.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, MessageError> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if bytes.len() < 4 {
        return Ok(None);
    }
    Err(MessageError::TooLong(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_however_they_are_cut() {
        let messages = [
            Message {
                payload: Some(Bytes::from(vec![7; MAX_PAYLOAD])),
                flag: Some(Flag::Fin.into()),
                credit: Some(1 << 20),
            },
            Message::of(Flag::FinAck),
            Message {
                credit: Some(5),
                ..Message::default()
            },
        ];
        let bytes: Vec<u8> = messages.iter().flat_map(|m| m.to_bytes()).collect();
        assert!(messages[0].to_bytes().len() <= MAX_MESSAGE);
        for step in [1, 7, 1000, 20_000] {
            let (mut buffer, mut back) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(message) = Message::take(&mut buffer).unwrap() {
                    back.push(message);
                }
            }
            assert_eq!(back, messages);
        }
    }

    #[test]
    fn the_specifications_bytes() {
        // Flag FIN alone; flag and payload; a field that is not known is skipped.
        assert_eq!(&Message::of(Flag::Fin).to_bytes()[..], &[2, 8, 0]);
        let read = |bytes: &[u8]| Message::take(&mut BytesMut::from(bytes)).unwrap().unwrap();
        let both = read(&[6, 8, 2, 18, 2, 1, 2]);
        assert_eq!(both.flag, Some(Flag::Reset.into()));
        assert_eq!(both.payload.unwrap(), vec![1, 2]);
        assert_eq!(read(&[5, 8, 3, 0x98, 6, 1]).flag, Some(3));
    }

    #[test]
    fn a_long_or_broken_message_is_refused_before_anything_is_kept() {
        let refused = |bytes: &[u8]| Message::take(&mut BytesMut::from(bytes)).unwrap_err();
        assert_eq!(refused(&[0x81, 0x80, 0x01]), MessageError::TooLong(16_385));
        assert!(matches!(refused(&[0xFF; 5]), MessageError::TooLong(_)));
        assert!(matches!(refused(&[1, 8]), MessageError::Malformed(_)));
        assert!(matches!(refused(&[2, 18, 9]), MessageError::Malformed(_)));
    }
}
