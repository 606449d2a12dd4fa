//! Reading a body from somebody unknown: bounded in bytes, in time, and in what all bodies hold together.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_stream::StreamExt as _;

use super::error::ApiError;
use crate::failure::Failure;

/// Bytes that all unfinished bodies may hold together.
const IN_FLIGHT_BYTES: usize = 256 * 1024 * 1024;
const UNIT: usize = 1024;
/// Longest wait for the next piece of a body.
pub const STALL: Duration = Duration::from_secs(15);
/// Longest time for a whole body.
const WHOLE: Duration = Duration::from_secs(120);

static IN_FLIGHT: Semaphore = Semaphore::const_new(IN_FLIGHT_BYTES / UNIT);

/// A body, counted until it is dropped.
pub struct Held {
    /// Its bytes.
    pub bytes: Vec<u8>,
    _room: Option<SemaphorePermit<'static>>,
}

/// A body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than it may be.
    TooLarge,
    /// It stands still, or takes too long.
    Slow,
    /// Too many bodies are on their way.
    Busy,
    /// The connection broke.
    Broken,
}

impl BodyError {
    /// What the API answers to it. `most` bytes were allowed.
    pub fn into_answer(self, most: usize) -> ApiError {
        match self {
            Self::TooLarge => ApiError::too_large(most),
            Self::Slow | Self::Broken => {
                Failure::Input("the request's body did not come to its end".into()).into()
            }
            Self::Busy => {
                Failure::Unreachable("too many requests at once; try again later".into()).into()
            }
        }
    }
}

/// Read a body of at most `most` bytes.
///
/// # Errors
///
/// [`BodyError`]; what was read is dropped.
pub async fn read(body: Body, most: usize) -> Result<Held, BodyError> {
    if body.size_hint().lower() > most as u64 {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(WHOLE, pieces(body, most))
        .await
        .unwrap_or(Err(BodyError::Slow))
}

async fn pieces(body: Body, most: usize) -> Result<Held, BodyError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut room: Option<SemaphorePermit<'static>> = None;
    loop {
        let next = tokio::time::timeout(STALL, stream.next()).await;
        let piece = match next {
            Err(_) => return Err(BodyError::Slow),
            Ok(None) => break,
            Ok(Some(piece)) => piece.map_err(|_| BodyError::Broken)?,
        };
        let length = bytes.len() + piece.len();
        if length > most {
            return Err(BodyError::TooLarge);
        }
        let held = room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let lacking = length.div_ceil(UNIT).saturating_sub(held);
        let lacking = u32::try_from(lacking).map_err(|_| BodyError::TooLarge)?;
        let more = IN_FLIGHT
            .try_acquire_many(lacking)
            .map_err(|_| BodyError::Busy)?;
        match &mut room {
            None => room = Some(more),
            Some(room) => room.merge(more),
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Held { bytes, _room: room })
}
