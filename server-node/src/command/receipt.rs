//! What a native light node does on the ledger: it enrols its key, checks that a round's opening is final, gets its receipt, and
//! claims its reward.

use std::time::{Duration, Instant};

use defim_ledger::{
    Account, Canonical as _, CommitteeIndex, Digest, Light, LightSlot, NodeId, NodeKey, Round,
    RoundSlot, Stage, TaskId, TaskSlot,
    light::{Receipt, ReceiptError},
    light_report_id, merkle,
};
use defim_light::{JoinedTask, enrolment::Sender};
use defim_protocol::{AdmissionRule, ReportId, RoundNumber};
use serde::Serialize;

use super::{account, confirm, mesh::MeshClient, out};
use crate::{
    cli::AccountClaim,
    clock,
    failure::{Failure, Outcome},
    http::ReceiptView,
    ledger::{
        client::{LedgerClient, Submitted},
        codec::{Place, read},
        setup,
    },
};

const POLL: Duration = Duration::from_millis(300);
/// How often something is looked for that the ledger has within a few blocks.
const TRIES: usize = 100;

/// A receipt that was verified here.
#[derive(Debug, Clone, Serialize)]
pub struct Receipted {
    /// The block under which it was checked.
    pub height: u64,
    /// Validators whose signatures make that block final.
    pub signers: usize,
    /// What the report earns.
    pub reward: u64,
    /// Whether the reward was claimed.
    pub claimed: bool,
}

/// A light node's entry, if it takes part in the task.
async fn enrolled(ledger: &LedgerClient, task: TaskId, owner: NodeId) -> Outcome<Option<Light>> {
    let place = Place::Light(task, owner);
    let light = ledger.at(place, &LightSlot(task, owner)).await?.1;
    Ok(light.filter(|light| light.active))
}

async fn send(ledger: &LedgerClient, tx: Vec<u8>) -> Outcome {
    match ledger.send(tx).await? {
        Submitted::Waiting(_) => Ok(()),
        Submitted::Refused(why) => Err(Failure::Input(why)),
    }
}

/// Enrol a key for a task, if it is not.
///
/// # Errors
///
/// [`Failure::Input`] if the ledger does not admit it.
pub async fn enrol(
    ledger: &LedgerClient,
    task: &JoinedTask,
    rule: AdmissionRule,
    key: &NodeKey,
    invite: Option<&str>,
    until: Instant,
) -> Outcome {
    let (id, owner) = (task.task(), key.id());
    let active = async || -> Outcome<bool> { Ok(enrolled(ledger, id, owner).await?.is_some()) };
    if active().await? {
        return Ok(());
    }
    let Account { nonce, .. } = ledger.account(owner).await?;
    let sender = Sender {
        key,
        chain: ledger.genesis().chain(),
        nonce,
    };
    send(ledger, sender.enrol(&id, rule, invite)?).await?;
    while clock::start() < until {
        if active().await? {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err(Failure::Unreachable(
        "the enrolment waits for a block; the ledger needs three of four validation nodes to go on"
            .into(),
    ))
}

/// Wait until exactly this opening of a round is on the ledger and takes reports: nobody is given a round of their own.
///
/// # Errors
///
/// [`Failure::Integrity`] if the ledger has another opening of the round.
pub async fn is_final(
    ledger: &LedgerClient,
    task: TaskId,
    round: RoundNumber,
    randomness: Digest,
    until: Instant,
) -> Outcome<u64> {
    while clock::start() < until {
        let place = Place::Round(task, round);
        let (header, entry) = ledger.at(place, &RoundSlot(task, round)).await?;
        match entry {
            Some(entry) if entry.randomness != randomness => {
                return Err(Failure::Integrity(format!(
                    "the ledger has another opening of round {round} than this mesh gives; nothing was sent"
                )));
            }
            Some(_) => return Ok(header.header().height),
            None => tokio::time::sleep(POLL).await,
        }
    }
    Err(Failure::Unreachable(format!(
        "the opening of round {round} is not final on the ledger; nothing was sent. Try again in a moment"
    )))
}

/// A report that is counted, by a receipt that was verified here.
struct Counted {
    receipt: Receipt,
    report: ReportId,
    height: u64,
    signers: usize,
    reward: u64,
}

/// Get and verify the receipt of a report; nothing if it is not counted in that round.
async fn fetch(
    client: &MeshClient,
    ledger: &LedgerClient,
    task: TaskId,
    round: RoundNumber,
    report: ReportId,
) -> Outcome<Option<Counted>> {
    let path = format!("/ledger/receipt/{task}/{round}/{report}");
    let Some(view) = client.get_if_there::<ReceiptView>(&path).await? else {
        return Ok(None);
    };
    let receipt: Receipt = read(&view.receipt)?;
    let header = ledger.follow(&view.sealed).await?;
    let refused = |why: String| Failure::Integrity(format!("the receipt is refused: {why}"));
    if (receipt.task, receipt.round) != (task, round) {
        return Err(refused("it is of another round".into()));
    }
    let counted = receipt.verify(&header, &report).map_err(|e| match e {
        // Proven, by a validator that is a block behind.
        ReceiptError::NoRound | ReceiptError::NotFinished => Failure::Unreachable(format!(
            "the receipt is of a state in which round {round} is not finished; try again in a moment"
        )),
        e => refused(e.to_string()),
    })?;
    Ok(Some(Counted {
        height: counted.height,
        signers: header.signers().len(),
        reward: counted.reward,
        receipt,
        report,
    }))
}

/// Claims that wait for blocks at the same time.
const TOGETHER: usize = 16;

/// Claim the rewards of a key's reports, and wait until the ledger has paid them all.
async fn claim(ledger: &LedgerClient, key: &NodeKey, task: TaskId, counted: &[Counted]) -> Outcome {
    let owner = key.id();
    let (mut sent_from, mut waited) = (None, 0);
    while waited < TRIES {
        let nonce = ledger.account(owner).await?.nonce;
        let light = enrolled(ledger, task, owner).await?;
        let claimed = light.map(|light| light.claimed).unwrap_or_default();
        let left: Vec<_> = counted
            .iter()
            .filter(|one| !claimed.contains(&one.receipt.round))
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        // The account has gone on: with what was sent, or with what came before it.
        if sent_from != Some(nonce) {
            (sent_from, waited) = (Some(nonce), 0);
            for (nonce, one) in (nonce..).zip(left.into_iter().take(TOGETHER)) {
                let chain = ledger.genesis().chain();
                let sender = Sender { key, chain, nonce };
                let tx = sender.claim(&one.receipt.to_bytes(), one.report)?;
                match ledger.send(tx).await? {
                    Submitted::Waiting(_) => {}
                    Submitted::Refused(why) if confirm::came_second(&why, nonce) => break,
                    Submitted::Refused(why) => return Err(Failure::Input(why)),
                }
            }
        }
        waited += 1;
        tokio::time::sleep(POLL).await;
    }
    Err(confirm::late())
}

/// A report, where it is looked for.
pub struct At {
    /// The task.
    pub task: TaskId,
    /// The round that it was made for.
    pub round: RoundNumber,
    /// The committee that checks it.
    pub committee: CommitteeIndex,
    /// Its id.
    pub report: ReportId,
}

/// What became of a report.
pub enum Standing {
    /// It is counted.
    Counted(Receipted),
    /// It is not, for sure.
    Not,
    /// The round is void.
    Void {
        /// Whether the report may be in a total that was opened before: its committee's batch was closed.
        opened: bool,
    },
}

/// What became of a report, by what the ledger shows: its receipt, with which its reward is claimed if it is counted under a
/// key, or that it is not counted.
///
/// That there is no receipt shows nothing: who has none given to a person would have the same rows again in another round.
///
/// # Errors
///
/// [`Failure`] if the round is not over in time, or neither is shown.
pub async fn standing(
    client: &MeshClient,
    ledger: &LedgerClient,
    at: &At,
    key: Option<&NodeKey>,
    until: Instant,
) -> Outcome<Standing> {
    let (task, round) = (at.task, at.round);
    // The round is finished on the ledger a few blocks after it is here, and at some validators sooner than at others.
    let found = loop {
        let entry = ledger.round(task, round).await?;
        let late = match entry.filter(|entry| entry.stage.is_over()) {
            Some(entry) if matches!(entry.stage, Stage::Voided { .. }) => {
                let opened = entry.batches.contains_key(&at.committee);
                return Ok(Standing::Void { opened });
            }
            Some(entry) => match fetch(client, ledger, task, round, at.report).await {
                Ok(Some(counted)) => break counted,
                Ok(None) => {
                    absent(client, at, &entry).await?;
                    return Ok(Standing::Not);
                }
                Err(failure @ Failure::Unreachable(_)) => failure,
                Err(failure) => return Err(failure),
            },
            None => Failure::Unreachable(format!(
                "round {round} is not over on the ledger yet; whether it counts the contribution shows then"
            )),
        };
        if clock::start() >= until {
            return Err(late);
        }
        tokio::time::sleep(POLL).await;
    };
    let receipted = Receipted {
        height: found.height,
        signers: found.signers,
        reward: found.reward,
        claimed: key.is_some(),
    };
    if let Some(key) = key {
        claim(ledger, key, task, &[found]).await?;
    }
    Ok(Standing::Counted(receipted))
}

/// Make sure that a finished round does not count a report: the list of those that it counts is the one that the ledger has the
/// root of.
async fn absent(client: &MeshClient, at: &At, entry: &Round) -> Outcome {
    let At {
        task,
        round,
        committee,
        report,
    } = at;
    let Some(batch) = entry.batches.get(committee) else {
        return Ok(());
    };
    let path = format!("/tasks/{task}/rounds/{round}/artefacts/ids.{committee}");
    let bytes = client.bytes(&path).await.map_err(|failure| {
        Failure::Unreachable(format!(
            "whether round {round} counts the contribution is not known: {failure}"
        ))
    })?;
    let (ids, rest) = bytes.as_chunks();
    let leaves: Vec<_> = ids
        .iter()
        .map(|id: &[u8; 16]| merkle::leaf_hash(id))
        .collect();
    if !rest.is_empty()
        || leaves.len() as u64 != batch.accepted
        || merkle::root(&leaves) != batch.root
    {
        return Err(Failure::Integrity(format!(
            "the mesh's list of the reports in round {round} is not the ledger's; whether it counts the contribution is not known"
        )));
    }
    match ids.contains(&report.0) {
        true => Err(Failure::Integrity(format!(
            "round {round} counts the contribution, and the mesh gives no receipt for it; try `defim account claim` later"
        ))),
        false => Ok(()),
    }
}

/// What was claimed, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Claimed {
    task: String,
    account: NodeId,
    /// What all of it pays.
    points: u64,
    rounds: Vec<RoundNumber>,
    /// What the account has now.
    balance: u64,
}

/// `defim account claim`: the rewards of every finished round in which the key's report was counted.
///
/// # Errors
///
/// [`Failure::Input`] if the key takes no part in the task.
pub async fn claim_all(args: AccountClaim, json: bool) -> Outcome {
    let key = setup::read_key(&args.key)?;
    let owner = key.id();
    let client = MeshClient::new(&args.mesh)?;
    let view = client.task(&args.task).await?;
    let joined = view.join()?;
    let id = joined.task();
    if joined.admission().is_none() {
        return Err(Failure::Input(format!(
            "task {} enrols nobody, and pays no light node by its key; tasks made with --admission do",
            view.name
        )));
    }
    let ledger = account::ledger(&args.mesh, args.chain.as_deref()).await?;
    let light = enrolled(&ledger, id, owner).await?.ok_or_else(|| {
        Failure::Input(format!(
            "key {owner} is not enrolled for task {}, or no longer, and is paid nothing; is it the file that was given to `defim contribute --key`?",
            view.name
        ))
    })?;
    let task = ledger.at(Place::Task(id), &TaskSlot(id)).await?.1;
    let newest = task.map_or(0, |task| task.round);
    // Of older rounds nothing can be claimed any more.
    let oldest = newest.saturating_sub(ledger.genesis().params.claim_rounds);
    let mut found = Vec::new();
    for round in (oldest.max(1)..=newest).filter(|round| !light.claimed.contains(round)) {
        let Some(entry) = ledger.round(id, round).await? else {
            continue;
        };
        if !matches!(entry.stage, Stage::Finished { .. }) {
            continue;
        }
        let report = light_report_id(&id, &entry.randomness, &owner);
        found.extend(fetch(&client, &ledger, id, round, report).await?);
    }
    claim(&ledger, &key, id, &found).await?;
    let claimed = Claimed {
        task: view.name,
        account: owner,
        points: found.iter().map(|one| one.reward).sum(),
        rounds: found.iter().map(|one| one.receipt.round).collect(),
        balance: ledger.account(owner).await?.balance,
    };
    if json {
        out::json(&claimed);
        return Ok(());
    }
    let rounds: Vec<_> = claimed.rounds.iter().map(ToString::to_string).collect();
    match rounds.is_empty() {
        true => println!(
            "nothing to claim: no finished round of {} has a report of {owner} that is not paid; it has {} points",
            claimed.task, claimed.balance
        ),
        false => println!(
            "{} points claimed, for round{} {} of {}; {owner} has {} points",
            claimed.points,
            if rounds.len() == 1 { "" } else { "s" },
            rounds.join(", "),
            claimed.task,
            claimed.balance
        ),
    }
    Ok(())
}
