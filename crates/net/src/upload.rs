//! Uploading a report over one stream; one that broke goes on where it stopped.
//!
//! `Begin` → `Resume` (or a `Verdict` at once) → `Chunk`s → `Verdict`.

use std::future::Future;

use futures::{AsyncRead, AsyncWrite};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Frame, FrameError, read_frame, write_frame};

const BEGIN: u8 = 1;
const RESUME: u8 = 2;
const CHUNK: u8 = 3;
const VERDICT: u8 = 4;
/// Most bytes of a chunk.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Least bytes of a chunk, but for a report's last: each is stored by itself, at a cost of its own.
pub const LEAST_CHUNK_BYTES: usize = 4 * 1024;
const CONTROL_BYTES: usize = 1024;

/// What an upload is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The task.
    pub task: [u8; 32],
    /// The report.
    pub report_id: [u8; 16],
    /// Its length, in bytes.
    pub length: u64,
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// The receiver's last word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Zero: stored. Otherwise the code of a public reason.
    pub code: u16,
    /// For a person.
    pub message: String,
}

/// The receiver's first word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BeginAnswer {
    /// Send from this byte on.
    Resume(u64),
    /// Nothing to send.
    Verdict(Verdict),
}

/// A report to upload.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The task.
    pub task: [u8; 32],
    /// Its id.
    pub report_id: [u8; 16],
    /// SHA-256 of its bytes.
    pub digest: [u8; 32],
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Where this stream began.
    pub resumed_from: u64,
    /// Bytes the other side has or is sent.
    pub sent: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An upload broke.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The stream or a frame failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message that makes no sense.
    #[error("the other side broke the upload protocol: {0}")]
    Protocol(&'static str),
}

/// The receiving side.
pub trait UploadHandler {
    /// Begin or go on.
    fn begin(&self, begin: &Begin) -> impl Future<Output = BeginAnswer> + Send;
    /// Store a piece that starts at `offset`.
    fn append(
        &self,
        begin: &Begin,
        offset: u64,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Verdict>> + Send;
    /// All bytes are here.
    fn finish(&self, begin: &Begin) -> impl Future<Output = Verdict> + Send;
}

fn control<T: Serialize>(kind: u8, value: &T) -> Result<Frame, UploadError> {
    let payload = postcard::to_allocvec(value)
        .map_err(|_| UploadError::Protocol("a message cannot be encoded"))?;
    Ok(Frame { kind, payload })
}

fn read<T: DeserializeOwned>(frame: &Frame) -> Result<T, UploadError> {
    postcard::from_bytes(&frame.payload)
        .map_err(|_| UploadError::Protocol("a message cannot be decoded"))
}

/// Upload a report, from where the receiver says.
///
/// # Errors
///
/// [`UploadError`]; the same report may be sent again over another stream.
pub async fn upload<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    report: &Report<'_>,
    mut progress: impl FnMut(Progress),
) -> Result<Verdict, UploadError> {
    let total = report.bytes.len() as u64;
    let begin = Begin {
        task: report.task,
        report_id: report.report_id,
        length: total,
        digest: report.digest,
    };
    write_frame(stream, &control(BEGIN, &begin)?).await?;
    let answers = |kind| matches!(kind, RESUME | VERDICT).then_some(CONTROL_BYTES);
    let answer = read_frame(stream, answers).await?;
    if answer.kind == VERDICT {
        return read(&answer);
    }
    let resumed_from: u64 = read(&answer)?;
    let rest = usize::try_from(resumed_from)
        .ok()
        .and_then(|at| report.bytes.get(at..))
        .ok_or(UploadError::Protocol("it asks for bytes past the end"))?;
    let mut sent = resumed_from;
    progress(Progress {
        resumed_from,
        sent,
        total,
    });
    for chunk in rest.chunks(CHUNK_BYTES) {
        write_frame(
            stream,
            &Frame {
                kind: CHUNK,
                payload: chunk.to_vec(),
            },
        )
        .await?;
        sent += chunk.len() as u64;
        progress(Progress {
            resumed_from,
            sent,
            total,
        });
    }
    let answer = read_frame(stream, |kind| (kind == VERDICT).then_some(CONTROL_BYTES)).await?;
    read(&answer)
}

/// Receive one report.
///
/// # Errors
///
/// [`UploadError`]; what was appended is held for the next try.
pub async fn serve_upload<S: AsyncRead + AsyncWrite + Unpin, H: UploadHandler>(
    stream: &mut S,
    handler: &H,
    max_length: u64,
) -> Result<(), UploadError> {
    let first = read_frame(stream, |kind| (kind == BEGIN).then_some(CONTROL_BYTES)).await?;
    let begin: Begin = read(&first)?;
    let mut offset = match handler.begin(&begin).await {
        BeginAnswer::Verdict(verdict) => {
            return Ok(write_frame(stream, &control(VERDICT, &verdict)?).await?);
        }
        BeginAnswer::Resume(offset) => offset,
    };
    if begin.length > max_length || offset > begin.length {
        return Err(UploadError::Protocol("the report is longer than allowed"));
    }
    write_frame(stream, &control(RESUME, &offset)?).await?;
    while offset < begin.length {
        let chunk = read_frame(stream, |kind| (kind == CHUNK).then_some(CHUNK_BYTES)).await?;
        let next = offset + chunk.payload.len() as u64;
        if chunk.payload.is_empty() || next > begin.length {
            return Err(UploadError::Protocol(
                "a chunk is empty or goes past the report's length",
            ));
        }
        if chunk.payload.len() < LEAST_CHUNK_BYTES && next < begin.length {
            return Err(UploadError::Protocol("a chunk is too small"));
        }
        if let Err(verdict) = handler.append(&begin, offset, &chunk.payload).await {
            return Ok(write_frame(stream, &control(VERDICT, &verdict)?).await?);
        }
        offset = next;
    }
    let verdict = handler.finish(&begin).await;
    Ok(write_frame(stream, &control(VERDICT, &verdict)?).await?)
}
