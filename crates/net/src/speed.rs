//! Measuring a way: bytes that both ends know, in one direction at a time.
//!
//! The opener sends a direction (`u` or `d`) and a length (`u64`, big endian). Up: so many bytes
//! follow, and the other side answers `1` if they were the right ones, else `0`. Down: the other side
//! sends them, and closes.

use std::io;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The protocol's name.
pub const PROTOCOL: &str = "/defim/speed/1";
/// Most bytes of one measurement.
pub const MOST_BYTES: u64 = 1 << 30;

/// Which way the bytes go, seen from who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the other side.
    Up,
    /// From it.
    Down,
}

/// Bytes whose order matters: what is lost, repeated or exchanged shows. A prime length keeps the
/// pattern out of step with any message.
struct Pattern {
    block: Vec<u8>,
    at: usize,
    turn: u8,
}

impl Pattern {
    fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let block = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[5]
        });
        Self {
            block: block.take(65_521).collect(),
            at: 0,
            turn: 0,
        }
    }

    /// Up to `most` bytes more.
    fn next(&mut self, most: usize) -> Vec<u8> {
        let rest = self.block.get(self.at..).unwrap_or_default();
        let part = rest.get(..most).unwrap_or(rest);
        let bytes = part.iter().map(|byte| byte ^ self.turn).collect();
        self.at += part.len();
        if self.at >= self.block.len() {
            self.at = 0;
            self.turn = self.turn.wrapping_add(1);
        }
        bytes
    }
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, mut length: u64) -> io::Result<()> {
    let mut pattern = Pattern::new();
    while length > 0 {
        let bytes = pattern.next(usize::try_from(length).unwrap_or(usize::MAX));
        stream.write_all(&bytes).await?;
        length -= bytes.len() as u64;
    }
    stream.flush().await
}

async fn receive<S: AsyncRead + Unpin>(stream: &mut S, mut length: u64) -> io::Result<bool> {
    let (mut pattern, mut equal) = (Pattern::new(), true);
    let mut buffer = vec![0; 64 * 1024];
    while length > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(length).unwrap_or(usize::MAX));
        let read = stream
            .read(buffer.get_mut(..most).unwrap_or_default())
            .await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = buffer.get(..read).unwrap_or_default();
        while !rest.is_empty() {
            let expected = pattern.next(rest.len());
            let (now, later) = rest.split_at(expected.len().min(rest.len()));
            equal &= now == expected;
            rest = later;
        }
        length -= read as u64;
    }
    Ok(equal)
}

/// Measures one direction: true if the bytes that arrived are those that were sent.
///
/// # Errors
///
/// Those of the stream.
pub async fn measure<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    direction: Direction,
    length: u64,
) -> io::Result<bool> {
    let mut request = vec![match direction {
        Direction::Up => b'u',
        Direction::Down => b'd',
    }];
    request.extend(length.to_be_bytes());
    stream.write_all(&request).await?;
    stream.flush().await?;
    match direction {
        Direction::Up => {
            send(stream, length).await?;
            let mut verdict = [0];
            stream.read_exact(&mut verdict).await?;
            Ok(verdict == [b'1'])
        }
        Direction::Down => receive(stream, length).await,
    }
}

/// The other side of [`measure`].
///
/// # Errors
///
/// Those of the stream; `InvalidData` for a request that is none, or over [`MOST_BYTES`].
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut direction = [0];
    stream.read_exact(&mut direction).await?;
    let mut length = [0; 8];
    stream.read_exact(&mut length).await?;
    let length = u64::from_be_bytes(length);
    if length > MOST_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match direction {
        [b'u'] => {
            let verdict = if receive(stream, length).await? {
                b'1'
            } else {
                b'0'
            };
            stream.write_all(&[verdict]).await?;
        }
        [b'd'] => send(stream, length).await?,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    stream.close().await?;
    // Until the other side has closed too: what is dropped before is cut off, and it is told so.
    let mut more = [0];
    match stream.read(&mut more).await? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    #[test]
    fn bytes_that_are_lost_repeated_or_exchanged_show() {
        let mut bytes = Cursor::new(Vec::new());
        block_on(send(&mut bytes, 200_000)).unwrap();
        let good = bytes.into_inner();
        let equal =
            |bytes: &[u8]| block_on(receive(&mut Cursor::new(bytes), bytes.len() as u64)).unwrap();
        assert!(equal(&good));
        let without = [&good[..1000], &good[1001..]].concat();
        let twice = [&good[..70_000], &good[60_000..70_000], &good[70_000..]].concat();
        let mut exchanged = good.clone();
        exchanged[..131_042].rotate_left(65_521);
        for bad in [without, twice, exchanged] {
            assert!(!equal(&bad));
        }
    }
}
