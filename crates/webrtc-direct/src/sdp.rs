//! The session descriptions of a dial: what is read from the browser's offer, and the answer that the
//! server would give.

use std::net::SocketAddr;

use libp2p_webrtc_utils::Fingerprint;

use crate::{Failure, credentials::Credentials};

/// What a browser's offer says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Offer<'a> {
    pub(crate) ufrag: &'a str,
    pub(crate) password: &'a str,
    pub(crate) fingerprint: [u8; 32],
    mid: &'a str,
}

impl<'a> Offer<'a> {
    /// Reads the first value of each attribute: there is one media section.
    pub(crate) fn read(sdp: &'a str) -> Result<Self, Failure> {
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
    pub(crate) fn answer(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::fuzz;

    /// What Chromium and Firefox offer, shortened.
    const CHROMIUM: &str = "v=0\r\no=- 2987 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=ice-ufrag:Zk+/\r\na=ice-pwd:Tg0rZcWUK3zlEhNZPyWlqxyG\r\n\
        a=ice-options:trickle\r\na=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:\
        12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:FF\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n\
        a=max-message-size:262144\r\n";
    const FIREFOX: &str = "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 6849 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        a=sendrecv\r\na=fingerprint:sha-256 3A:9C:AF:A6:86:86:B1:8D:8A:2C:E3:1C:4F:C8:41:1E:02:DF:FC:E7:E1:36:\
        6E:25:B3:E9:E2:B3:FA:09:0C:80\r\na=group:BUNDLE 0\r\na=ice-options:trickle\r\na=msid-semantic:WMS *\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=sendrecv\r\n\
        a=ice-pwd:2cd0aea744c8f3b5eaf58322145106df\r\na=ice-ufrag:ba75e310\r\na=mid:0\r\na=setup:actpass\r\n\
        a=sctp-port:5000\r\na=max-message-size:1073741823\r\n";

    fn answer(offer: &Offer<'_>, credentials: &Credentials) -> String {
        let at = "192.0.2.7:9002".parse().unwrap();
        offer.answer(at, Fingerprint::raw([0xAB; 32]), credentials)
    }

    #[test]
    fn offers_of_both_browsers_are_read_and_answered() {
        for (sdp, ufrag, first) in [(CHROMIUM, "Zk+/", 0), (FIREFOX, "ba75e310", 0x3A)] {
            let offer = Offer::read(sdp).unwrap();
            assert_eq!((offer.ufrag, offer.fingerprint[0]), (ufrag, first));
            let credentials = Credentials::v2(offer.ufrag, offer.password).unwrap();
            let answer = answer(&offer, &credentials);
            let password = format!("a=ice-pwd:libp2p+webrtc+v2/{}", offer.password);
            for line in [
                "a=ice-lite",
                "m=application 9002 UDP/DTLS/SCTP webrtc-datachannel",
                "a=mid:0",
                &password,
                &password.replace("pwd", "ufrag"),
                "a=setup:passive",
                "a=candidate:1 1 UDP 1 192.0.2.7 9002 typ host",
            ] {
                assert!(answer.lines().any(|l| l == line), "{line} in\n{answer}");
            }
        }
    }

    #[test]
    fn an_offer_that_lacks_something_is_refused_by_name() {
        for attribute in ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=mid:"] {
            let without = CHROMIUM.replace(attribute, "a=x:");
            let why = Offer::read(&without).unwrap_err().to_string();
            assert!(why.contains(attribute), "{why}");
        }
    }

    #[test]
    fn broken_offers_do_no_harm() {
        let good = [CHROMIUM, FIREFOX].map(|sdp| sdp.as_bytes().to_vec());
        fuzz("SDP", &good, |_, bytes| {
            let text = String::from_utf8_lossy(bytes);
            let Ok(offer) = Offer::read(&text) else {
                return;
            };
            let Ok(credentials) = Credentials::v2(offer.ufrag, offer.password) else {
                return;
            };
            // Nothing of the offer becomes a line of its own.
            assert_eq!(answer(&offer, &credentials).split('\n').count(), 18);
        });
    }
}
