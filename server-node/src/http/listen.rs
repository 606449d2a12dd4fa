//! Serving connections from anybody: so many at once, and none that only sits there.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware::{self, Next},
    response::Response,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tower_http::add_extension::AddExtension;

use crate::{
    clock,
    failure::{Failure, Outcome},
};

/// Connections at once. One more takes the place of the one on which nothing has been asked for longest; if all are being answered, it
/// is closed.
const CONNECTIONS: usize = 2048;
/// Longest time for a request's head, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(20);
const HEAD_BYTES: usize = 64 * 1024;
/// After so long without taking anything of its answer, a connection counts as idle.
const STUCK: Duration = Duration::from_secs(30);
/// How long what is being answered may take once the node is to stop. Event streams never end.
const STOPPING: Duration = Duration::from_secs(2);

/// Whether browsers refuse to ask a port, since other protocols have it: the "bad ports" of the Fetch standard that need no
/// privileges.
pub const fn is_blocked(port: u16) -> bool {
    matches!(
        port,
        1719 | 1720 | 1723 | 2049 | 3659 | 4045 | 4190 | 5060 | 5061 | 6000 | 6566 | 6665
            ..=6669 | 6679 | 6697 | 10_080
    )
}

/// Listen, so that others can be told where.
///
/// # Errors
///
/// [`Failure`] if the address is taken.
pub async fn bind(address: SocketAddr) -> Outcome<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.map_err(|e| {
        Failure::Other(format!(
            "{address} cannot be listened on: {e}; stop what uses it or choose another address"
        ))
    })?;
    let bound = listener.local_addr();
    let bound = bound.map_err(|e| Failure::Other(e.to_string()))?;
    Ok((listener, bound))
}

/// Serve until the future ends.
///
/// # Errors
///
/// None in practice: what fails is one connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> Outcome {
    serve_at_most(CONNECTIONS, listener, router, stop).await
}

async fn serve_at_most(
    most: usize,
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
) -> Outcome {
    // Version 1 only: browsers speak it without TLS, and telling versions apart has no deadline.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES);
    let builder = Arc::new(builder);
    let taken = Arc::new(Taken::default());
    let router = router.layer(middleware::from_fn(answered));
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or gone before it was accepted.
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = taken.place(most) else {
            tracing::debug!("a connection was closed: all others are being answered");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = AddExtension::new(router.clone(), place.clone());
        let service = TowerToHyperService::new(service);
        let (builder, watcher, taken) = (builder.clone(), open.watcher(), taken.clone());
        tokio::spawn(async move {
            let stream = Watched {
                stream,
                place: place.clone(),
            };
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                ended = watcher.watch(connection.into_owned()) => {
                    if let Err(error) = ended {
                        tracing::trace!(error, "a connection ended");
                    }
                }
                () = place.gone.notified() => {}
            }
            taken.free(&place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOPPING, open.shutdown()).await;
    Ok(())
}

/// Answer a request, as one of those of its connection.
async fn answered(request: Request, next: Next) -> Response {
    let place = request.extensions().get::<Arc<Place>>();
    let Some(answering) = place.map(Answering::new) else {
        return next.run(request).await;
    };
    next.run(request).await.map(|body| {
        Body::new(Answer {
            body,
            _answering: answering,
        })
    })
}

fn locked<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection's place among so many.
struct Place {
    /// Requests that are being answered.
    answering: AtomicUsize,
    /// Whether something waits to be sent, because the other side does not take it.
    writing: AtomicBool,
    /// When it was opened, or something was answered or sent last.
    since: Mutex<Instant>,
    /// Told when another one takes the place.
    gone: Notify,
}

impl Place {
    /// Whether nothing is being answered, or the other side has taken nothing of an answer for long.
    fn is_idle(&self) -> bool {
        match self.writing.load(Ordering::SeqCst) {
            true => locked(&self.since).elapsed() > STUCK,
            false => self.answering.load(Ordering::SeqCst) == 0,
        }
    }

    /// What sending has come to.
    fn wrote(&self, polled: &Poll<std::io::Result<usize>>) {
        self.writing.store(polled.is_pending(), Ordering::SeqCst);
        if polled.is_ready() {
            *locked(&self.since) = clock::start();
        }
    }
}

/// A connection's bytes, with an eye on whether they are taken.
struct Watched {
    stream: TcpStream,
    place: Arc<Place>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.place.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.place.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The places that are taken.
#[derive(Default)]
struct Taken(Mutex<Vec<Arc<Place>>>);

impl Taken {
    /// A place, if need be that of the connection on which nothing has been asked for longest.
    fn place(&self, most: usize) -> Option<Arc<Place>> {
        let mut places = locked(&self.0);
        if places.len() >= most {
            let idle = places.iter().enumerate();
            let idle = idle.filter(|(_, place)| place.is_idle());
            let (longest, _) = idle.min_by_key(|(_, place)| *locked(&place.since))?;
            places.swap_remove(longest).gone.notify_one();
        }
        let place = Arc::new(Place {
            answering: AtomicUsize::new(0),
            writing: AtomicBool::new(false),
            since: Mutex::new(clock::start()),
            gone: Notify::new(),
        });
        places.push(place.clone());
        Some(place)
    }

    fn free(&self, place: &Arc<Place>) {
        locked(&self.0).retain(|other| !Arc::ptr_eq(other, place));
    }
}

/// That a request is being answered, as long as it is there.
struct Answering(Arc<Place>);

impl Answering {
    fn new(place: &Arc<Place>) -> Self {
        place.answering.fetch_add(1, Ordering::SeqCst);
        Self(place.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        *locked(&self.0.since) = clock::start();
        self.0.answering.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An answer's body, while it is sent.
struct Answer {
    body: Body,
    _answering: Answering,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use futures::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(at: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: defim\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn connections_that_say_nothing_make_way_and_those_being_answered_stay() {
        let slow = || async {
            let words = stream::unfold(0, |n| async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (n < 20).then(|| (Ok::<_, std::io::Error>("word "), n + 1))
            });
            Body::from_stream(words)
        };
        // Far more than the system takes at once for somebody who does not read.
        const LARGE: usize = 64 << 20;
        let router = Router::new()
            .route("/large", get(|| async { vec![7_u8; LARGE] }))
            .route("/slow", get(slow))
            .route("/quick", get(|| async { "here" }));
        let (listener, at) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(serve_at_most(4, listener, router, std::future::pending()));
        let mut long = ask(at, "/slow").await;
        let mut first = [0; 12];
        long.read_exact(&mut first).await.unwrap();
        let mut large = ask(at, "/large").await;
        large.read_exact(&mut first).await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        let mut answer = [0; 15];
        let mut quick = ask(at, "/quick").await;
        quick.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        let end = async {
            // Twenty words in chunks of their own, and the last chunk.
            while !rest.ends_with(b"0\r\n\r\n") {
                assert_ne!(long.read_buf(&mut rest).await.unwrap(), 0, "it was cut off");
            }
        };
        tokio::time::timeout(Duration::from_secs(30), end)
            .await
            .unwrap();
    }
}
