//! Two signatures that exclude each other: one in a round's record, the other on the ledger.

use std::collections::BTreeMap;

use defim_ledger::{
    BatchSummary, Block, Body, CommitteeIndex, Digest, Evidence, NodeId, Round, RoundNumber,
    RoundOpened, SignedText, TaskId, round_randomness,
};
use defim_protocol::record::RoundRecord;

/// What the ledger's blocks have of a round, as it was signed.
#[derive(Debug, Default)]
pub struct Signed {
    opening: Option<SignedText>,
    batches: BTreeMap<CommitteeIndex, Vec<SignedText>>,
}

impl Signed {
    /// Take in what a block has of this round.
    pub fn read(&mut self, block: &Block, (task, round): (TaskId, RoundNumber)) {
        for tx in block.txs() {
            match &tx.tx.body {
                Body::RoundOpened { statement } if opens(statement, task, round) => {
                    self.opening = Some(statement.clone());
                }
                Body::BatchClosed { statements } => {
                    if let Some((of, committee)) = batch(statements)
                        && of == (task, round)
                    {
                        self.batches.insert(committee, statements.clone());
                    }
                }
                _ => {}
            }
        }
    }
}

fn opens(statement: &SignedText, task: TaskId, round: RoundNumber) -> bool {
    RoundOpened::read(&statement.payload)
        .is_ok_and(|opened| (opened.task, opened.round) == (task, round))
}

fn batch(statements: &[SignedText]) -> Option<((TaskId, RoundNumber), CommitteeIndex)> {
    let summary = BatchSummary::read(&statements.first()?.payload).ok()?;
    Some(((summary.task, summary.round), summary.committee))
}

/// Whether a record has other statements than the ledger: only then is it worth reading the blocks.
pub fn differs(round: &Round, record: &RoundRecord) -> bool {
    let other_batch = |statements: &Vec<SignedText>| {
        let Some((_, committee)) = batch(statements) else {
            return false;
        };
        let text = statements.first().map(|s| s.payload.as_bytes());
        let signed = Digest::of(text.unwrap_or_default());
        let known = round.batches.get(&committee);
        known.is_some_and(|known| known.summary != signed)
    };
    round.randomness != round_randomness(&record.opened) || record.batches.iter().any(other_batch)
}

/// Who has signed both, and what shows it: the aggregation node two openings, a helper two batches.
pub fn shown(
    chain: &Digest,
    aggregation: NodeId,
    ledger: &Signed,
    record: &RoundRecord,
) -> Vec<(NodeId, Evidence)> {
    let mut all = Vec::new();
    if let Some(opening) = &ledger.opening {
        let evidence = Evidence::TwoOpenings {
            first: opening.clone(),
            second: record.opened.clone(),
        };
        all.push((aggregation, evidence));
    }
    for statements in &record.batches {
        let known = batch(statements).and_then(|(_, committee)| ledger.batches.get(&committee));
        let pairs = statements.iter().zip(known.into_iter().flatten());
        // An honest leader may have signed both.
        for (second, first) in pairs.skip(1) {
            let evidence = Evidence::TwoBatches {
                first: first.clone(),
                second: second.clone(),
            };
            all.push((first.signer, evidence));
        }
    }
    all.retain(|(node, evidence)| evidence.verify(node, chain).is_ok());
    all
}

#[cfg(test)]
mod tests {
    use defim_ledger::{NodeKey, ReportId, Stage};
    use defim_protocol::record::ModelState;

    use super::super::fake::{TASK, World, admin, key};
    use super::*;

    fn opening(model: Digest, deadline_ms: u64) -> SignedText {
        let opened = RoundOpened {
            task: TASK,
            round: 1,
            base_model: model,
            opened_ms: 1,
            deadline_ms,
            weights: BTreeMap::new(),
        };
        opened.sign(&key(12)).unwrap()
    }

    /// A batch of this opening.
    fn closed(
        opening: &SignedText,
        reports: std::ops::Range<u8>,
        members: &[NodeKey],
    ) -> Vec<SignedText> {
        let ids: Vec<_> = reports.map(|n| ReportId([n; 16])).collect();
        let opening = round_randomness(opening);
        let summary = BatchSummary::new(TASK, 1, opening, 0, &ids, BTreeMap::new()).unwrap();
        let signed = members.iter().map(|member| summary.sign(member).unwrap());
        signed.collect()
    }

    fn record(opened: &SignedText, batch: &[SignedText]) -> RoundRecord {
        let (one, state) = (
            Digest([1; 32]),
            ModelState {
                model: Digest([1; 32]),
                optimiser: Digest([1; 32]),
            },
        );
        RoundRecord {
            task: TASK,
            round: 1,
            opened: opened.clone(),
            selection: opened.clone(),
            batches: vec![batch.to_vec()],
            sums: Vec::new(),
            opening: opened.clone(),
            sum: one,
            key: one,
            before: state,
            after: state,
            votes: Vec::new(),
        }
    }

    #[test]
    fn who_signs_one_thing_for_the_ledger_and_another_for_the_record_is_shown() {
        let mut world = World::with_task();
        let fund = Body::FundTask {
            task: TASK,
            amount: 1000,
        };
        world.sent(&admin(), vec![fund]);
        let model = world.state().task(&TASK).unwrap().model;
        let mut members = [key(10), key(11)];
        members.sort_by_key(NodeKey::id);
        let first = opening(model, 70_000);
        let batch = closed(&first, 0..3, &members);
        let opened = Body::RoundOpened {
            statement: first.clone(),
        };
        let statements = batch.clone();
        world.sent(&key(12), vec![opened, Body::BatchClosed { statements }]);
        let slot = defim_ledger::RoundSlot(TASK, 1);
        let round = world.state().get(&slot).unwrap();
        assert_eq!(round.stage, Stage::Open);
        let mut ledger = Signed::default();
        world.blocks().for_each(|b| ledger.read(b, (TASK, 1)));

        let chain = world.state().get(&defim_ledger::ChainSlot()).unwrap().id;
        let honest = record(&first, &batch);
        assert!(!differs(&round, &honest));
        assert!(shown(&chain, key(12).id(), &ledger, &honest).is_empty());

        let other = closed(&first, 0..4, &members);
        let lie = record(&opening(model, 80_000), &other);
        assert!(differs(&round, &lie));
        let all = shown(&chain, key(12).id(), &ledger, &lie);
        let nodes: Vec<_> = all.iter().map(|(node, _)| *node).collect();
        assert_eq!(nodes, [key(12).id(), members[1].id()]);
        // The ledger takes both.
        for (node, evidence) in all {
            world.sent(&key(1), vec![Body::Slash { node, evidence }]);
            let entry = world.state().get(&defim_ledger::NodeSlot(node)).unwrap();
            assert_eq!(entry.status, defim_ledger::NodeStatus::Slashed);
        }
        // Somebody else's signature accuses nobody.
        let mut foreign = honest.clone();
        foreign.batches = vec![closed(&first, 0..4, &[key(30), key(31)])];
        assert!(shown(&chain, key(12).id(), &ledger, &foreign).is_empty());
    }
}
