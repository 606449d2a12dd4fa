//! What failed: one list for pages, logs and metrics.

/// Why there is no connection, or no longer one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Not a WebRTC-direct address, or one that cannot be dialled.
    #[error("{0} is not an address of the form /ip4/…/udp/…/webrtc-direct/certhash/…")]
    BadAddress(String),
    /// This browser, or this context, has no WebRTC.
    #[error("this browser has no WebRTC")]
    NoWebRtc,
    /// The browser does not allow what the connection needs.
    #[error("this browser refused the peer-to-peer connection ({0})")]
    RefusedByBrowser(String),
    /// No STUN answer came.
    #[error("no answer over UDP: it seems blocked on this network, or nobody listens there")]
    NoAnswer,
    /// The other side answered, and shows another certificate than its address names.
    #[error("the node shows another certificate than its address names; its address may be old")]
    WrongCertificate,
    /// The other side could not prove to hold its key, or is not who it was taken for.
    #[error("the node could not prove who it is ({0})")]
    NotAuthentic(String),
    /// The handshake began and did not end in time.
    #[error("the handshake was not finished in time")]
    HandshakeTimedOut,
    /// There were too many handshakes; the oldest ones had to go.
    #[error("the handshake was dropped to make room for others")]
    Crowded,
    /// Nothing was heard of the other side for too long: a page that was closed, a network that is gone.
    #[error("the other side is gone")]
    PeerGone,
    /// The other side closed the connection.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side does not keep to the protocol.
    #[error("the other side does not keep to the protocol ({0})")]
    Protocol(String),
    /// The system refused.
    #[error("{0}")]
    System(String),
}

impl Failure {
    /// A stable word for each kind.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadAddress(_) => "bad-address",
            Self::NoWebRtc => "no-webrtc",
            Self::RefusedByBrowser(_) => "refused-by-browser",
            Self::NoAnswer => "no-answer",
            Self::WrongCertificate => "wrong-certificate",
            Self::NotAuthentic(_) => "not-authentic",
            Self::HandshakeTimedOut => "handshake-timed-out",
            Self::Crowded => "crowded",
            Self::PeerGone => "peer-gone",
            Self::Closed => "closed",
            Self::Protocol(_) => "protocol",
            Self::System(_) => "system",
        }
    }

    /// All codes, for whoever counts them.
    pub const CODES: [&'static str; 12] = [
        "bad-address",
        "no-webrtc",
        "refused-by-browser",
        "no-answer",
        "wrong-certificate",
        "not-authentic",
        "handshake-timed-out",
        "crowded",
        "peer-gone",
        "closed",
        "protocol",
        "system",
    ];
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::System(error.to_string())
    }
}
