//! Answering streams: servers' requests and uploads.

use std::{future::Future, sync::Arc, time::Duration};

use defim_net::{Frame, native::Endpoint, read_frame, upload::serve_upload, write_frame};
use defim_protocol::{
    NodeId, limits,
    wire::{self, Request, Response, protocol},
};
use tokio::sync::Semaphore;

use super::{
    full::FullNode,
    link::{REQUEST, RESPONSE},
};
use crate::failure::{Failure, Outcome};

/// Streams served at once; more wait.
const STREAMS: usize = 512;
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
const UPLOAD_DEADLINE: Duration = Duration::from_secs(600);

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

/// Take uploads from anybody.
///
/// # Errors
///
/// [`Failure`] if the protocol is served already.
pub fn serve_uploads(endpoint: &Endpoint, node: FullNode) -> Outcome {
    let mut incoming = endpoint.accept(protocol::UPLOAD).map_err(|e| cannot(&e))?;
    let slots = Arc::new(Semaphore::new(STREAMS));
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            // Over the bound a sender is turned away at once; it keeps its report and comes again.
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                continue;
            };
            let node = node.clone();
            tokio::spawn(async move {
                let work = async {
                    let served =
                        serve_upload(&mut stream, &node, limits::REPORT_BYTES as u64).await;
                    let _ = futures::AsyncWriteExt::close(&mut stream).await;
                    served
                };
                if let Ok(Err(error)) = tokio::time::timeout(UPLOAD_DEADLINE, work).await {
                    tracing::debug!(node = node.name(), %error, "an upload broke");
                }
                drop(slot);
            });
        }
    });
    Ok(())
}
