//! The session descriptions of a dial: what is read from the browser's offer, and the answer that the
//! server would give.

use std::net::SocketAddr;

use libp2p_webrtc_utils::Fingerprint;

use crate::{Failure, credentials::Credentials};

/// What a browser's offer says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer<'a> {
    pub(super) ufrag: &'a str,
    pub(super) password: &'a str,
    pub(super) fingerprint: [u8; 32],
    mid: &'a str,
}

impl<'a> Offer<'a> {
    /// Reads the first value of each attribute: there is one media section.
    pub(super) fn read(sdp: &'a str) -> Result<Self, Failure> {
        let value = |name: &str| {
            sdp.lines()
                .find_map(|line| line.trim_end().strip_prefix(name))
                .ok_or_else(|| Failure::RefusedByBrowser(format!("its offer has no {name}")))
        };
        let fingerprint = value("a=fingerprint:sha-256 ")
            .or_else(|_| value("a=fingerprint:SHA-256 "))
            .and_then(|hex| {
                digest(hex).ok_or_else(|| {
                    Failure::RefusedByBrowser("its offer has no SHA-256 fingerprint".to_owned())
                })
            })?;
        Ok(Self {
            ufrag: value("a=ice-ufrag:")?,
            password: value("a=ice-pwd:")?,
            fingerprint,
            mid: value("a=mid:")?,
        })
    }

    /// The answer of the server at `at`: it is reachable there only, and shows this certificate.
    pub(super) fn answer(
        &self,
        at: SocketAddr,
        server: Fingerprint,
        credentials: &Credentials,
    ) -> String {
        let (ip, port) = (at.ip(), at.port());
        let version = if at.is_ipv4() { "IP4" } else { "IP6" };
        let (mid, ufrag) = (self.mid, credentials.server());
        let fingerprint = server.to_sdp_format();
        [
            "v=0",
            &format!("o=- 0 0 IN {version} {ip}"),
            "s=-",
            "t=0 0",
            "a=ice-lite",
            &format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"),
            &format!("c=IN {version} {ip}"),
            &format!("a=mid:{mid}"),
            "a=ice-options:ice2",
            &format!("a=ice-ufrag:{ufrag}"),
            &format!("a=ice-pwd:{ufrag}"),
            &format!("a=fingerprint:sha-256 {fingerprint}"),
            "a=setup:passive",
            "a=sctp-port:5000",
            "a=max-message-size:16384",
            &format!("a=candidate:1 1 UDP 1 {ip} {port} typ host"),
            "a=end-of-candidates",
            "",
        ]
        .join("\r\n")
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let mut parts = hex.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}
