//! Server-sent events: a task's view whenever it changes.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use axum::{
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use defim_protocol::TaskId;
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::{Mesh, error::ApiError};

/// Shortest time between two batches of events to one reader.
const PAUSE: Duration = Duration::from_millis(250);
/// Readers at once; more would be a way to hold this node's memory.
const READERS: usize = 1024;
static OPEN: AtomicUsize = AtomicUsize::new(0);

struct Reader;

impl Drop for Reader {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tasks as they change: at first all, then each change, event `task` with a `TaskView` without history.
#[utoipa::path(get, path = "/events", responses((status = 200, content_type = "text/event-stream")))]
pub async fn events(State(mesh): State<Mesh>) -> Result<Response, ApiError> {
    let reader = Reader;
    if OPEN.fetch_add(1, Ordering::Relaxed) >= READERS {
        drop(reader);
        return Err(crate::failure::Failure::Unreachable(
            "too many readers of events; try again later".into(),
        )
        .into());
    }
    let (sender, receiver) = mpsc::channel::<Result<Event, Infallible>>(16);
    let mut changes = mesh.node.changes();
    tokio::spawn(async move {
        let _reader = reader;
        let mut changed: BTreeSet<TaskId> =
            mesh.node.tasks().into_iter().map(|(id, _)| id).collect();
        loop {
            for id in std::mem::take(&mut changed) {
                let Some(event) = event(&mesh, id).await else {
                    continue;
                };
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(PAUSE).await;
            let next = tokio::select! {
                next = changes.recv() => next,
                () = sender.closed() => return,
            };
            match next {
                Ok(id) => {
                    changed.insert(id);
                    while let Ok(id) = changes.try_recv() {
                        changed.insert(id);
                    }
                }
                Err(RecvError::Lagged(_)) => {
                    changed.extend(mesh.node.tasks().into_iter().map(|(id, _)| id))
                }
                Err(RecvError::Closed) => return,
            }
        }
    });
    Ok(Sse::new(ReceiverStream::new(receiver))
        .keep_alive(KeepAlive::default())
        .into_response())
}

async fn event(mesh: &Mesh, id: TaskId) -> Option<Event> {
    let (_, run) = mesh
        .node
        .tasks()
        .into_iter()
        .find(|(task, _)| *task == id)?;
    let machine = run.machine().await.ok()?;
    let view = mesh.task_view(&run, &machine, None).await.ok()?;
    drop(machine);
    Event::default().event("task").json_data(view).ok()
}
