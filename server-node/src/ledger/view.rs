//! What the ledger's pages show of blocks and transactions.

use defim_ledger::{
    Admission, Block, Body, Fault, Genesis, NodeId, State, Verdict, light::Certificate,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A transaction.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TxView {
    /// What names it.
    pub id: String,
    /// Who signed it: its name, or its key.
    pub from: String,
    /// A stable word for what it asks for.
    pub kind: String,
    /// The same for a person.
    pub text: String,
    /// The task it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The round it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<u64>,
}

/// A block.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockView {
    /// Blocks before it.
    pub height: u64,
    /// What names it.
    pub digest: String,
    /// Its epoch.
    pub epoch: u64,
    /// When it was proposed.
    pub timestamp_ms: u64,
    /// Its transactions.
    pub txs: Vec<TxView>,
    /// Names of the validators whose signatures make it final; none if a block above it does.
    pub signers: Vec<String>,
}

/// Names of nodes, as the ledger has them.
pub struct Names<'a>(pub &'a State);

impl Names<'_> {
    /// A node's name, or the head of its key.
    pub fn of(&self, node: &NodeId) -> String {
        let entry = self.0.get(&defim_ledger::NodeSlot(*node));
        match entry {
            Some(entry) if !entry.name.is_empty() => entry.name,
            _ if self
                .0
                .get(&defim_ledger::AdminsSlot())
                .is_some_and(|all| all.contains(node)) =>
            {
                "admin".into()
            }
            _ => node.to_string().chars().take(12).collect(),
        }
    }
}

/// What an amount of the ledger's unit is called.
fn points(amount: u64) -> String {
    format!("{amount} points")
}

/// A fault for people.
pub const fn what_is_wrong(fault: Fault) -> &'static str {
    match fault {
        Fault::Unavailable => "the round's bytes cannot be had",
        Fault::Batch => "a batch is not what its members signed",
        Fault::DroppedCiphertext => "a ciphertext was left out or changed",
        Fault::ChangedTotal => "the total is another one than was opened",
        Fault::OtherModel => "the model does not follow from the total",
        Fault::Quality => "the model got worse by more than the task allows",
        Fault::Fairness => "a group has fallen behind by more than the task allows",
    }
}

fn verdict(verdict: &Verdict, accused: impl Fn(&NodeId) -> String) -> String {
    match verdict {
        Verdict::Accept { accuracy_ppm, .. } => format!(
            "accepts the model ({:.1} % on its hold-out rows)",
            f64::from(*accuracy_ppm) / 1e4
        ),
        Verdict::Complain {
            fault,
            accused: who,
            ..
        } => {
            let what = what_is_wrong(*fault);
            match who {
                Some(node) => format!("complains about {}: {what}", accused(node)),
                None => format!("complains: {what}"),
            }
        }
    }
}

impl TxView {
    /// Of a transaction in a block.
    pub fn new(tx: &defim_ledger::SignedTx, names: &Names<'_>) -> Self {
        let (kind, text, task, round) = describe(&tx.tx.body, names);
        Self {
            id: tx.id().to_string(),
            from: names.of(&tx.tx.from),
            kind: kind.into(),
            text,
            task: task.map(|task| task.to_string()),
            round,
        }
    }
}

type Described = (
    &'static str,
    String,
    Option<defim_ledger::TaskId>,
    Option<u64>,
);

fn describe(body: &Body, names: &Names<'_>) -> Described {
    match body {
        Body::Transfer { to, amount } => (
            "transfer",
            format!("gives {} to {}", points(*amount), names.of(to)),
            None,
            None,
        ),
        Body::EnrolNode { role, name, .. } => (
            "enrol-node",
            format!("lets {name} take part as {role:?} node").to_lowercase(),
            None,
            None,
        ),
        Body::RemoveNode { node } => (
            "remove-node",
            format!("removes {}", names.of(node)),
            None,
            None,
        ),
        Body::SetAdmins { admins } => (
            "set-admins",
            format!("names {} admins", admins.len()),
            None,
            None,
        ),
        Body::SetValidators { set, from_epoch } => (
            "set-validators",
            format!("names {} validators from epoch {from_epoch} on", set.len()),
            None,
            None,
        ),
        Body::CreateTask(new) => (
            "create-task",
            format!(
                "creates a task of {} rounds, {} each",
                new.terms.rounds,
                points(new.terms.budget_per_round)
            ),
            Some(new.task),
            None,
        ),
        Body::FundTask { task, amount } => (
            "fund-task",
            format!("gives the task {}", points(*amount)),
            Some(*task),
            None,
        ),
        Body::PauseTask { task, paused } => (
            "pause-task",
            if *paused {
                "pauses the task".into()
            } else {
                "lets the task go on".into()
            },
            Some(*task),
            None,
        ),
        Body::CloseTask { task } => ("close-task", "closes the task".into(), Some(*task), None),
        Body::CreateInvite { task, uses, .. } => (
            "create-invite",
            format!(
                "makes an invite for {uses} participant{}",
                if *uses == 1 { "" } else { "s" }
            ),
            Some(*task),
            None,
        ),
        Body::EnrolLight { task, by, .. } => (
            "enrol-light",
            match by {
                Admission::Approved => "lets a participant in".into(),
                Admission::Open => "enrols to contribute".into(),
                Admission::Invite { .. } => "enrols to contribute, with an invite".into(),
            },
            Some(*task),
            None,
        ),
        Body::RemoveLight { task, .. } => (
            "remove-light",
            "removes a participant".into(),
            Some(*task),
            None,
        ),
        Body::RoundOpened { statement } => {
            let opened = serde_json::from_str::<defim_ledger::RoundOpened>(&statement.payload).ok();
            let round = opened.as_ref().map(|opened| opened.round);
            (
                "round-opened",
                format!("opens round {}", round.unwrap_or_default()),
                opened.map(|opened| opened.task),
                round,
            )
        }
        Body::BatchClosed { statements } => {
            let summary = statements
                .first()
                .and_then(|s| defim_ledger::BatchSummary::read(&s.payload).ok());
            let text = summary.as_ref().map_or_else(String::new, |s| {
                format!(
                    "committee {} has a batch of {} in round {}",
                    s.committee, s.accepted, s.round
                )
            });
            (
                "batch-closed",
                text,
                summary.as_ref().map(|s| s.task),
                summary.map(|s| s.round),
            )
        }
        Body::Opened(opened) => (
            "opened",
            format!(
                "opens the total of {} batches, added from {} ciphertexts",
                opened.batches.len(),
                opened.ciphertexts.len()
            ),
            Some(opened.task),
            Some(opened.round),
        ),
        Body::ModelUpdated(update) => (
            "model-updated",
            format!("proposes the model of round {}", update.round),
            Some(update.task),
            Some(update.round),
        ),
        Body::Vote(vote) => (
            "vote",
            verdict(&vote.verdict, |node| names.of(node)),
            Some(vote.task),
            Some(vote.round),
        ),
        Body::RoundVoided {
            task,
            round,
            reason,
            ..
        } => (
            "round-voided",
            format!("gives round {round} up: {reason}"),
            Some(*task),
            Some(*round),
        ),
        Body::Claim(claim) => (
            "claim",
            format!("takes its reward of round {}", claim.round),
            Some(claim.task),
            Some(claim.round),
        ),
        Body::Slash { node, .. } => (
            "slash",
            format!("shows that {} has cheated", names.of(node)),
            None,
            None,
        ),
    }
}

impl BlockView {
    /// Of a final block.
    pub fn new(
        block: &Block,
        certificate: Option<&[u8]>,
        genesis: &Genesis,
        state: &State,
    ) -> Self {
        let names = Names(state);
        let header = block.header();
        Self {
            height: header.height,
            digest: block.digest().to_string(),
            epoch: header.epoch,
            timestamp_ms: header.timestamp_ms,
            txs: block
                .txs()
                .iter()
                .map(|tx| TxView::new(tx, &names))
                .collect(),
            signers: certificate
                .map_or_else(Vec::new, |bytes| signers(bytes, genesis, state, &names)),
        }
    }
}

/// Names of the signers. The set is that of the newest state, which is the block's own as long as it has not changed.
fn signers(certificate: &[u8], genesis: &Genesis, state: &State, names: &Names<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_bytes(certificate) else {
        return Vec::new();
    };
    let set = state
        .validators()
        .map(|v| v.current)
        .or(genesis.validator_set().ok());
    let Some(set) = set.filter(|set| set.len() == certificate.signers.len()) else {
        return Vec::new();
    };
    let keys = set.keys().iter().zip(&certificate.signers);
    keys.filter(|(_, signs)| **signs)
        .map(|(key, _)| names.of(key))
        .collect()
}
