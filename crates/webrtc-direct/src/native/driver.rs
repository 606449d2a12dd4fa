//! Threads for connections.
//!
//! A packet goes through four or five small tasks, of the socket, DTLS and SCTP. Where each may run on
//! any thread, waking the next one costs more than all they compute; so a connection stays on one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// More than this many would only wait for the one socket.
const MOST_THREADS: usize = 4;

fn start(number: usize) -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    thread::Builder::new()
        .name(format!("webrtc-{number}"))
        .spawn(move || {
            // Ends when its sender is dropped.
            let _ = runtime.block_on(stopped);
        })?;
    Ok((handle, stop))
}

/// Runtimes of one thread each, for as long as somebody holds this.
#[derive(Clone)]
pub(crate) struct Driver(Arc<Threads>);

struct Threads {
    handles: (Handle, Vec<Handle>),
    next: AtomicUsize,
    _stop: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let (first, stop) = start(0)?;
        let (mut others, mut stops) = (Vec::new(), vec![stop]);
        for number in 1..(cores / 2).min(MOST_THREADS) {
            let (handle, stop) = start(number)?;
            others.push(handle);
            stops.push(stop);
        }
        Ok(Self(Arc::new(Threads {
            handles: (first, others),
            next: AtomicUsize::new(0),
            _stop: stops,
        })))
    }

    /// The thread of the next connection.
    pub(crate) fn next(&self) -> Handle {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (first, others) = &self.0.handles;
        match number % (others.len() + 1) {
            0 => first.clone(),
            other => others.get(other - 1).unwrap_or(first).clone(),
        }
    }
}

/// The tasks of a transport, for whoever looks for leaks.
#[derive(Clone)]
pub struct Tasks(Vec<Handle>);

impl Tasks {
    pub(crate) fn of(driver: &Driver) -> Self {
        let (first, others) = &driver.0.handles;
        Self(std::iter::once(first).chain(others).cloned().collect())
    }

    /// How many there are.
    pub fn number(&self) -> usize {
        let alive = |handle: &Handle| handle.metrics().num_alive_tasks();
        self.0.iter().map(alive).sum()
    }
}
