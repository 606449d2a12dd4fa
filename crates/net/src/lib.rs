//! Transports between nodes: libp2p over WebRTC-direct, QUIC and TCP, framing, resumable upload and the HTTPS client.
