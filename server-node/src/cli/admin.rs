//! What admins do on the ledger: they let nodes and light nodes in, and out again.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Who signs, and for which ledger.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
    /// File with an admin's secret key; `defim up` and `defim node init` make one.
    #[arg(long)]
    pub admin_key: PathBuf,
}

/// `defim task invite`.
#[derive(Debug, Args)]
pub struct TaskInvite {
    /// Task name or id.
    pub task: String,
    /// How many light nodes it lets in.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// For how many days.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub days: u16,
    /// Who signs.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `defim task approve` and `defim task revoke`.
#[derive(Debug, Args)]
pub struct TaskKey {
    /// Task name or id.
    pub task: String,
    /// The light node's public key for this task, as its page or `defim contribute` shows it.
    #[arg(allow_hyphen_values = true)]
    pub key: String,
    /// Who signs.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `defim task enrolled`.
#[derive(Debug, Args)]
pub struct TaskEnrolled {
    /// Task name or id.
    pub task: String,
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
}

/// What a server node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Checks reports in committees, encrypts and opens sums.
    Full,
    /// Adds encrypted sums, opens rounds, publishes models.
    Aggregation,
    /// Repeats every public step and agrees on blocks.
    Validation,
}

impl RoleArg {
    /// The same on the ledger.
    pub const fn role(self) -> defim_ledger::Role {
        match self {
            Self::Full => defim_ledger::Role::Full,
            Self::Aggregation => defim_ledger::Role::Aggregation,
            Self::Validation => defim_ledger::Role::Validation,
        }
    }
}

/// `defim node enrol`.
#[derive(Debug, Args)]
pub struct NodeEnrol {
    /// The node's public key in base64url.
    #[arg(allow_hyphen_values = true)]
    pub node: String,
    /// What it does; another role takes another key.
    #[arg(long, value_enum)]
    pub role: RoleArg,
    /// Its name for people.
    #[arg(long)]
    pub name: String,
    /// Where it listens.
    #[arg(long, default_value = "")]
    pub address: String,
    /// Who signs.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// `defim node remove`.
#[derive(Debug, Args)]
pub struct NodeRemove {
    /// The node's public key in base64url.
    #[arg(allow_hyphen_values = true)]
    pub node: String,
    /// Who signs.
    #[command(flatten)]
    pub admin: AdminArgs,
}
