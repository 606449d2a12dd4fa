//! The libp2p transport of a page.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use futures_timer::Delay;
use libp2p_core::{
    Multiaddr,
    transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_webrtc_utils::{Fingerprint, noise, parse_webrtc_dial_addr};
use send_wrapper::SendWrapper;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RtcDataChannelInit, RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit, js_sys::Reflect,
};

use super::{
    channel::BrowserChannel,
    connection::{Connection, LEAST_WINDOW, Peer},
};
use crate::{Failure, credentials::Credentials, sdp::Offer, stream::Stream};

/// WebRTC-direct version 2 from a page. It dials and cannot listen.
pub struct Transport {
    keypair: Keypair,
    time: Duration,
}

/// How long a dial may take if nothing else is said.
const DIAL: Duration = Duration::from_secs(10);

impl Transport {
    /// A transport for the holder of `keypair`.
    pub fn new(keypair: Keypair) -> Self {
        let time = DIAL;
        Self { keypair, time }
    }

    /// Gives up a dial after this time.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.time = time;
        self
    }
}

impl libp2p_core::Transport for Transport {
    type Output = (PeerId, Connection);
    type Error = Failure;
    type ListenerUpgrade = std::future::Pending<Result<Self::Output, Failure>>;
    type Dial = BoxFuture<'static, Result<Self::Output, Failure>>;

    fn listen_on(
        &mut self,
        _: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Failure>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Failure>> {
        let Some((at, server)) = parse_webrtc_dial_addr(&address)
            .filter(|(at, _)| at.port() != 0 && !at.ip().is_unspecified())
            .filter(|_| !options.role.is_listener())
        else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        Ok(SendWrapper::new(dial(at, server, self.keypair.clone(), self.time)).boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Failure>> {
        Poll::Pending
    }
}

fn refused(error: &JsValue) -> Failure {
    let text = error.dyn_ref::<web_sys::js_sys::Error>().map_or_else(
        || format!("{error:?}"),
        |error| String::from(error.to_string()),
    );
    Failure::RefusedByBrowser(text)
}

async fn dial(
    at: SocketAddr,
    server: Fingerprint,
    keypair: Keypair,
    time: Duration,
) -> Result<(PeerId, Connection), Failure> {
    let global = web_sys::js_sys::global();
    if !Reflect::has(&global, &"RTCPeerConnection".into()).unwrap_or(false) {
        return Err(Failure::NoWebRtc);
    }
    let peer = Peer::new(RtcPeerConnection::new().map_err(|e| refused(&e))?);
    let connection = &peer.connection;
    // The handshake's channel, before the offer, so that the offer has an association in it.
    let options = RtcDataChannelInit::new();
    options.set_negotiated(true);
    options.set_id(0);
    let channel = connection.create_data_channel_with_data_channel_dict("", &options);
    let stream = Stream::new(SendWrapper::new(BrowserChannel::new(channel, LEAST_WINDOW)));

    let offer = JsFuture::from(connection.create_offer())
        .await
        .map_err(|e| refused(&e))?;
    // The browser's own words, unchanged.
    JsFuture::from(connection.set_local_description(offer.unchecked_ref()))
        .await
        .map_err(|e| refused(&e))?;
    let offer = connection
        .local_description()
        .ok_or_else(|| Failure::RefusedByBrowser("it keeps its offer to itself".to_owned()))?
        .sdp();
    let offer = Offer::read(&offer)?;
    let credentials = Credentials::v2(offer.ufrag, offer.password)
        .map_err(|e| Failure::RefusedByBrowser(format!("its offer cannot be used: {e}")))?;
    let client = Fingerprint::raw(offer.fingerprint);
    let answer = RtcSessionDescriptionInit::new(RtcSdpType::Answer);
    answer.set_sdp(&offer.answer(at, server, &credentials));
    JsFuture::from(connection.set_remote_description(&answer))
        .await
        .map_err(|e| refused(&e))?;

    let handshake = pin!(noise::outbound(keypair, stream, server, client));
    let gone = pin!(poll_fn(|cx| peer.poll_end(cx)));
    let end = pin!(select(gone, Delay::new(time)));
    match select(handshake, end).await {
        Either::Left((Ok(id), _)) => Ok((id, Connection::new(peer).await)),
        Either::Left((Err(error), _)) => Err(Failure::NotAuthentic(error.to_string())),
        // The way was there and DTLS failed on it: what it checks is the certificate.
        Either::Right((Either::Left((Failure::PeerGone, _)), _)) => Err(Failure::WrongCertificate),
        Either::Right((Either::Left((why, _)), _)) => Err(why),
        Either::Right((Either::Right(_), _)) if peer.reached() => Err(Failure::HandshakeTimedOut),
        Either::Right((Either::Right(_), _)) if !peer.tries() => {
            let why = format!("it sends nothing to {at}; Firefox, for one, leaves out loopback");
            Err(Failure::RefusedByBrowser(why))
        }
        Either::Right((Either::Right(_), _)) => Err(Failure::NoAnswer),
    }
}
