//! Starting a node: its key, endpoint and role.

use std::path::Path;

use defim_full::Secrets;
use defim_net::native::{Endpoint, EndpointConfig};
use defim_protocol::{NodeId, NodeKey};

use super::{Link, aggregation::AggregationNode, full::FullNode, serve};
use crate::{
    config::{Directory, NodeConfig, Peer, load_or_make_seed, write_secret},
    failure::{Failure, Outcome},
};

/// A node that listens and has no role yet.
pub struct Listening {
    config: NodeConfig,
    seed: [u8; 32],
    endpoint: Endpoint,
}

impl Listening {
    /// Make or load the node's key and listen.
    ///
    /// # Errors
    ///
    /// [`Failure`] if a port is taken or the folder cannot be used.
    pub async fn start(config: NodeConfig) -> Outcome<Self> {
        let seed = load_or_make_seed(&config.data)?;
        let pem_path = config.data.join("webrtc.pem");
        let endpoint = Endpoint::start(EndpointConfig {
            identity_seed: seed,
            quic: config.quic,
            tcp: config.tcp,
            webrtc: config.webrtc,
            webrtc_certificate_pem: std::fs::read_to_string(&pem_path).ok(),
            ..EndpointConfig::default()
        })
        .await
        .map_err(|e| Failure::Other(format!("{} cannot start: {e}", config.name)))?;
        // Part of the node's address: it must be the same after a restart.
        if let Some(pem) = endpoint.webrtc_certificate_pem()
            && !pem_path.exists()
        {
            write_secret(&pem_path, pem)?;
        }
        Ok(Self {
            config,
            seed,
            endpoint,
        })
    }

    /// How others see this node; `http` is the base address of its HTTP side.
    pub fn peer(&self, http: String) -> Peer {
        // WebRTC is for browsers; between servers it would only be a slower way.
        let addresses = self
            .endpoint
            .addresses()
            .iter()
            .filter(|text| !text.contains("/webrtc"))
            .cloned()
            .collect();
        peer_of(&self.config, &self.seed, http, addresses)
    }

    /// Take up the role of a full node.
    ///
    /// # Errors
    ///
    /// [`Failure`] if its store cannot be opened.
    pub async fn full(self, peers: Directory) -> Outcome<(FullNode, Endpoint)> {
        let link = Link::new(self.endpoint.clone(), peers.clone());
        let node = FullNode::start(
            self.config.name,
            &self.config.data,
            Secrets::from_seed(self.seed),
            link,
            self.config.silo,
        )
        .await?;
        let answering = node.clone();
        serve::serve_requests(
            &self.endpoint,
            move |from| peers.contains_key(from),
            move |from, request| {
                let node = answering.clone();
                async move { node.answer(from, request).await }
            },
        )?;
        serve::serve_uploads(&self.endpoint, node.clone())?;
        serve::serve_questions(&self.endpoint, node.clone())?;
        Ok((node, self.endpoint))
    }

    /// Take up the role of the aggregation node.
    ///
    /// # Errors
    ///
    /// [`Failure`] if its store cannot be opened.
    pub async fn aggregation(self, peers: Directory, on_ledger: bool) -> Outcome<AggregationNode> {
        let link = Link::new(self.endpoint.clone(), peers.clone());
        let node = AggregationNode::start(
            self.config.name,
            &self.config.data,
            NodeKey::from_seed(self.seed),
            link,
            on_ledger,
        )
        .await?;
        let answering = node.clone();
        serve::serve_requests(
            &self.endpoint,
            move |from| peers.contains_key(from),
            move |from, request| {
                let node = answering.clone();
                async move { node.answer(from, request).await }
            },
        )?;
        Ok(node)
    }
}

/// How others see a node with this configuration and seed.
pub fn peer_of(config: &NodeConfig, seed: &[u8; 32], http: String, addresses: Vec<String>) -> Peer {
    let secrets = Secrets::from_seed(*seed);
    let full = config.role == crate::config::Role::Full;
    Peer {
        name: config.name.clone(),
        role: config.role,
        node: secrets.node.id(),
        hpke: full.then(|| secrets.sealing.config()),
        http,
        addresses,
    }
}

/// Peers by key.
pub fn directory(peers: impl IntoIterator<Item = Peer>) -> Directory {
    peers
        .into_iter()
        .map(|peer| (peer.node, peer))
        .collect::<std::collections::BTreeMap<NodeId, Peer>>()
}

/// Make the folder of a node.
///
/// # Errors
///
/// [`Failure::Input`] if it cannot be made.
pub fn make_folder(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).map_err(|e| {
        Failure::Input(format!(
            "the folder {} cannot be made: {e}",
            folder.display()
        ))
    })
}
