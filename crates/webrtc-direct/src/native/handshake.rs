//! From a link to a connection whose other side is known: DTLS, SCTP, Noise.

use std::{net::SocketAddr, sync::Arc};

use dtls::{
    config::{ClientAuthType, Config as DtlsConfig},
    conn::DTLSConn,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_webrtc_utils::{Fingerprint, noise};
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};
use webrtc_data::data_channel::{Config as ChannelConfig, DataChannel};
use webrtc_sctp::{
    association::{Association, Config as SctpConfig},
    chunk::chunk_payload_data::PayloadProtocolIdentifier,
};

use super::{
    certificate::Certificate,
    channel::{Counted, SctpChannel},
    connection::Connection,
    dial,
    driver::Driver,
    guard::Guarded,
    limits::{Counts, Limits},
    link::Link,
};
use crate::{channel::MAX_MESSAGE, credentials::Version, failure::Failure, stream::Stream};

/// Port of the association, on both sides (the specification's `a=sctp-port`).
const SCTP_PORT: u16 = 5000;

/// How a link comes to be.
pub(crate) enum Way {
    /// It did, at a listener: this is the server.
    Arrived(Arc<Link>),
    /// It is dialled: this is the client.
    Dial {
        at: SocketAddr,
        version: Version,
        /// What the address names.
        server: Fingerprint,
    },
}

/// What a handshake needs of its owner.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) keypair: Keypair,
    pub(crate) certificate: Certificate,
    pub(crate) limits: Limits,
    pub(crate) counts: Arc<Counts>,
    pub(crate) driver: Driver,
}

/// Ends a link that nobody waits for any more.
struct EndWithUs(Arc<Link>);

impl Drop for EndWithUs {
    fn drop(&mut self) {
        if !self.0.is_established() {
            self.0.end(Failure::Closed);
        }
    }
}

struct AbortWithUs(AbortHandle);

impl Drop for AbortWithUs {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Does all of it, within the time there is for it, on one of the driver's threads.
pub(crate) async fn upgrade(way: Way, identity: Identity) -> Result<(PeerId, Connection), Failure> {
    let runtime = identity.driver.next();
    let counts = identity.counts.clone();
    let task = runtime.spawn(run(way, identity, runtime.clone()));
    let _abort = AbortWithUs(task.abort_handle());
    let result = task
        .await
        .unwrap_or_else(|error| Err(Failure::System(error.to_string())));
    match &result {
        Ok(_) => Counts::add(&counts.established),
        Err(why) => counts.failed(why),
    }
    result
}

async fn run(
    way: Way,
    identity: Identity,
    runtime: Handle,
) -> Result<(PeerId, Connection), Failure> {
    let time = identity.limits.handshake_time;
    let (link, server) = match way {
        Way::Arrived(link) => (link, None),
        Way::Dial {
            at,
            version,
            server,
        } => (
            dial::reach(at, version, identity.limits.silence).await?,
            Some(server),
        ),
    };
    let _end = EndWithUs(link.clone());
    let result = tokio::select! {
        result = timeout(time, steps(link.clone(), server, identity, runtime)) => {
            result.unwrap_or(Err(Failure::HandshakeTimedOut))
        }
        why = link.ended() => Err(why),
    };
    match &result {
        Ok(_) => link.establish(),
        Err(why) => link.end(why.clone()),
    }
    result
}

fn protocol(error: impl std::fmt::Display) -> Failure {
    Failure::Protocol(error.to_string())
}

async fn steps(
    link: Arc<Link>,
    server: Option<Fingerprint>,
    identity: Identity,
    runtime: Handle,
) -> Result<(PeerId, Connection), Failure> {
    let is_client = server.is_some();
    let config = DtlsConfig {
        certificates: vec![identity.certificate.dtls()],
        client_auth: ClientAuthType::RequireAnyClientCert,
        // Certificates are self-signed: the address names the server's, Noise binds both.
        insecure_skip_verify: true,
        // Browsers offer SRTP whatever the connection is for, and an offer without a match ends DTLS.
        srtp_protection_profiles: vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ],
        ..DtlsConfig::default()
    };
    let dtls = DTLSConn::new(link.clone(), config, is_client, None)
        .await
        .map_err(protocol)?;
    let shown = dtls.connection_state().await.peer_certificates;
    let shown = shown
        .first()
        .map(|der| Fingerprint::from_certificate(der))
        .ok_or_else(|| Failure::Protocol("no certificate was shown".to_owned()))?;
    if server.is_some_and(|server| server != shown) {
        let _ = dtls.close().await;
        return Err(Failure::WrongCertificate);
    }
    let association = Association::client(SctpConfig {
        net_conn: Arc::new(Guarded(Arc::new(dtls))),
        max_receive_buffer_size: identity.limits.bytes_per_connection,
        max_message_size: MAX_MESSAGE as u32,
        mtu: 0,
        name: String::new(),
        local_port: SCTP_PORT,
        remote_port: SCTP_PORT,
    })
    .await
    .map_err(protocol)?;
    let association = Arc::new(association);
    let connection = Connection::new(
        association.clone(),
        link,
        &identity,
        is_client,
        runtime.clone(),
    );
    let channel = association
        .open_stream(0, PayloadProtocolIdentifier::Binary)
        .await
        .map_err(protocol)?;
    let channel = DataChannel::client(
        channel,
        ChannelConfig {
            negotiated: true,
            ..ChannelConfig::default()
        },
    )
    .await
    .map_err(protocol)?;
    let counted = Counted::new(identity.counts.clone(), connection.streams());
    let stream = Stream::new(SctpChannel::new(channel, counted, runtime));
    let own = identity.certificate.fingerprint();
    let peer = if is_client {
        noise::outbound(identity.keypair, stream, shown, own).await
    } else {
        noise::inbound(identity.keypair, stream, shown, own).await
    }
    .map_err(|e| Failure::NotAuthentic(e.to_string()))?;
    Ok((peer, connection))
}
