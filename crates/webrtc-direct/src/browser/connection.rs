//! A connection of the browser: its streams are data channels.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, closure::Closure};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Event, RtcDataChannel, RtcDataChannelEvent, RtcIceConnectionState, RtcPeerConnection,
    RtcPeerConnectionState,
    js_sys::{Function, Map, Reflect},
};

use super::channel::BrowserChannel;
use crate::{Failure, stream::Stream};

/// A browser's socket holds some fifty packets. More at once, which only happens where the node is near,
/// are lost in bursts, and each costs the stream a second.
pub(super) const LEAST_WINDOW: u64 = 48 * 1024;
const MOST_WINDOW: u64 = 1024 * 1024;
/// Between the two the window is what this rate, in bytes a second, has on the way in a round trip,
const RATE: f64 = 20e6;
/// of so many seconds where the browser does not tell.
const ROUND_TRIP: f64 = 0.01;
/// Streams of the other side that may wait to be taken.
const INCOMING: usize = 64;

#[derive(Default)]
struct State {
    incoming: VecDeque<RtcDataChannel>,
    /// ICE found its way: from then on a failure is not the network's.
    reached: bool,
    wakers: Vec<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn sleep(&mut self, cx: &Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

/// The browser's connection object with its event handlers; it is closed when this is dropped.
pub(super) struct Peer {
    pub(super) connection: RtcPeerConnection,
    state: Rc<RefCell<State>>,
    _channel: Closure<dyn FnMut(RtcDataChannelEvent)>,
    _event: Closure<dyn FnMut(Event)>,
}

impl Peer {
    pub(super) fn new(connection: RtcPeerConnection) -> Self {
        let state = Rc::new(RefCell::new(State::default()));
        let channel = Closure::<dyn FnMut(RtcDataChannelEvent)>::new({
            let state = state.clone();
            move |event: RtcDataChannelEvent| {
                let mut state = state.borrow_mut();
                if state.incoming.len() < INCOMING {
                    state.incoming.push_back(event.channel());
                } else {
                    event.channel().close();
                }
                state.wake();
            }
        });
        let event = Closure::<dyn FnMut(Event)>::new({
            let (state, connection) = (state.clone(), connection.clone());
            move |_: Event| {
                let mut state = state.borrow_mut();
                state.reached |= matches!(
                    connection.ice_connection_state(),
                    RtcIceConnectionState::Connected | RtcIceConnectionState::Completed
                );
                state.wake();
            }
        });
        connection.set_ondatachannel(Some(channel.as_ref().unchecked_ref()));
        let handler = Some(event.as_ref().unchecked_ref());
        connection.set_oniceconnectionstatechange(handler);
        connection.set_onconnectionstatechange(handler);
        Self {
            connection,
            state,
            _channel: channel,
            _event: event,
        }
    }

    /// Waits until the connection is there no more, and says why.
    pub(super) fn poll_end(&self, cx: &Context<'_>) -> Poll<Failure> {
        let mut state = self.state.borrow_mut();
        match self.connection.connection_state() {
            RtcPeerConnectionState::Failed if !state.reached => Poll::Ready(Failure::NoAnswer),
            RtcPeerConnectionState::Failed => Poll::Ready(Failure::PeerGone),
            RtcPeerConnectionState::Closed => Poll::Ready(Failure::Closed),
            _ => {
                state.sleep(cx);
                Poll::Pending
            }
        }
    }

    /// A new channel. It is refused where the association has ended, of which no event tells.
    fn open(&self) -> Result<RtcDataChannel, Failure> {
        Reflect::get(&self.connection, &"createDataChannel".into())
            .and_then(|create| create.dyn_into::<Function>())
            .and_then(|create| create.call1(&self.connection, &"".into()))
            .map(wasm_bindgen::JsCast::unchecked_into)
            .map_err(|_| Failure::Closed)
    }

    /// How much may be on its way to the reader of a stream, in bytes.
    pub(super) async fn window(&self) -> u64 {
        let report = JsFuture::from(self.connection.get_stats()).await;
        let mut seconds = None;
        if let Ok(report) = report {
            report.unchecked_ref::<Map>().for_each(&mut |stats, _| {
                let time = Reflect::get(&stats, &"currentRoundTripTime".into());
                seconds = seconds.or(time.ok().and_then(|time| time.as_f64()));
            });
        }
        let fits = (seconds.unwrap_or(ROUND_TRIP) * RATE) as u64;
        fits.clamp(LEAST_WINDOW, MOST_WINDOW)
    }

    /// Whether the browser asks at the node's address at all.
    pub(super) fn tries(&self) -> bool {
        self.connection.ice_connection_state() != RtcIceConnectionState::New
    }

    /// Whether a STUN answer has come.
    pub(super) fn reached(&self) -> bool {
        self.state.borrow().reached
    }

    fn poll_incoming(&self, cx: &Context<'_>) -> Poll<RtcDataChannel> {
        let mut state = self.state.borrow_mut();
        match state.incoming.pop_front() {
            Some(channel) => Poll::Ready(channel),
            None => {
                state.sleep(cx);
                Poll::Pending
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.connection.set_ondatachannel(None);
        self.connection.set_oniceconnectionstatechange(None);
        self.connection.set_onconnectionstatechange(None);
        self.connection.close();
    }
}

/// A connection to a peer.
pub struct Connection {
    peer: SendWrapper<Peer>,
    window: u64,
}

impl Connection {
    pub(super) async fn new(peer: Peer) -> Self {
        let window = peer.window().await;
        let peer = SendWrapper::new(peer);
        Self { peer, window }
    }

    fn stream(&self, channel: RtcDataChannel) -> Stream<SendWrapper<BrowserChannel>> {
        let channel = BrowserChannel::new(channel, self.window);
        Stream::new(SendWrapper::new(channel))
    }
}

impl StreamMuxer for Connection {
    type Substream = Stream<SendWrapper<BrowserChannel>>;
    type Error = Failure;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Failure>> {
        self.peer
            .poll_incoming(cx)
            .map(|channel| Ok(self.stream(channel)))
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Failure>> {
        if let Poll::Ready(why) = self.peer.poll_end(&Context::from_waker(Waker::noop())) {
            return Poll::Ready(Err(why));
        }
        Poll::Ready(self.peer.open().map(|channel| self.stream(channel)))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.peer.connection.close();
        Poll::Ready(Ok(()))
    }

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Failure>> {
        self.peer.poll_end(cx).map(Err)
    }
}
