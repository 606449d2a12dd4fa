//! The command line. `--json` works everywhere; every command shows an example under `--help`.

mod admin;

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use clap::{
    ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
    parser::ValueSource,
};
use defim_protocol::{AdmissionRule, vdaf::Scheme};

pub use admin::{AdminArgs, NodeEnrol, NodeRemove, TaskEnrolled, TaskInvite, TaskKey};

/// DeFim: people and companies train one model together, and their rows stay where they are.
#[derive(Debug, Parser)]
#[command(name = "defim", version, propagate_version = true)]
pub struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Read the command line; what cannot be read is printed, as JSON too if that was asked for.
    ///
    /// # Errors
    ///
    /// The exit code: 2 for wrong usage, 0 for help and version, which are answers.
    pub fn read() -> Result<Self, u8> {
        Self::with_given().map_err(|error| {
            // The arguments could not be read, so neither could `--json`.
            let json = std::env::args_os().any(|arg| arg == "--json");
            if error.use_stderr() && json {
                let text = error.render().to_string();
                let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
                println!(
                    "{}",
                    serde_json::json!({ "error": "usage", "message": message })
                );
            }
            let _ = error.print();
            if error.use_stderr() { 2 } else { 0 }
        })
    }

    fn with_given() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
        if let (Command::Up(up), Some(("up", matches))) = (&mut cli.command, matches.subcommand()) {
            up.given = given(matches);
        }
        Ok(cli)
    }

    /// Whether this call serves until it is stopped.
    pub fn is_server(&self) -> bool {
        matches!(
            self.command,
            Command::Up(_)
                | Command::Node {
                    command: NodeCommand::Run { .. }
                }
        )
    }
}

/// The arguments that were typed, by their fields' names; the others have their defaults.
fn given(matches: &ArgMatches) -> BTreeSet<String> {
    let typed =
        |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches
        .ids()
        .filter(typed)
        .map(ToString::to_string)
        .collect()
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole mesh on this machine: full nodes, aggregation node, pages and API.
    #[command(after_help = "Example:\n  defim up --listen 127.0.0.1:8080 --data ./mesh")]
    Up(Up),
    /// Run or set up single nodes.
    Node {
        /// What to do.
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Run light nodes and a committee in this process, every real step, without sockets.
    #[command(
        after_help = "Example:\n  defim simulate --task digits --light 20 --rounds 15 --json"
    )]
    Simulate(Simulate),
    /// Contribute to a task from this machine.
    #[command(
        after_help = "Example:\n  defim contribute --mesh http://127.0.0.1:8080 --task digits --data rows.csv"
    )]
    Contribute(Contribute),
    /// Ask a task's model about rows that only this machine can read.
    #[command(
        after_help = "The rows are encrypted here, and the full node scores them without reading them.\n\nExample:\n  defim score --mesh http://127.0.0.1:8080 --task digits --data rows.csv"
    )]
    Score(Score),
    /// Check a finished round: add up random blocks of its encrypted sum again.
    #[command(
        after_help = "With a wrong sum it writes a proof that anybody can check, and ends with 5.\n\nExample:\n  defim audit --mesh http://127.0.0.1:8080 --task digits\n  defim audit --task digits --round 3 --proof fraud.bin"
    )]
    Audit(Audit),
    /// Create, list, show or pause tasks, and let light nodes in.
    Task {
        /// What to do.
        #[command(subcommand)]
        command: TaskCommand,
    },
    /// Show or verify the ledger.
    Ledger {
        /// What to do.
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Show balances, and give from one's own.
    Account {
        /// What to do.
        #[command(subcommand)]
        command: AccountCommand,
    },
    /// Time this build beside its baselines.
    #[command(after_help = "Example:\n  defim bench --dim 100000 --json")]
    Bench(Bench),
    /// Check test vectors.
    Vectors {
        /// What to do.
        #[command(subcommand)]
        command: VectorsCommand,
    },
    /// Get a task's model.
    Model {
        /// What to do.
        #[command(subcommand)]
        command: ModelCommand,
    },
}

/// `defim bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// Coordinates of the vector that is shared.
    #[arg(long, default_value_t = 100_000)]
    pub dim: usize,
    /// How often each step runs; its median is printed.
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// Only these schemes: pine64, pine32, fpl2, sumvec.
    #[arg(long, value_delimiter = ',')]
    pub schemes: Vec<String>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Take browsers' bytes over WebRTC at this address instead, until interrupted: `/bench.html`
    /// measures the way to it. [default: 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:0")]
    pub network: Option<SocketAddr>,
    /// Measure a ledger of so many rounds instead: verifying all of it, and following it to its head.
    #[arg(long, value_name = "ROUNDS", conflicts_with = "network")]
    pub history: Option<u64>,
    /// Serve that ledger at this address instead, until interrupted, for `defim ledger verify` and for browsers.
    #[arg(long, value_name = "ADDRESS", requires = "history")]
    pub listen: Option<SocketAddr>,
}

/// `defim vectors`.
#[derive(Debug, Subcommand)]
pub enum VectorsCommand {
    /// Run every test-vector file in a folder against this build.
    #[command(after_help = "Example:\n  defim vectors check crates/pine/vectors/good")]
    Check {
        /// The folder, or one file.
        path: PathBuf,
    },
}

/// `defim up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Where pages and API are served.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Folder for keys and stores; made if it is not there.
    #[arg(long, default_value = "defim-data")]
    pub data: PathBuf,
    /// Folder with the built pages.
    #[arg(long, env = "DEFIM_SITE")]
    pub web: Option<PathBuf>,
    /// Built-in tasks to start with.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "digits,breast-cancer,diabetes"
    )]
    pub tasks: Vec<String>,
    /// When rounds close.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
    /// Which of all these were typed.
    #[arg(skip)]
    pub given: BTreeSet<String>,
}

/// When rounds of a new task close.
#[derive(Debug, Clone, Args)]
pub struct ScheduleArgs {
    /// Fewest contributions a batch may be released with.
    #[arg(long, default_value_t = 3)]
    pub min_batch: u32,
    /// Contributions with which a round closes at once; no full node takes more.
    #[arg(long, default_value_t = 1000)]
    pub max_batch: u32,
    /// Seconds a round stays open for more once it has enough.
    #[arg(long, default_value_t = 10.0)]
    pub settle: f64,
    /// Seconds a round stays open at most.
    #[arg(long, default_value_t = 3600.0)]
    pub deadline: f64,
    /// Rounds of the task.
    #[arg(long, default_value_t = 1000)]
    pub rounds: u64,
    /// How often the report of a full node's silo may count: as often as it has rows, up to this.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub max_weight: u8,
    /// Only enrolled light nodes contribute, once a round each; this is how they are enrolled.
    #[arg(long, value_enum)]
    pub admission: Option<AdmissionArg>,
    /// Shares of a contribution, one for each full node that checks it: 2, or 3, of which two tell nothing.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub shares: u8,
    /// Each contribution says, unseen, how good the model is on the contributor's rows, and validators void a round in which the
    /// quarter that it serves worst is too far behind. For tasks that tell classes apart.
    #[arg(long)]
    pub quality_votes: bool,
    /// What the ledger pays and bears.
    #[command(flatten)]
    pub ledger: LedgerArgs,
    /// Differential privacy.
    #[command(flatten)]
    pub privacy: PrivacyArgs,
}

/// What the ledger pays for a new task's rounds, and bears of them.
#[derive(Debug, Clone, Copy, Args)]
pub struct LedgerArgs {
    /// Points that a finished round pays to those who made it; 10000 unless told otherwise. The admin pays for all rounds at once.
    #[arg(long, value_name = "POINTS")]
    pub round_budget: Option<u64>,
    /// By how much a round may raise the model's loss on validators' rows, as a share of the loss before, for its model to be
    /// taken; 0.25 unless told otherwise, 1 with --epsilon.
    #[arg(long, value_name = "SHARE")]
    pub loss_tolerance: Option<f64>,
    /// How far the quarter that the model serves worst may lie behind in accuracy, from 0 to 1; 0.3 unless told otherwise.
    #[arg(long, value_name = "SHARE", requires = "quality_votes")]
    pub fairness_gap: Option<f64>,
}

/// How light nodes are enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AdmissionArg {
    /// Anybody enrols a key.
    Open,
    /// Whoever knows an invite's code enrols a key.
    Invite,
    /// An admin enrols keys.
    Approved,
}

impl AdmissionArg {
    /// The same in a manifest.
    pub const fn rule(self) -> AdmissionRule {
        match self {
            Self::Open => AdmissionRule::Open,
            Self::Invite => AdmissionRule::Invite,
            Self::Approved => AdmissionRule::Approved,
        }
    }
}

/// What a task promises each contributor, over all of its rounds.
#[derive(Debug, Clone, Copy, Args)]
pub struct PrivacyArgs {
    /// Add noise for differential privacy with this epsilon, over all rounds together.
    #[arg(long, value_parser = epsilon)]
    pub epsilon: Option<f64>,
    /// The delta beside it.
    #[arg(long, default_value_t = 1e-5, requires = "epsilon", value_parser = delta)]
    pub delta: f64,
}

fn epsilon(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 100.0);
    number.ok_or_else(|| "it is a number above 0, up to 100".into())
}

fn delta(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n < 0.5);
    number.ok_or_else(|| "it is a number above 0 and below 0.5".into())
}

/// `defim node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Run one role as its own process.
    #[command(after_help = "Example:\n  defim node run --config mesh/full-1.toml")]
    Run {
        /// The node's configuration.
        #[arg(long)]
        config: PathBuf,
    },
    /// Make keys and configuration files for a mesh of separate processes.
    #[command(
        after_help = "Example:\n  defim node init --dir mesh --base-port 9000 --tasks digits"
    )]
    Init(Init),
    /// List a mesh's nodes.
    #[command(after_help = "Example:\n  defim node list --mesh http://127.0.0.1:8080")]
    List {
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
    },
    /// Let a server node take part in the mesh, or change its name or address.
    #[command(
        after_help = "Example:\n  defim node enrol KEY --role full --name full-4 --address https://full-4.example --admin-key defim-data/admin.key"
    )]
    Enrol(NodeEnrol),
    /// Let a server node take part in the mesh no longer.
    #[command(after_help = "Example:\n  defim node remove KEY --admin-key defim-data/admin.key")]
    Remove(NodeRemove),
}

/// `defim node init`.
#[derive(Debug, Args)]
pub struct Init {
    /// Full nodes.
    #[arg(long, default_value_t = defim_sim::Setup::FULL, value_parser = clap::value_parser!(u8).range(2..=32))]
    pub full: u8,
    /// Validation nodes, which agree on the ledger: none, or at least 4, of which one may fail.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=32))]
    pub validators: u8,
    /// Folder for configurations, keys and stores.
    #[arg(long)]
    pub dir: PathBuf,
    /// Address the nodes listen on and are reached at.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: std::net::IpAddr,
    /// First of the ports; the aggregation node serves pages there, each full node takes the next ten.
    #[arg(long, default_value_t = 9000)]
    pub base_port: u16,
    /// Folder with the built pages.
    #[arg(long, env = "DEFIM_SITE")]
    pub web: Option<PathBuf>,
    /// Built-in tasks to start with; `digits:mlp` picks a model.
    #[arg(long, value_delimiter = ',', default_value = "digits")]
    pub tasks: Vec<String>,
    /// When rounds close.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
}

/// A model kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelArg {
    /// Softmax regression.
    Softmax,
    /// A network with one hidden layer.
    Mlp,
    /// Linear regression.
    Linear,
}

/// A run to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    /// The same run without cryptography.
    Plain,
}

/// `defim simulate`.
#[derive(Debug, Args)]
pub struct Simulate {
    /// A built-in task, or a file with a learning specification (JSON).
    #[arg(long)]
    pub task: String,
    /// Rows (CSV); a fifth is held out by seed. A built-in task has its own.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Light nodes.
    #[arg(long, default_value_t = 20)]
    pub light: usize,
    /// Full nodes with rows of their own, five times as many as a light node's.
    #[arg(long, default_value_t = 0)]
    pub silos: usize,
    /// How often a silo's report may count: as often as it has rows, up to this.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub max_weight: u8,
    /// Every light node has an enrolled key, and only enrolled ones are counted.
    #[arg(long)]
    pub enrolled: bool,
    /// Shares of a contribution, one for each full node that checks it: 2, or 3, of which two tell nothing.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=3))]
    pub shares: u8,
    /// Each contribution says, unseen, how good the model is on the contributor's rows; a round in which the quarter that it serves
    /// worst is too far behind is void.
    #[arg(long)]
    pub quality_votes: bool,
    /// How far that is, from 0 to 1.
    #[arg(long, default_value_t = 0.3, requires = "quality_votes")]
    pub fairness_gap: f64,
    /// Rounds.
    #[arg(long, default_value_t = 15)]
    pub rounds: u64,
    /// Decides split, initial model and local training.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Which model of a built-in task.
    #[arg(long)]
    pub model: Option<ModelArg>,
    /// What updates are shared and proven with: `pine64` or `pine32-hmac`.
    #[arg(long, default_value = "pine64")]
    pub scheme: Scheme,
    /// Full nodes.
    #[arg(long, default_value_t = defim_sim::Setup::FULL, value_parser = clap::value_parser!(u8).range(2..=32))]
    pub full: u8,
    /// Full nodes that go away in each round, once all sums are encrypted.
    #[arg(long, alias = "drop-full", default_value_t = 0)]
    pub dropouts: u8,
    /// What some of the light nodes do instead of contributing honestly: `label-flip` or `scaled-update`.
    #[arg(long)]
    pub attack: Option<defim_sim::AttackKind>,
    /// Their share of the light nodes, from 0 to 1.
    #[arg(long, default_value_t = 0.2, requires = "attack")]
    pub attackers: f64,
    /// Differential privacy.
    #[command(flatten)]
    pub privacy: PrivacyArgs,
    /// Run this instead, on the same rows and seed, to compare with.
    #[arg(long, conflicts_with_all = ["epsilon", "dropouts", "shares", "full", "scheme", "enrolled", "quality_votes"])]
    pub baseline: Option<Baseline>,
}

/// `defim score`.
#[derive(Debug, Args)]
pub struct Score {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// Task name or id.
    #[arg(long)]
    pub task: String,
    /// Rows (CSV); they need no label.
    #[arg(long)]
    pub data: PathBuf,
    /// Ask this full node; by default one of those that are reachable.
    #[arg(long)]
    pub node: Option<String>,
}

/// What to do with the ledger.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Show the newest blocks.
    #[command(after_help = "Example:\n  defim ledger show --limit 10")]
    Show(LedgerShow),
    /// Verify every block from the genesis on, or evidence of a fault.
    #[command(
        after_help = "Every certificate, transaction and state root is checked here. Ends with 5 if anything is wrong.\n\nExample:\n  defim ledger verify --mesh http://127.0.0.1:8080\n  defim ledger verify --evidence fault.bin"
    )]
    Verify(LedgerVerify),
}

/// `defim ledger show`.
#[derive(Debug, Args)]
pub struct LedgerShow {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// How many blocks, at most 100; those before them with --before.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub limit: u64,
    /// Only blocks below this height.
    #[arg(long)]
    pub before: Option<u64>,
}

/// `defim ledger verify`.
#[derive(Debug, Args)]
pub struct LedgerVerify {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
    /// Check this evidence of a fault instead; no mesh is needed.
    #[arg(long)]
    pub evidence: Option<PathBuf>,
}

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Show a balance, proven under a final block.
    #[command(after_help = "Example:\n  defim account show --key defim-data/admin.key")]
    Show(AccountShow),
    /// Give points to another account.
    #[command(after_help = "Example:\n  defim account transfer --key my.key --to KEY --amount 100")]
    Transfer(AccountTransfer),
    /// Claim the rewards of all finished rounds in which a key's contribution was counted.
    #[command(
        after_help = "Rewards that are not claimed within 64 rounds stay with the task.\n\nExample:\n  defim account claim --mesh http://127.0.0.1:8080 --task digits --key my.key"
    )]
    Claim(AccountClaim),
}

/// `defim account show`.
#[derive(Debug, Args)]
pub struct AccountShow {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
    /// The account: a public key in base64url.
    #[arg(allow_hyphen_values = true)]
    pub account: Option<String>,
    /// Or the file with its secret key.
    #[arg(long, conflicts_with = "account")]
    pub key: Option<PathBuf>,
}

/// `defim account claim`.
#[derive(Debug, Args)]
pub struct AccountClaim {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// Task name or id.
    #[arg(long)]
    pub task: String,
    /// File with the secret key that contributed.
    #[arg(long)]
    pub key: PathBuf,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
}

/// `defim account transfer`.
#[derive(Debug, Args)]
pub struct AccountTransfer {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// The chain's id, as somebody you trust has given it.
    #[arg(long)]
    pub chain: Option<String>,
    /// File with the secret key of the account that gives.
    #[arg(long)]
    pub key: PathBuf,
    /// Who gets it: a public key in base64url.
    #[arg(long, allow_hyphen_values = true)]
    pub to: String,
    /// How many points.
    #[arg(long)]
    pub amount: u64,
}

/// `defim audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// Task name or id.
    #[arg(long)]
    pub task: String,
    /// The finished round; by default the last one.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub round: Option<u64>,
    /// Blocks that are drawn; each has 4,096 coordinates.
    #[arg(long, default_value_t = defim_light::AUDIT_BLOCKS)]
    pub blocks: usize,
    /// Check this proof of somebody else against the round's record, instead of drawing blocks.
    #[arg(long, conflicts_with = "blocks")]
    pub proof: Option<PathBuf>,
    /// The id of the mesh's ledger, which has to name the round's record; without it the mesh is believed as to which ledger is
    /// its own, and whether it has one.
    #[arg(long)]
    pub chain: Option<String>,
    /// Where a proof is written if the sum is wrong.
    #[arg(long, default_value = "fraud.bin")]
    pub out: PathBuf,
}

/// `defim contribute`.
#[derive(Debug, Args)]
pub struct Contribute {
    /// The mesh.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub mesh: String,
    /// Task name or id.
    #[arg(long)]
    pub task: String,
    /// Rows (CSV).
    #[arg(long)]
    pub data: PathBuf,
    /// File with this light node's key, for a task that counts enrolled light nodes only; made if missing. One for each task:
    /// contributions under the same key can be linked.
    #[arg(long)]
    pub key: Option<PathBuf>,
    /// The code of an invite, for a task that asks for one.
    #[arg(long)]
    pub invite: Option<String>,
    /// The id of the mesh's chain, as somebody you trust has given it; by default the mesh's own word.
    #[arg(long)]
    pub chain: Option<String>,
    /// Send over this path only.
    #[arg(long, value_enum, default_value_t = Via::Auto)]
    pub via: Via,
    /// Wait until the round that counts the contribution is finished.
    #[arg(long)]
    pub wait: bool,
    /// Take part in this many rounds, one contribution each.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// Give up after this many seconds, for each round.
    #[arg(long, default_value_t = 120.0)]
    pub timeout: f64,
}

/// A path for a contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Via {
    /// Peer to peer, then HTTPS.
    Auto,
    /// HTTPS only.
    Https,
}

/// `defim task`.
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Create a task on a mesh.
    #[command(
        after_help = "Example:\n  defim task create --mesh http://127.0.0.1:8080 --task digits --model mlp --name digits-mlp --admin-token defim-data/admin.token"
    )]
    Create {
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
        /// A built-in task, or a file with a learning specification (JSON).
        #[arg(long)]
        task: String,
        /// Its name on the mesh; by default the built-in task's.
        #[arg(long)]
        name: Option<String>,
        /// Which model of a built-in task.
        #[arg(long)]
        model: Option<ModelArg>,
        /// When rounds close.
        #[command(flatten)]
        schedule: ScheduleArgs,
        /// What updates are shared and proven with: `pine64`, or `pine32-hmac` with half the bytes.
        #[arg(long, default_value = "pine64")]
        scheme: Scheme,
        /// The file with the mesh's admin token.
        #[arg(long)]
        admin_token: PathBuf,
    },
    /// List a mesh's tasks.
    #[command(after_help = "Example:\n  defim task list --mesh http://127.0.0.1:8080")]
    List {
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
    },
    /// Show a task with its rounds.
    #[command(after_help = "Example:\n  defim task show digits --mesh http://127.0.0.1:8080")]
    Show {
        /// Task name or id.
        task: String,
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
    },
    /// Make an invite: its code is shown once, and whoever has it enrols a light node.
    #[command(
        after_help = "Example:\n  defim task invite digits --uses 20 --days 14 --admin-key defim-data/admin.key"
    )]
    Invite(TaskInvite),
    /// Let a light node take part in a task.
    #[command(
        after_help = "Example:\n  defim task approve digits KEY --admin-key defim-data/admin.key"
    )]
    Approve(TaskKey),
    /// Let a light node take part in a task no longer.
    #[command(
        visible_alias = "remove-light",
        after_help = "Example:\n  defim task revoke digits KEY --admin-key defim-data/admin.key"
    )]
    Revoke(TaskKey),
    /// List the light nodes that take part in a task, each proven under a final block.
    #[command(after_help = "Example:\n  defim task enrolled digits")]
    Enrolled(TaskEnrolled),
    /// End a task's open round without a result; the next one opens.
    #[command(
        after_help = "Example:\n  defim task void-round digits --reason \"full-2 is gone\" --admin-token defim-data/admin.token"
    )]
    VoidRound {
        /// Task name or id.
        task: String,
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
        /// The round, if it is to be that one only.
        #[arg(long)]
        round: Option<u64>,
        /// Why, for everybody to read.
        #[arg(long, default_value = "")]
        reason: String,
        /// The file with the mesh's admin token.
        #[arg(long)]
        admin_token: PathBuf,
    },
    /// Pause a task, or let it go on.
    #[command(
        after_help = "Example:\n  defim task pause digits --admin-token defim-data/admin.token"
    )]
    Pause {
        /// Task name or id.
        task: String,
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
        /// Let it go on.
        #[arg(long)]
        resume: bool,
        /// The file with the mesh's admin token.
        #[arg(long)]
        admin_token: PathBuf,
    },
}

/// `defim model`.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Download a task's current model and check its digest.
    #[command(
        after_help = "Example:\n  defim model export --task digits --format safetensors --out digits.safetensors"
    )]
    Export {
        /// Task name or id.
        #[arg(long)]
        task: String,
        /// The mesh.
        #[arg(long, default_value = "http://127.0.0.1:8080")]
        mesh: String,
        /// File format.
        #[arg(long, value_enum, default_value_t = ModelFormat::Safetensors)]
        format: ModelFormat,
        /// File to write; by default the task's name with the format's ending.
        #[arg(long)]
        out: Option<PathBuf>,
        /// Write over a file that is there.
        #[arg(long)]
        force: bool,
    },
}

/// A model file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelFormat {
    /// Named tensors, little-endian.
    Safetensors,
}
