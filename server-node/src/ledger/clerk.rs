//! The aggregation node's clerk: what its rounds have come to is put on the ledger, and what the ledger decides is followed.
//!
//! It compares where a round stands here and there, and sends what is missing. So it can stop at any moment: what it
//! has sent is seen on the ledger, and what it has not is sent later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use defim_aggregation::coordinator::Input;
use defim_ledger::{
    Account, AccountSlot, AdmissionRule, BatchSummary, Body, CommitteeIndex, CreateTask, Digest,
    Fault, NodeId, NodeKey, NodeSlot, NodeStatus, Opened, Role as LedgerRole, Round, Stage, Task,
    TaskId, TaskTerms, Verdict, Void, signed_digest,
};
use defim_protocol::{RoundNumber, SignedText, VerifiedManifest, record::VerifiedRecord};

use super::{
    client::{LedgerClient, Submitted},
    codec::Place,
    setup,
    view::what_is_wrong,
};
use crate::{
    config::{Peer, Role},
    failure::{Failure, Outcome},
    node::{aggregation::AggregationNode, run::Run},
};

/// How often rounds are compared.
const LOOK: Duration = Duration::from_millis(250);
/// How long what was sent may take to be in a block before it is sent again.
const AGAIN: Duration = Duration::from_secs(4);
/// How long what the ledger says of a full node is believed without looking again.
const KNOWN: Duration = Duration::from_secs(2);
/// What a round that ends for this reason is said to have ended for.
const ABSENT: &str = "a full node of its committees takes no part on the ledger any longer; the next round leaves it out";

/// What the ledger says of a task's newest round, for pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest round on the ledger; 0 before the first.
    pub round: RoundNumber,
    /// Whether the validators have yet to settle that round.
    pub unsettled: bool,
    /// The height under which that was read.
    pub height: u64,
    /// What the ledger waits for, in words.
    pub waits: Option<String>,
}

/// The clerk of one aggregation node.
pub struct Clerk {
    node: AggregationNode,
    client: LedgerClient,
    key: Arc<NodeKey>,
    /// With it the clerk enrols nodes and creates tasks by itself: for meshes that one operator runs.
    admin: Option<NodeKey>,
    sent: BTreeMap<Digest, tokio::time::Instant>,
    members: Members,
}

/// Which full nodes take part, as the ledger says, and when that was looked at.
#[derive(Default)]
struct Members(BTreeMap<NodeId, (bool, tokio::time::Instant)>);

impl Members {
    /// Those of these nodes that are slashed or removed: the ledger takes no batch of theirs. One that is not enrolled yet is
    /// on its way.
    async fn absent(
        &mut self,
        client: &LedgerClient,
        nodes: impl Iterator<Item = NodeId>,
    ) -> Outcome<BTreeSet<NodeId>> {
        let mut absent = BTreeSet::new();
        for node in nodes {
            let known = self.0.get(&node).copied();
            let active = match known.filter(|(_, at)| at.elapsed() < KNOWN) {
                Some((active, _)) => active,
                None => {
                    let entry = client.at(Place::Node(node), &NodeSlot(node)).await?.1;
                    let active = entry.is_none_or(|entry| entry.status == NodeStatus::Active);
                    let now = tokio::time::Instant::now();
                    self.0.insert(node, (active, now));
                    active
                }
            };
            if !active {
                absent.insert(node);
            }
        }
        Ok(absent)
    }
}

impl Clerk {
    /// For this node.
    pub fn new(
        node: AggregationNode,
        client: LedgerClient,
        key: Arc<NodeKey>,
        admin: Option<NodeKey>,
    ) -> Self {
        Self {
            node,
            client,
            key,
            admin,
            sent: BTreeMap::new(),
            members: Members::default(),
        }
    }

    /// Go on for ever.
    pub async fn run(mut self) {
        let mut enrolled = false;
        loop {
            tokio::time::sleep(LOOK).await;
            self.sent.retain(|_, at| at.elapsed() < AGAIN);
            if !enrolled && self.admin.is_some() {
                match self.enrol().await {
                    Ok(done) => enrolled = done,
                    Err(failure) => {
                        tracing::debug!(%failure, "the mesh's nodes are enrolled later")
                    }
                }
            }
            for (task, run) in self.node.tasks() {
                if let Err(failure) = self.follow(task, &run).await {
                    tracing::debug!(%task, %failure, "the ledger is asked again");
                }
            }
        }
    }

    /// Send transactions of one sender, if the same ones are not under way.
    async fn send(&mut self, admin: bool, bodies: Vec<Body>) -> Outcome {
        match self.try_send(admin, bodies).await? {
            None => Ok(()),
            Some(why) => Err(Failure::Other(format!("the ledger refuses it: {why}"))),
        }
    }

    /// As [`Clerk::send`], with why the ledger refuses one of them, if it does.
    async fn try_send(&mut self, admin: bool, bodies: Vec<Body>) -> Outcome<Option<String>> {
        let text = bodies
            .iter()
            .map(|body| format!("{body:?}"))
            .collect::<String>();
        let digest = Digest::of(text.as_bytes());
        if bodies.is_empty() || self.sent.contains_key(&digest) {
            return Ok(None);
        }
        let key = match (admin, &self.admin) {
            (true, Some(key)) => key,
            (true, None) => return Err(Failure::Input("an admin has to sign this".into())),
            (false, _) => &self.key,
        };
        let answers = self.client.submit(key, bodies).await?;
        self.sent.insert(digest, tokio::time::Instant::now());
        Ok(answers.into_iter().find_map(|answer| match answer {
            Submitted::Refused(why) => Some(why),
            Submitted::Waiting(_) => None,
        }))
    }

    async fn absent(&mut self, run: &Run) -> Outcome<BTreeSet<NodeId>> {
        let nodes = run.manifest().members.iter().map(|member| member.node);
        self.members.absent(&self.client, nodes).await
    }

    /// Enrol the nodes of the mesh; true once all are.
    async fn enrol(&mut self) -> Outcome<bool> {
        let mut missing = Vec::new();
        let mut nodes: Vec<(defim_ledger::NodeId, LedgerRole, String, String)> = self
            .node
            .link()
            .peers()
            .filter(|peer: &&Peer| peer.role == Role::Full)
            .map(|peer| {
                (
                    peer.node,
                    LedgerRole::Full,
                    peer.name.clone(),
                    peer.http.clone(),
                )
            })
            .collect();
        nodes.push((
            self.node.id(),
            LedgerRole::Aggregation,
            self.node.name().to_owned(),
            String::new(),
        ));
        for (node, role, name, address) in nodes {
            let entry = self.client.at(Place::Node(node), &NodeSlot(node)).await?.1;
            if entry.is_none() {
                missing.push(Body::EnrolNode {
                    node,
                    role,
                    name,
                    address,
                });
            }
        }
        let done = missing.is_empty();
        self.send(true, missing).await?;
        Ok(done)
    }

    /// Compare one task here and on the ledger.
    async fn follow(&mut self, id: TaskId, run: &Arc<Run>) -> Outcome {
        let place = Place::Task(id);
        let (header, task) = self.client.at(place, &defim_ledger::TaskSlot(id)).await?;
        let height = header.header().height;
        let Some(task) = task else {
            let created = self.create(id, run).await;
            // What only a person can mend is told where people look.
            let waits = match &created {
                Err(Failure::Input(why)) => why.clone(),
                _ => "the task is put on the ledger".into(),
            };
            run.set_standing(Standing {
                round: 0,
                unsettled: false,
                height,
                waits: Some(waits),
            });
            return created;
        };
        let here = self.node.rounds_here(id).await?;
        let round = match task.round {
            0 => None,
            newest => self.client.round(id, newest).await?,
        };
        // The next round opens when the validators have settled this one.
        let settled = !task.unsettled && here.newest <= task.round;
        let waits = match (&round, task.unsettled) {
            (Some(round), true) => Some(waiting(round, self.client.genesis().validators.len())),
            _ if here.newest > task.round => {
                Some("the round's opening is put on the ledger".into())
            }
            _ => None,
        };
        run.set_standing(Standing {
            round: task.round,
            unsettled: task.unsettled,
            height,
            waits,
        });
        if here.newest > task.round && !task.unsettled {
            let next = task.round + 1;
            let signed = self.node.opening_of(id, next).await?;
            let signed = signed.ok_or_else(|| {
                Failure::Integrity(format!("the store has no opening of round {next}"))
            })?;
            self.send(false, vec![Body::RoundOpened { statement: signed }])
                .await?;
        }
        // Before the next round opens, or selects its batches.
        let absent = self.absent(run).await?;
        if *run.machine().await?.absent() != absent {
            self.node.handle(run, Input::Absent(absent)).await?;
        }
        if let Some(round) = &round {
            self.settle(id, &task, round, run).await?;
        }
        self.node.hold(run, !settled).await
    }

    /// Carry the newest round on the ledger on.
    async fn settle(&mut self, id: TaskId, task: &Task, round: &Round, run: &Arc<Run>) -> Outcome {
        let number = task.round;
        let here = self.node.ended_here(id, number).await?;
        match (&round.stage, here) {
            // Here it goes on.
            (_, None) => Ok(()),
            (Stage::Open, Some(Ended::Finished(record))) => {
                let record = verified(record, run.manifest(), number)?;
                let missing = batches(&record, round);
                if missing.is_empty() {
                    let opened = Body::Opened(self.opened(&record, run).await?);
                    return self.send(false, vec![opened, model_updated(&record)]).await;
                }
                let committees = committees(&missing);
                let Some(why) = self.try_send(false, missing).await? else {
                    return Ok(());
                };
                // Whether that is why is looked up, and not read out of somebody's words.
                self.members.0.clear();
                let absent = self.absent(run).await?;
                if !lacks_any(run.manifest(), &committees, &absent) {
                    return Err(Failure::Other(format!("the ledger refuses it: {why}")));
                }
                self.send(false, vec![given_up(id, number, ABSENT)]).await
            }
            (Stage::Opened(_), Some(Ended::Finished(record))) => {
                let record = verified(record, run.manifest(), number)?;
                self.send(false, vec![model_updated(&record)]).await
            }
            (Stage::Open | Stage::Opened(_), Some(Ended::Voided(reason))) => {
                self.send(false, vec![given_up(id, number, &reason)]).await
            }
            // The validators have refused its model: it is none here either.
            (Stage::Voided { why, .. }, Some(Ended::Finished(_))) => {
                let why = voided(why, round);
                tracing::error!(task = %id, round = number, why, "the ledger has voided a round that was finished here");
                self.node.revoke(id, run, number, &why).await
            }
            _ => Ok(()),
        }
    }

    /// What was opened, with the digest of the total, which is opened again for it.
    async fn opened(&self, record: &VerifiedRecord, run: &Run) -> Outcome<Opened> {
        let total = self.node.total_again(run.manifest(), record).await?;
        Ok(Opened {
            task: record.task,
            round: record.round,
            selection: record.selection().digest(),
            batches: record.selection().batches().keys().copied().collect(),
            ciphertexts: record.ciphertexts().to_vec(),
            sum: record.sum,
            key: record.key,
            total,
        })
    }

    /// Put a task on the ledger, and fund all its rounds.
    async fn create(&mut self, id: TaskId, run: &Arc<Run>) -> Outcome {
        let Some(admin) = &self.admin else {
            return Err(Failure::Input(format!(
                "task {} is not on the ledger; an admin creates it with `defim task create --admin-key FILE`",
                run.manifest().name
            )));
        };
        let first = run.machine().await?.model().0;
        let bodies = creation(run.manifest(), first);
        let account = self
            .client
            .at(Place::Account(admin.id()), &AccountSlot(admin.id()))
            .await?;
        let Some(Account { balance, .. }) = account.1 else {
            return Err(Failure::Input("the admin has no account".into()));
        };
        let amounts = bodies.iter().map(|body| match body {
            Body::FundTask { amount, .. } => *amount,
            _ => 0,
        });
        let needed = amounts.sum::<u64>();
        if needed > balance {
            return Err(Failure::Input(format!(
                "the rounds of task {} cost {needed} points, and the admin's account has {balance}; transfer the missing ones to {}, or make a task with a smaller --round-budget or fewer --rounds",
                run.manifest().name,
                admin.id()
            )));
        }
        // Nodes first: a task's nodes must be enrolled.
        let member = run.manifest().members.first().map(|member| member.node);
        if let Some(member) = member {
            let entry = self
                .client
                .at(Place::Node(member), &NodeSlot(member))
                .await?
                .1;
            if entry.is_none_or(|entry| entry.status != NodeStatus::Active) {
                return Ok(());
            }
        }
        let _ = id;
        self.send(true, bodies).await
    }
}

/// The transactions with which an admin creates a task and funds its rounds. `model` is the one that round 1 starts from.
pub fn creation(manifest: &VerifiedManifest, model: Digest) -> Vec<Body> {
    let (said, noisy) = (manifest.ledger, manifest.privacy.is_some());
    let terms = TaskTerms {
        aggregation: manifest.aggregation,
        members: manifest.members.iter().map(|member| member.node).collect(),
        shares: manifest.vdaf.shares,
        min_batch: manifest.schedule.min_batch,
        rounds: manifest.schedule.rounds,
        max_weight: manifest.max_weight,
        // Where nobody has to enrol to contribute, anybody may, to be paid.
        admission: manifest.admission.unwrap_or(AdmissionRule::Open),
        budget_per_round: said.budget_per_round.unwrap_or(setup::BUDGET_PER_ROUND),
        split: setup::SPLIT,
        tolerance_ppm: said.tolerance_ppm.unwrap_or(match noisy {
            true => setup::NOISY_TOLERANCE_PPM,
            false => setup::TOLERANCE_PPM,
        }),
        fairness_gap_ppm: said.fairness_gap_ppm.unwrap_or(setup::FAIRNESS_GAP_PPM),
    };
    let task = manifest.task();
    let amount = terms.budget_per_round.saturating_mul(terms.rounds);
    vec![
        Body::CreateTask(CreateTask {
            task,
            manifest: signed_digest(manifest.signed()),
            model,
            terms,
        }),
        Body::FundTask { task, amount },
    ]
}

/// How a round has ended here.
#[derive(Debug, Clone)]
pub enum Ended {
    /// With a model; the signed record.
    Finished(SignedText),
    /// Without one; why.
    Voided(String),
}

/// The rounds of a task, as this node has them.
#[derive(Debug, Clone, Copy)]
pub struct Here {
    /// The round that was opened last; 0 before the first.
    pub newest: RoundNumber,
}

fn verified(
    signed: SignedText,
    task: &VerifiedManifest,
    round: RoundNumber,
) -> Outcome<VerifiedRecord> {
    VerifiedRecord::verify(signed, task, round).map_err(|e| Failure::Integrity(e.to_string()))
}

/// The batches of a record that are not on the ledger yet.
fn batches(record: &VerifiedRecord, round: &Round) -> Vec<Body> {
    let selected = record.selection().batches();
    let missing = selected
        .iter()
        .filter(|(index, _)| !round.batches.contains_key(index));
    missing
        .map(|(_, batch)| Body::BatchClosed {
            statements: batch.signatures().to_vec(),
        })
        .collect()
}

fn committees(batches: &[Body]) -> BTreeSet<CommitteeIndex> {
    let committee = |body: &Body| match body {
        Body::BatchClosed { statements } => {
            let summary = BatchSummary::read(&statements.first()?.payload).ok()?;
            Some(summary.committee)
        }
        _ => None,
    };
    batches.iter().filter_map(committee).collect()
}

/// Whether one of these committees has one of these nodes.
fn lacks_any(
    task: &VerifiedManifest,
    committees: &BTreeSet<CommitteeIndex>,
    absent: &BTreeSet<NodeId>,
) -> bool {
    committees.iter().any(|index| {
        let committee = task.committee(*index);
        committee.is_some_and(|committee| {
            let mut members = committee.members().into_iter();
            members.any(|member| absent.contains(&member.node))
        })
    })
}

fn given_up(task: TaskId, round: RoundNumber, reason: &str) -> Body {
    Body::RoundVoided {
        task,
        round,
        reason: reason.chars().take(300).collect(),
        evidence: None,
    }
}

/// Give a round up that is open on the ledger, and over or unknown here. What came of it here is taken back once that is final.
///
/// # Errors
///
/// [`Failure::Input`] if it is not open there, or the ledger refuses it.
pub async fn void_there(
    client: &LedgerClient,
    key: &NodeKey,
    id: TaskId,
    round: Option<RoundNumber>,
    reason: &str,
) -> Outcome {
    let place = Place::Task(id);
    let task = client.at(place, &defim_ledger::TaskSlot(id)).await?.1;
    let open = task.filter(|task| task.unsettled).map(|task| task.round);
    let round = match (open, round) {
        (Some(open), None) => open,
        (Some(open), Some(asked)) if open == asked => open,
        (Some(open), Some(asked)) => {
            return Err(Failure::Input(format!(
                "round {asked} is not open; round {open} is, on the ledger"
            )));
        }
        (None, _) => {
            return Err(Failure::Input(
                "no round is open, here or on the ledger".into(),
            ));
        }
    };
    let body = given_up(id, round, reason);
    match client.submit(key, vec![body]).await?.pop() {
        Some(Submitted::Waiting(_)) => Ok(()),
        Some(Submitted::Refused(why)) => Err(Failure::Input(why)),
        None => Err(Failure::Unreachable("no validation node answers".into())),
    }
}

fn model_updated(record: &VerifiedRecord) -> Body {
    Body::ModelUpdated(defim_ledger::ModelUpdated {
        task: record.task,
        round: record.round,
        model: record.after.model,
        optimiser: record.after.optimiser,
        record: record.digest(),
    })
}

fn waiting(round: &Round, validators: usize) -> String {
    match &round.stage {
        Stage::Proposed(..) => format!(
            "{} of {validators} validation nodes have voted on the new model",
            round.votes.len()
        ),
        _ => "what the round has come to waits for validation nodes' votes".into(),
    }
}

fn voided(why: &Void, round: &Round) -> String {
    // What the most of them say.
    let says = |fault: Fault| {
        let votes = round.votes.values();
        votes
            .filter(|vote| matches!(vote, Verdict::Complain { fault: said, .. } if *said == fault))
            .count()
    };
    match why {
        Void::Aggregation { reason, .. } => reason.clone(),
        Void::Complaints => match Fault::ALL.into_iter().max_by_key(|fault| says(*fault)) {
            Some(fault) if says(fault) > 0 => format!(
                "the validation nodes refuse its model: {}",
                what_is_wrong(fault)
            ),
            _ => "the validation nodes refuse its model".into(),
        },
        Void::Slashed => "the aggregation node was slashed".into(),
        Void::Closed => "an administrator closed the task".into(),
    }
}

#[cfg(test)]
mod tests {
    use defim_ledger::{Canonical as _, RoundOpened, SignedTx};

    use super::super::fake::{Lie, TASK, World, admin, four, key};
    use super::*;

    #[tokio::test]
    async fn a_full_node_that_was_removed_is_absent_and_one_that_is_to_come_is_not() {
        let mut world = World::with_task();
        let node = key(10).id();
        world.sent(&admin(), vec![Body::RemoveNode { node }]);
        let (_world, _fakes, client) = four(world, Lie::Forged).await;
        let asked = [10, 11, 77].map(|number| key(number).id());
        let absent = Members::default().absent(&client, asked.into_iter()).await;
        assert_eq!(absent.unwrap(), [node].into());
    }

    #[tokio::test]
    async fn a_round_that_is_open_on_the_ledger_only_can_be_given_up() {
        let mut world = World::with_task();
        let aggregation = key(12);
        let fund = Body::FundTask {
            task: TASK,
            amount: 1000,
        };
        world.sent(&admin(), vec![fund]);
        let (world, fakes, client) = four(world, Lie::None).await;
        let void = async |round| void_there(&client, &aggregation, TASK, round, "stuck").await;
        assert!(matches!(void(None).await, Err(Failure::Input(_))));
        let opened = RoundOpened {
            task: TASK,
            round: 1,
            base_model: Digest([2; 32]),
            opened_ms: 1,
            deadline_ms: 90_000,
            weights: BTreeMap::new(),
        };
        let statement = opened.sign(&aggregation).unwrap();
        let open = Body::RoundOpened { statement };
        world.lock().unwrap().sent(&aggregation, vec![open]);
        assert!(matches!(void(Some(2)).await, Err(Failure::Input(_))));
        void(Some(1)).await.unwrap();
        let sent = fakes[0].taken.lock().unwrap().pop().unwrap();
        let sent = SignedTx::from_bytes(&sent).unwrap();
        assert_eq!(sent.tx.body, given_up(TASK, 1, "stuck"));
        world.lock().unwrap().run(&[sent]);
        let task = world.lock().unwrap().state().task(&TASK).unwrap();
        assert!(!task.unsettled);
    }
}
