//! Frames: `length u32 | kind u8 | payload`, big endian, length of the payload alone.

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 5;

/// One message on a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is; each protocol has its own numbers.
    pub kind: u8,
    /// The encoded message.
    pub payload: Vec<u8>,
}

/// A frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended inside a frame, or before one that was due.
    #[error("the peer ended the stream before the message was complete; ask again")]
    Truncated,
    /// The length is over the kind's cap; nothing was allocated.
    #[error("a message of kind {kind} says it has {len} bytes; at most {max} are allowed")]
    TooLarge {
        /// The frame's kind.
        kind: u8,
        /// The length it claims, in bytes.
        len: usize,
        /// The cap, in bytes.
        max: usize,
    },
    /// This protocol has no such kind.
    #[error("a message of kind {0} is unknown here; the peer may run another version")]
    UnknownKind(u8),
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Read one frame. `max` gives the cap of a kind in bytes, or `None` for an unknown kind.
///
/// # Errors
///
/// [`FrameError`]; the stream is of no use afterwards.
pub async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    max: impl Fn(u8) -> Option<usize>,
) -> Result<Frame, FrameError> {
    let mut header = [0; HEADER_BYTES];
    reader.read_exact(&mut header).await.map_err(truncated)?;
    let [a, b, c, d, kind] = header;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    let max = max(kind).ok_or(FrameError::UnknownKind(kind))?;
    if len > max {
        return Err(FrameError::TooLarge { kind, len, max });
    }
    // Grows with what arrives: a claimed length alone must not take a server's memory.
    let mut payload = Vec::new();
    reader
        .take(len as u64)
        .read_to_end(&mut payload)
        .await
        .map_err(truncated)?;
    if payload.len() != len {
        return Err(FrameError::Truncated);
    }
    Ok(Frame { kind, payload })
}

/// Write one frame and flush it.
///
/// # Errors
///
/// [`FrameError::TooLarge`] if the payload does not fit a `u32`; [`FrameError::Io`].
pub async fn write_frame<W: AsyncWrite + Unpin>(
    writer: &mut W,
    frame: &Frame,
) -> Result<(), FrameError> {
    write_parts(writer, frame.kind, &frame.payload).await
}

/// [`write_frame`] without an owned payload.
pub(crate) async fn write_parts<W: AsyncWrite + Unpin>(
    writer: &mut W,
    kind: u8,
    payload: &[u8],
) -> Result<(), FrameError> {
    let len = u32::try_from(payload.len()).map_err(|_| FrameError::TooLarge {
        kind,
        len: payload.len(),
        max: u32::MAX as usize,
    })?;
    let [a, b, c, d] = len.to_be_bytes();
    writer.write_all(&[a, b, c, d, kind]).await?;
    writer.write_all(payload).await?;
    writer.flush().await?;
    Ok(())
}

fn truncated(error: std::io::Error) -> FrameError {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        FrameError::Truncated
    } else {
        FrameError::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn read(bytes: &[u8]) -> Result<Frame, FrameError> {
        block_on(read_frame(&mut Cursor::new(bytes), |kind| {
            (kind == 7).then_some(10)
        }))
    }

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for payload in [vec![], vec![1, 2, 3], vec![9; 10]] {
            let frame = Frame { kind: 7, payload };
            let mut bytes = Cursor::new(Vec::new());
            block_on(write_frame(&mut bytes, &frame)).unwrap();
            assert_eq!(bytes.get_ref().len(), HEADER_BYTES + frame.payload.len());
            assert_eq!(read(bytes.get_ref()).unwrap(), frame);
        }
    }

    #[test]
    fn every_truncation_is_seen() {
        let whole = [0, 0, 0, 3, 7, 1, 2, 3];
        for end in 0..whole.len() {
            assert!(
                matches!(read(&whole[..end]), Err(FrameError::Truncated)),
                "cut at {end}"
            );
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_read() {
        let error = read(&[0xff, 0xff, 0xff, 0xff, 7]).unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLarge {
                kind: 7,
                len: 0xffff_ffff,
                max: 10
            }
        ));
        assert!(matches!(
            read(&[0, 0, 0, 11, 7]),
            Err(FrameError::TooLarge { len: 11, .. })
        ));
        assert!(matches!(
            read(&[0, 0, 0, 1, 8, 0]),
            Err(FrameError::UnknownKind(8))
        ));
    }
}
