//! A data channel, natively and in a browser: whole messages in, whole messages out.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

/// Longest message on a data channel, in bytes (WebRTC-direct, "Multiplexing").
pub const MAX_MESSAGE: usize = 16 * 1024;

/// What has to be sendable between threads, where there are threads.
#[cfg(not(target_arch = "wasm32"))]
pub trait MaybeSend: Send {}
#[cfg(not(target_arch = "wasm32"))]
impl<T: Send> MaybeSend for T {}
#[cfg(target_arch = "wasm32")]
pub trait MaybeSend {}
#[cfg(target_arch = "wasm32")]
impl<T> MaybeSend for T {}

/// A data channel.
pub trait Channel: Unpin + MaybeSend + 'static {
    /// How much may be on the way to its reader, in bytes, where nothing else holds back the sender.
    fn window(&self) -> Option<u64>;

    /// The next message; `None` once the other side has closed the channel and all is read.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>>;

    /// Ready when there is room for one more message.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends a message of at most [`MAX_MESSAGE`] bytes, after [`Channel::poll_ready`].
    fn send(&mut self, message: Bytes) -> io::Result<()>;

    /// Ready when everything is handed over.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes both directions; what was sent before arrives.
    fn close(&mut self);

    /// What runs the rest of a stream's work after it was dropped.
    type Runtime;

    /// Of this channel.
    fn runtime(&self) -> Self::Runtime;

    /// Does that work.
    fn finish(runtime: Self::Runtime, work: impl Future<Output = ()> + MaybeSend + 'static);
}
