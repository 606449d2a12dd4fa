//! Answering streams: servers' requests and uploads.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use defim_net::{
    Frame, native::Endpoint, read_frame, score::serve_scores, upload::serve_upload, write_frame,
};
use defim_protocol::{
    NodeId, limits,
    wire::{self, Request, Response, protocol},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    full::FullNode,
    link::{REQUEST, RESPONSE},
    pace::Paced,
};
use crate::failure::{Failure, Outcome};

/// Streams served at once; more wait.
const STREAMS: usize = 512;
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
const UPLOAD_DEADLINE: Duration = Duration::from_secs(600);
/// Uploads of one sender at once. A key costs nothing, so this only keeps one program's mistake small.
const UPLOADS_OF_ONE: usize = 8;
/// An upload in which less than this comes in [`PACE`] is ended; it goes on when its sender returns.
const PACE_BYTES: usize = 16 * 1024;
const PACE: Duration = Duration::from_secs(20);
/// Streams on which questions are answered at once.
const ASKING: usize = 64;
/// Those of one key.
const ASKING_OF_ONE: usize = 4;
/// Less than a question.
const ASKING_BYTES: usize = 4 * 1024;
const ASKING_DEADLINE: Duration = Duration::from_secs(600);

fn cannot(error: &defim_net::native::NetError) -> Failure {
    Failure::Other(format!("the node's protocols cannot be served: {error}"))
}

/// Answer the other servers' requests.
///
/// # Errors
///
/// [`Failure`] if the protocol is served already.
pub fn serve_requests<F, A>(
    endpoint: &Endpoint,
    known: impl Fn(&NodeId) -> bool + Send + 'static,
    answer: A,
) -> Outcome
where
    A: Fn(NodeId, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send,
{
    let mut incoming = endpoint.accept(protocol::SERVER).map_err(|e| cannot(&e))?;
    let slots = Arc::new(Semaphore::new(STREAMS));
    tokio::spawn(async move {
        while let Some((key, mut stream)) = incoming.next().await {
            let from = NodeId(key);
            // A stranger is not read at all: its message could be as large as a server's.
            if !known(&from) {
                continue;
            }
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let answer = answer.clone();
            tokio::spawn(async move {
                let work = async {
                    let frame = read_frame(&mut stream, |kind| {
                        (kind == REQUEST).then_some(limits::SERVER_MESSAGE_BYTES)
                    })
                    .await?;
                    let response = match wire::decode(&frame.payload) {
                        Ok(request) => answer(from, request).await,
                        Err(error) => Response::Refused(error.to_string()),
                    };
                    let payload = wire::encode(&response).unwrap_or_default();
                    write_frame(
                        &mut stream,
                        &Frame {
                            kind: RESPONSE,
                            payload,
                        },
                    )
                    .await?;
                    let _ = futures::AsyncWriteExt::close(&mut stream).await;
                    Ok::<_, defim_net::FrameError>(())
                };
                match tokio::time::timeout(REQUEST_DEADLINE, work).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%from, %error, "a request was not answered"),
                    Err(_) => tracing::debug!(%from, "a request took too long"),
                }
                drop(slot);
            });
        }
    });
    Ok(())
}

/// Streams from anybody, bounded in all and for each key.
struct Guests {
    slots: Arc<Semaphore>,
    of_one: usize,
    seen: HashMap<[u8; 32], Weak<()>>,
}

/// One of the streams that are served at once.
struct Place {
    _slot: OwnedSemaphorePermit,
    _guest: Arc<()>,
}

impl Guests {
    fn new(streams: usize, of_one: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(streams)),
            of_one,
            seen: HashMap::new(),
        }
    }

    /// A place, or none: over the bound a guest is turned away at once, and comes again.
    fn admit(&mut self, key: [u8; 32]) -> Option<Place> {
        self.seen.retain(|_, guest| guest.strong_count() > 0);
        let guest = self
            .seen
            .get(&key)
            .and_then(Weak::upgrade)
            .unwrap_or_default();
        // One is held here, one by each of its streams.
        if Arc::strong_count(&guest) > self.of_one {
            return None;
        }
        self.seen.insert(key, Arc::downgrade(&guest));
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(Place {
            _slot: slot,
            _guest: guest,
        })
    }
}

/// Take uploads from anybody.
///
/// # Errors
///
/// [`Failure`] if the protocol is served already.
pub fn serve_uploads(endpoint: &Endpoint, node: FullNode) -> Outcome {
    let mut incoming = endpoint.accept(protocol::UPLOAD).map_err(|e| cannot(&e))?;
    tokio::spawn(async move {
        let mut guests = Guests::new(STREAMS, UPLOADS_OF_ONE);
        while let Some((key, stream)) = incoming.next().await {
            let Some(place) = guests.admit(key) else {
                continue;
            };
            let node = node.clone();
            tokio::spawn(async move {
                let mut stream = Paced::new(stream, PACE_BYTES, PACE);
                let work = async {
                    let served =
                        serve_upload(&mut stream, &node, limits::REPORT_BYTES as u64).await;
                    let _ = futures::AsyncWriteExt::close(&mut stream).await;
                    served
                };
                if let Ok(Err(error)) = tokio::time::timeout(UPLOAD_DEADLINE, work).await {
                    tracing::debug!(node = node.name(), %error, "an upload broke");
                }
                drop(place);
            });
        }
    });
    Ok(())
}

/// Answer anybody's questions about a task's model.
///
/// # Errors
///
/// [`Failure`] if the protocol is served already.
pub fn serve_questions(endpoint: &Endpoint, node: FullNode) -> Outcome {
    let mut incoming = endpoint.accept(protocol::SCORE).map_err(|e| cannot(&e))?;
    tokio::spawn(async move {
        let mut guests = Guests::new(ASKING, ASKING_OF_ONE);
        while let Some((key, stream)) = incoming.next().await {
            let Some(place) = guests.admit(key) else {
                continue;
            };
            let node = node.clone();
            tokio::spawn(async move {
                // A stream on which nothing is asked for a while holds no place.
                let mut stream = Paced::new(stream, ASKING_BYTES, PACE);
                let work = async {
                    let served = serve_scores(&mut stream, &node).await;
                    let _ = futures::AsyncWriteExt::close(&mut stream).await;
                    served
                };
                if let Ok(Err(error)) = tokio::time::timeout(ASKING_DEADLINE, work).await {
                    tracing::debug!(node = node.name(), %error, "a question was not answered");
                }
                drop(place);
            });
        }
    });
    Ok(())
}
