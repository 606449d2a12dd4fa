//! From a link to a connection whose other side is known: DTLS, SCTP, Noise.

use std::sync::Arc;

use dtls::{
    config::{ClientAuthType, Config as DtlsConfig},
    conn::DTLSConn,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_webrtc_utils::{Fingerprint, noise};
use webrtc_data::data_channel::{Config as ChannelConfig, DataChannel};
use webrtc_sctp::{
    association::{Association, Config as SctpConfig},
    chunk::chunk_payload_data::PayloadProtocolIdentifier,
};

use super::{
    certificate::Certificate,
    channel::{Counted, SctpChannel},
    connection::Connection,
    limits::{Counts, Limits},
    link::Link,
};
use crate::{channel::MAX_MESSAGE, failure::Failure, stream::Stream};

/// Port of the association, on both sides (the specification's `a=sctp-port`).
const SCTP_PORT: u16 = 5000;

/// Which side this is.
pub(crate) enum Side {
    Server,
    Client {
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
}

/// Does all of it, within the time there is for it.
pub(crate) async fn upgrade(
    link: Arc<Link>,
    side: Side,
    identity: Identity,
) -> Result<(PeerId, Connection), Failure> {
    let counts = identity.counts.clone();
    let time = identity.limits.handshake_time;
    let result = tokio::select! {
        result = tokio::time::timeout(time, steps(link.clone(), side, identity)) => {
            result.unwrap_or(Err(Failure::HandshakeTimedOut))
        }
        why = link.ended() => Err(why),
    };
    match &result {
        Ok(_) => {
            link.establish();
            Counts::add(&counts.established);
        }
        Err(why) => {
            counts.failed(why);
            link.end(why.clone());
        }
    }
    result
}

fn protocol(error: impl std::fmt::Display) -> Failure {
    Failure::Protocol(error.to_string())
}

async fn steps(
    link: Arc<Link>,
    side: Side,
    identity: Identity,
) -> Result<(PeerId, Connection), Failure> {
    let is_client = matches!(side, Side::Client { .. });
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
    if let Side::Client { server } = side
        && shown != server
    {
        let _ = dtls.close().await;
        return Err(Failure::WrongCertificate);
    }
    let association = Association::client(SctpConfig {
        net_conn: Arc::new(dtls),
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
    let connection = Connection::new(association.clone(), link, &identity, is_client);
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
    let stream = Stream::new(SctpChannel::new(channel, counted));
    let own = identity.certificate.fingerprint();
    let peer = if is_client {
        noise::outbound(identity.keypair, stream, shown, own).await
    } else {
        noise::inbound(identity.keypair, stream, shown, own).await
    }
    .map_err(|e| Failure::NotAuthentic(e.to_string()))?;
    Ok((peer, connection))
}
