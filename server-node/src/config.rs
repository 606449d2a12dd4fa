//! Node configuration files and the secrets beside them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use defim_protocol::{NodeId, report::HpkeConfig};
use rand::RngCore as _;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Holds shares.
    Full,
    /// Adds sums.
    Aggregation,
    /// Agrees on the ledger's blocks.
    Validation,
}

impl Role {
    /// As configurations have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Aggregation => "aggregation",
            Self::Validation => "validation",
        }
    }
}

/// One node, run with `defim node run`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Folder for its key and store; relative to the configuration file.
    pub data: PathBuf,
    /// HTTP: pages and API, or DAP uploads.
    pub http: SocketAddr,
    /// QUIC between servers and from native light nodes (UDP); not for validation nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<SocketAddr>,
    /// TCP where QUIC does not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<SocketAddr>,
    /// WebRTC-direct from browsers (UDP); full nodes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webrtc: Option<SocketAddr>,
    /// Where it talks to the other validators (TCP); validation nodes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validators: Option<SocketAddr>,
    /// The ledger's genesis, relative to the configuration file; without it there is no ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// An admin's key, relative to the configuration file: with it the aggregation node enrols the mesh's nodes and creates its
    /// tasks on the ledger by itself. For meshes that one operator runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_key: Option<PathBuf>,
    /// Rows (CSV) of this node's own company, relative to the configuration file: each round of each task that they
    /// fit they are contributed, as anybody's are; full nodes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silo: Option<PathBuf>,
    /// Folder with the built pages; aggregation node only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub web: Option<PathBuf>,
    /// Tasks to create at the first start; aggregation node only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<crate::node::task::TaskRequest>,
    /// The other nodes of the mesh. Only these may talk to this node as servers.
    #[serde(default)]
    pub peers: Vec<Peer>,
}

/// Another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its key.
    pub node: NodeId,
    /// Its sealing key; full nodes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hpke: Option<HpkeConfig>,
    /// Base address of its HTTP side.
    pub http: String,
    /// QUIC and TCP multiaddresses.
    pub addresses: Vec<String>,
}

impl NodeConfig {
    /// Read a configuration file.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] with the line that is wrong.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Failure::Input(format!(
                "the configuration {} cannot be read: {e}",
                path.display()
            ))
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|e| {
            Failure::Input(format!(
                "the configuration {} is wrong: {e}",
                path.display()
            ))
        })?;
        if config.data.is_relative()
            && let Some(folder) = path.parent()
        {
            config.data = folder.join(&config.data);
        }
        if let Some(folder) = path.parent() {
            let files = [&mut config.silo, &mut config.genesis, &mut config.admin_key];
            for file in files.into_iter().flatten() {
                *file = folder.join(&*file);
            }
        }
        if config.role == Role::Validation
            && (config.validators.is_none() || config.genesis.is_none())
        {
            return Err(Failure::Input(format!(
                "the configuration {} is wrong: a validation node needs \"validators\", an address, and \"genesis\", a file",
                path.display()
            )));
        }
        if config.silo.is_some() && config.role != Role::Full {
            return Err(Failure::Input(format!(
                "the configuration {} is wrong: only a full node has a silo",
                path.display()
            )));
        }
        Ok(config)
    }
}

/// Peers by key.
pub type Directory = BTreeMap<NodeId, Peer>;

/// A node's seed, made at the first start and kept in its folder, readable by its owner only.
///
/// # Errors
///
/// [`Failure`] if the folder cannot be used or the file is damaged.
pub fn load_or_make_seed(folder: &Path) -> Outcome<[u8; 32]> {
    load_or_make_key(&folder.join("node.key"))
}

/// A key's seed, made if its file is missing, readable by its owner only.
///
/// # Errors
///
/// [`Failure`] if the file cannot be used or is damaged; a file that is there is never written over.
pub fn load_or_make_key(path: &Path) -> Outcome<[u8; 32]> {
    match std::fs::read_to_string(path) {
        Ok(text) => hex::decode(text.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                Failure::Input(format!(
                    "{} is not a node key (64 hex digits); restore it from a backup, a new key is a new node",
                    path.display()
                ))
            }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            rand::rng().fill_bytes(&mut seed);
            write_secret(path, &hex::encode(seed))?;
            Ok(seed)
        }
        Err(error) => Err(Failure::Input(format!(
            "the key {} cannot be read: {error}; check the file and its rights",
            path.display()
        ))),
    }
}

/// A random token, made at the first start and kept in the folder.
///
/// # Errors
///
/// [`Failure`] if the folder cannot be used.
pub fn load_or_make_token(folder: &Path) -> Outcome<String> {
    let path = folder.join("admin.token");
    if path.exists() {
        return read_token(&path);
    }
    let mut bytes = [0; 24];
    rand::rng().fill_bytes(&mut bytes);
    let token = hex::encode(bytes);
    write_secret(&path, &token)?;
    Ok(token)
}

/// Shortest admin token: who guesses it may create and pause tasks.
const TOKEN_CHARS: usize = 32;

/// The admin token in a file.
///
/// # Errors
///
/// [`Failure::Input`] if there is none that nobody can guess.
pub fn read_token(path: &Path) -> Outcome<String> {
    let place = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| {
        Failure::Input(format!(
            "the admin token {place} cannot be read: {e}; it is in the mesh's data folder"
        ))
    })?;
    let token = text.trim();
    if token.len() < TOKEN_CHARS || !token.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(Failure::Input(format!(
            "{place} holds no admin token: that has at least {TOKEN_CHARS} letters and digits; delete the mesh's own, and a new one is made at its next start"
        )));
    }
    Ok(token.to_owned())
}

/// Write a file that only its owner may read.
///
/// # Errors
///
/// [`Failure::Other`] naming the file.
pub fn write_secret(path: &Path, text: &str) -> Outcome {
    let failed = |e: std::io::Error| {
        Failure::Other(format!(
            "{} cannot be written: {e}; check the folder's rights and free space",
            path.display()
        ))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)
}
