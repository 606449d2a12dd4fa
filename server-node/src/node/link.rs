//! Talking to the other servers of the mesh: one request, one answer, authenticated by node key.

use std::{sync::Arc, time::Duration};

use defim_net::{Frame, native::Endpoint};
use defim_protocol::{
    NodeId,
    wire::{self, Request, Response, protocol},
};

use crate::config::{Directory, Peer};

/// Kind of the frame that carries a [`Request`].
pub const REQUEST: u8 = 1;
/// Kind of the frame that carries a [`Response`].
pub const RESPONSE: u8 = 2;
const DEADLINE: Duration = Duration::from_secs(60);

/// This node's connections to the other servers.
#[derive(Clone)]
pub struct Link {
    endpoint: Endpoint,
    peers: Arc<Directory>,
}

impl Link {
    /// Use this endpoint to reach these peers.
    pub fn new(endpoint: Endpoint, peers: Directory) -> Self {
        Self {
            endpoint,
            peers: Arc::new(peers),
        }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The peer with this key.
    pub fn peer(&self, node: &NodeId) -> Option<&Peer> {
        self.peers.get(node)
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.values()
    }

    /// Ask another server.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words.
    pub async fn ask(&self, node: &NodeId, request: &Request) -> Result<Response, String> {
        self.ask_within(node, request, DEADLINE).await
    }

    /// Ask another server and wait only this long.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words.
    pub async fn ask_within(
        &self,
        node: &NodeId,
        request: &Request,
        deadline: Duration,
    ) -> Result<Response, String> {
        let peer = self
            .peers
            .get(node)
            .ok_or_else(|| format!("node {node} is not in this node's configuration"))?;
        let payload = wire::encode(request).map_err(|e| e.to_string())?;
        let answer = self
            .endpoint
            .request(
                node.0,
                &peer.addresses,
                protocol::SERVER,
                Frame {
                    kind: REQUEST,
                    payload,
                },
                deadline,
            )
            .await
            .map_err(|e| format!("{} does not answer: {e}", peer.name))?;
        if answer.kind != RESPONSE {
            return Err(format!("{} gave an answer of an unknown kind", peer.name));
        }
        wire::decode(&answer.payload).map_err(|e| format!("{}: {e}", peer.name))
    }
}
