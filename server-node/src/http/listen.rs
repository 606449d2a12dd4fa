//! Serving connections from anybody: so many at once, and none that only sits there.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto::Builder, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::failure::{Failure, Outcome};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS: usize = 2048;
/// Longest time for a request's head, and between two requests of a connection.
const HEAD: Duration = Duration::from_secs(20);
const HEAD_BYTES: usize = 64 * 1024;
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
/// [`Failure`] if the address is taken, or no browser asks its port.
pub async fn bind(address: SocketAddr) -> Outcome<(TcpListener, SocketAddr)> {
    if is_blocked(address.port()) {
        return Err(Failure::Input(format!(
            "{address} cannot be used: browsers refuse to ask port {}; choose another",
            address.port()
        )));
    }
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
    // Version 1 only: browsers speak it without TLS, and telling versions apart has no deadline.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES);
    let builder = Arc::new(builder);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let open = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or gone before it was accepted.
                tracing::debug!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let (builder, watcher) = (builder.clone(), open.watcher());
        tokio::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection.into_owned()).await {
                tracing::trace!(error, "a connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(STOPPING, open.shutdown()).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}
