//! A data channel of the browser.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, closure::Closure};
use web_sys::{
    Event, MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType, js_sys,
};

use crate::channel::Channel;

/// Bytes that the browser may hold for sending.
const SENDING: u32 = 128 * 1024;
/// It tells when it holds no more than so many.
const SENDING_LOW: u32 = 64 * 1024;
/// Bytes that may wait to be read. A sender that keeps to the credit it is given stays far below; one
/// that knows no credit cannot be held back, and the stream ends.
const RECEIVED: usize = 16 * 1024 * 1024;

#[derive(Default)]
struct State {
    messages: VecDeque<Bytes>,
    waiting: usize,
    overrun: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }
}

type Handler<E> = Closure<dyn FnMut(E)>;

/// One data channel and its event handlers, which go with it.
pub struct BrowserChannel {
    channel: RtcDataChannel,
    state: Rc<RefCell<State>>,
    window: u64,
    _message: Handler<MessageEvent>,
    _event: Handler<Event>,
}

impl BrowserChannel {
    /// A channel of which `window` bytes may be on their way here.
    pub(super) fn new(channel: RtcDataChannel, window: u64) -> Self {
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(SENDING_LOW);
        let state = Rc::new(RefCell::new(State::default()));
        let message = Closure::<dyn FnMut(MessageEvent)>::new({
            let (state, channel) = (state.clone(), channel.clone());
            move |event: MessageEvent| {
                let data = js_sys::Uint8Array::new(&event.data()).to_vec();
                let mut state = state.borrow_mut();
                state.waiting += data.len();
                if state.waiting > RECEIVED {
                    state.overrun = true;
                    state.messages.clear();
                    channel.close();
                } else {
                    state.messages.push_back(data.into());
                }
                state.wake();
            }
        });
        let event = Closure::<dyn FnMut(Event)>::new({
            let state = state.clone();
            move |_: Event| state.borrow_mut().wake()
        });
        channel.set_onmessage(Some(message.as_ref().unchecked_ref()));
        let handler = Some(event.as_ref().unchecked_ref());
        channel.set_onopen(handler);
        channel.set_onclose(handler);
        channel.set_onerror(handler);
        channel.set_onbufferedamountlow(handler);
        Self {
            channel,
            state,
            window,
            _message: message,
            _event: event,
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the data channel is closed")
}

impl Channel for SendWrapper<BrowserChannel> {
    fn window(&self) -> Option<u64> {
        Some(self.window)
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let mut state = self.state.borrow_mut();
        if state.overrun {
            let why = "the other side sent more than can be held, and knows no credit";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, why)));
        }
        if let Some(message) = state.messages.pop_front() {
            state.waiting -= message.len();
            return Poll::Ready(Ok(Some(message)));
        }
        if self.channel.ready_state() == RtcDataChannelState::Closed {
            return Poll::Ready(Ok(None));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.channel.ready_state() {
            RtcDataChannelState::Open if self.channel.buffered_amount() < SENDING => {
                return Poll::Ready(Ok(()));
            }
            RtcDataChannelState::Closing | RtcDataChannelState::Closed => {
                return Poll::Ready(Err(closed()));
            }
            _ => {}
        }
        self.state.borrow_mut().writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, message: Bytes) -> io::Result<()> {
        self.channel
            .send_with_u8_array(&message)
            .map_err(|_| closed())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The browser sends what it holds, also after the channel is closed.
        Poll::Ready(Ok(()))
    }

    fn close(&mut self) {
        self.channel.close();
    }

    type Runtime = ();

    fn runtime(&self) {}

    fn finish((): (), work: impl Future<Output = ()> + 'static) {
        wasm_bindgen_futures::spawn_local(work);
    }
}

impl Drop for BrowserChannel {
    fn drop(&mut self) {
        // An event after this would call what is gone.
        self.channel.set_onmessage(None);
        self.channel.set_onopen(None);
        self.channel.set_onclose(None);
        self.channel.set_onerror(None);
        self.channel.set_onbufferedamountlow(None);
        self.channel.close();
    }
}
