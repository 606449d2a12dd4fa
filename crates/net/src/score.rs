//! Asking a model over one stream: encrypted features there, encrypted scores back, as often as wanted.
//!
//! `Ask` → `Offer` → (`Question` → `Answer`)*. Instead of an offer or an answer there may be a `Refusal`, after which the
//! stream ends. Questions and answers are bytes here; `defim-score` makes and reads them.

use std::future::Future;

use futures::{AsyncRead, AsyncWrite};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Frame, FrameError, read_frame, write_frame};

const ASK: u8 = 1;
const OFFER: u8 = 2;
const QUESTION: u8 = 3;
const ANSWER: u8 = 4;
const REFUSAL: u8 = 5;
const CONTROL_BYTES: usize = 1024;
/// Most bytes of a question.
pub const QUESTION_BYTES: usize = 32 * 1024;
/// Most bytes of an answer: one of 256 classes takes 2.1 MB with 2,048 features, one of 64 features 130 kB.
pub const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The model that answers on this stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// SHA-256 of its bytes.
    pub model: [u8; 32],
    /// One step of a feature, in what the model sees.
    pub feature_step: f32,
    /// One step of a score, in the model's outputs.
    pub score_step: f32,
}

/// Why a node does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It does not serve this task.
    #[error("this full node does not know the task; ask another one, or load the mesh again")]
    UnknownTask,
    /// The model has a hidden layer, or more features or classes than can be scored.
    #[error("this model cannot be asked encrypted: {0}")]
    Unsuitable(String),
    /// The question is none, or of another shape than the model.
    #[error("the question was refused: {0}")]
    Malformed(String),
    /// Not now.
    #[error("this full node cannot answer now ({0}); try again in a moment")]
    Unavailable(String),
}

impl Refusal {
    /// A stable word for the reason.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownTask => "unknown-task",
            Self::Unsuitable(_) => "unsuitable-model",
            Self::Malformed(_) => "malformed",
            Self::Unavailable(_) => "unavailable",
        }
    }
}

/// Asking ended without an answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The stream or a frame failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The node does not answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A message that makes no sense.
    #[error("the other side broke the scoring protocol: {0}")]
    Protocol(&'static str),
}

impl AskError {
    /// A stable word for the kind of error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Frame(_) | Self::Protocol(_) => "broken",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

/// The answering side.
pub trait ScoreHandler {
    /// The model that a stream was offered.
    type Model: Send + Sync;

    /// The newest model of this task.
    fn offer(
        &self,
        task: &[u8; 32],
    ) -> impl Future<Output = Result<(Offer, Self::Model), Refusal>> + Send;

    /// Score what cannot be read.
    fn answer(
        &self,
        model: &Self::Model,
        question: Vec<u8>,
    ) -> impl Future<Output = Result<Vec<u8>, Refusal>> + Send;
}

fn control<T: Serialize>(kind: u8, value: &T) -> Result<Frame, AskError> {
    let payload = postcard::to_allocvec(value)
        .map_err(|_| AskError::Protocol("a message cannot be encoded"))?;
    Ok(Frame { kind, payload })
}

fn read<T: DeserializeOwned>(frame: &Frame) -> Result<T, AskError> {
    postcard::from_bytes(&frame.payload)
        .map_err(|_| AskError::Protocol("a message cannot be decoded"))
}

/// A stream on which a node has offered its model.
#[derive(Debug)]
pub struct Asker<S> {
    stream: S,
    offer: Offer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Asker<S> {
    /// Ask for the newest model of a task.
    ///
    /// # Errors
    ///
    /// [`AskError`].
    pub async fn begin(mut stream: S, task: [u8; 32]) -> Result<Self, AskError> {
        write_frame(&mut stream, &control(ASK, &task)?).await?;
        let frame = Self::reply(&mut stream, OFFER, CONTROL_BYTES).await?;
        let offer = read(&frame)?;
        Ok(Self { stream, offer })
    }

    /// The model that answers.
    pub fn offer(&self) -> Offer {
        self.offer
    }

    /// One question, one answer.
    ///
    /// # Errors
    ///
    /// [`AskError`]; the stream is of no use afterwards.
    pub async fn ask(&mut self, question: Vec<u8>) -> Result<Vec<u8>, AskError> {
        let question = Frame {
            kind: QUESTION,
            payload: question,
        };
        write_frame(&mut self.stream, &question).await?;
        let frame = Self::reply(&mut self.stream, ANSWER, ANSWER_BYTES).await?;
        Ok(frame.payload)
    }

    /// The stream, to close it.
    pub fn into_inner(self) -> S {
        self.stream
    }

    async fn reply(stream: &mut S, expected: u8, most: usize) -> Result<Frame, AskError> {
        let frame = read_frame(stream, |kind| match kind {
            REFUSAL => Some(CONTROL_BYTES),
            kind => (kind == expected).then_some(most),
        })
        .await?;
        match frame.kind {
            REFUSAL => Err(read::<Refusal>(&frame)?.into()),
            _ => Ok(frame),
        }
    }
}

/// Answer on one stream until the other side ends it.
///
/// # Errors
///
/// [`AskError`]; a refusal was sent before it is returned.
pub async fn serve_scores<S: AsyncRead + AsyncWrite + Unpin, H: ScoreHandler>(
    stream: &mut S,
    handler: &H,
) -> Result<(), AskError> {
    let first = read_frame(stream, |kind| (kind == ASK).then_some(CONTROL_BYTES)).await?;
    let task: [u8; 32] = read(&first)?;
    let model = match handler.offer(&task).await {
        Ok((offer, model)) => {
            write_frame(stream, &control(OFFER, &offer)?).await?;
            model
        }
        Err(refusal) => return refuse(stream, refusal).await,
    };
    loop {
        let question = read_frame(stream, |kind| (kind == QUESTION).then_some(QUESTION_BYTES));
        let question = match question.await {
            Ok(frame) => frame.payload,
            // The other side has gone, and nothing is owed.
            Err(FrameError::Truncated) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        match handler.answer(&model, question).await {
            Ok(payload) => {
                let kind = ANSWER;
                write_frame(stream, &Frame { kind, payload }).await?;
            }
            Err(refusal) => return refuse(stream, refusal).await,
        }
    }
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, refusal: Refusal) -> Result<(), AskError> {
    write_frame(stream, &control(REFUSAL, &refusal)?).await?;
    Err(refusal.into())
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use futures::AsyncWriteExt as _;
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};

    use super::*;

    const TASK: [u8; 32] = [7; 32];
    const OFFERED: Offer = Offer {
        model: [9; 32],
        feature_step: 0.5,
        score_step: 0.25,
    };

    /// Adds one to every byte of a question that does not begin with zero.
    struct Adder;

    impl ScoreHandler for Adder {
        type Model = u8;

        async fn offer(&self, task: &[u8; 32]) -> Result<(Offer, u8), Refusal> {
            match *task == TASK {
                true => Ok((OFFERED, 1)),
                false => Err(Refusal::UnknownTask),
            }
        }

        async fn answer(&self, model: &u8, question: Vec<u8>) -> Result<Vec<u8>, Refusal> {
            match question.first() {
                None | Some(0) => Err(Refusal::Malformed("it begins with zero".into())),
                Some(_) => Ok(question
                    .iter()
                    .map(|byte| byte.wrapping_add(*model))
                    .collect()),
            }
        }
    }

    type Stream = Compat<tokio::io::DuplexStream>;

    fn serving() -> (Stream, tokio::task::JoinHandle<Result<(), AskError>>) {
        let (ours, theirs) = tokio::io::duplex(1000);
        let mut theirs = theirs.compat();
        let served = tokio::spawn(async move { serve_scores(&mut theirs, &Adder).await });
        (ours.compat(), served)
    }

    #[tokio::test]
    async fn a_stream_carries_many_questions_and_ends_between_two() {
        let (stream, served) = serving();
        let mut asker = Asker::begin(stream, TASK).await.unwrap();
        assert_eq!(asker.offer(), OFFERED);
        for question in [vec![1; 3], vec![200; QUESTION_BYTES]] {
            let answer = asker.ask(question.clone()).await.unwrap();
            assert!(answer.iter().zip(&question).all(|(a, q)| *a == q + 1));
            assert_eq!(answer.len(), question.len());
        }
        asker.into_inner().close().await.unwrap();
        assert!(served.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_refusal_reaches_who_asks_with_its_reason() {
        let (stream, served) = serving();
        let refused = Asker::begin(stream, [8; 32]).await.unwrap_err();
        assert_eq!(refused.code(), "unknown-task");
        assert!(matches!(refused, AskError::Refused(Refusal::UnknownTask)));
        assert_eq!(served.await.unwrap().unwrap_err().code(), "unknown-task");

        let (stream, _served) = serving();
        let mut asker = Asker::begin(stream, TASK).await.unwrap();
        let refused = asker.ask(vec![0]).await.unwrap_err();
        assert_eq!(refused.code(), "malformed");
        assert!(refused.to_string().contains("it begins with zero"));
        assert_eq!(asker.ask(vec![1]).await.unwrap_err().code(), "broken");
    }

    #[tokio::test]
    async fn what_is_too_long_or_out_of_order_is_not_answered() {
        let (stream, served) = serving();
        let mut asker = Asker::begin(stream, TASK).await.unwrap();
        assert!(asker.ask(vec![1; QUESTION_BYTES + 1]).await.is_err());
        assert!(matches!(
            served.await.unwrap(),
            Err(AskError::Frame(FrameError::TooLarge { .. }))
        ));

        let (mut stream, served) = serving();
        let early = Frame {
            kind: QUESTION,
            payload: vec![1],
        };
        write_frame(&mut stream, &early).await.unwrap();
        assert!(served.await.unwrap().is_err());

        // The other side goes away within a question.
        let (stream, served) = serving();
        let mut stream = Asker::begin(stream, TASK).await.unwrap().into_inner();
        stream.write_all(&[0, 0, 0, 9, QUESTION, 1]).await.unwrap();
        drop(stream);
        assert!(served.await.unwrap().is_ok());
    }
}
