//! Which rounds a validator still has a word to say about.

use defim_ledger::{Fault, NodeId, RoundNumber, RoundSlot, Stage, State, Verdict};

use super::vote::{Key, Proposed};

/// How many rounds before a task's newest may still be complained about: who has lied must not get away by opening the next.
const LATE_ROUNDS: RoundNumber = 4;

/// Rounds in which a model is or was proposed, and on which a validator has not voted: the newest of each task, and those just
/// before it that are void.
pub fn by(me: &NodeId, state: &State) -> Vec<Key> {
    let tasks = state.tasks();
    let newest = tasks.iter().flat_map(|(id, task)| {
        let first = task.round.saturating_sub(LATE_ROUNDS);
        (first..=task.round).map(|round| (*id, round))
    });
    let waits = |key: &Key| {
        let round = state.get(&RoundSlot(key.0, key.1));
        round.is_some_and(|round| {
            let open = match round.stage {
                Stage::Proposed(..) => true,
                Stage::Voided { proposed, .. } => proposed.is_some(),
                _ => false,
            };
            open && !round.votes.contains_key(me)
        })
    };
    newest.filter(waits).collect()
}

/// What was proposed in a round, which may be void since.
pub fn proposed(state: &State, (id, number): Key) -> Option<Proposed> {
    let task = state.task(&id)?;
    let round = state.get(&RoundSlot(id, number))?;
    let (opened, model) = match &round.stage {
        Stage::Proposed(opened, model) => (opened.clone(), model.clone()),
        Stage::Voided { proposed, .. } => *proposed.clone()?,
        _ => return None,
    };
    Some(Proposed {
        id,
        task,
        round,
        opened,
        model,
    })
}

/// Whether the task's model and optimiser are still those that the round began with: no later one is finished.
pub fn is_as_it_was(state: &State, (id, number): Key) -> bool {
    let newest = state.task(&id).map_or(0, |task| task.round);
    let is_finished = |round| {
        let round = state.get(&RoundSlot(id, round));
        round.is_none_or(|round| matches!(round.stage, Stage::Finished { .. }))
    };
    !(number.saturating_add(1)..=newest).any(is_finished)
}

/// Whether a complaint says what is wrong: that bytes are not served says nothing once a round is void, since nobody needs to
/// serve them any longer.
pub const fn is_shown(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accept { .. } => false,
        Verdict::Complain { fault, .. } => !matches!(fault, Fault::Unavailable),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use defim_ledger::{
        BatchSummary, Body, Digest, ModelUpdated, NodeKey, Opened, ReportId, RoundOpened,
        SignedText, Vote, round_randomness,
    };

    use super::super::fake::{TASK, World, admin, key};
    use super::*;

    /// Rounds of the fake task, as its aggregation node puts them on the ledger.
    struct Rounds(World);

    impl Rounds {
        fn begin() -> Self {
            let mut world = World::with_task();
            let (task, amount) = (TASK, 10_000);
            world.sent(&admin(), vec![Body::FundTask { task, amount }]);
            Self(world)
        }

        fn send(&mut self, body: Body) {
            self.0.sent(&key(12), vec![body]);
        }

        fn open(&mut self) -> SignedText {
            let task = self.0.state().task(&TASK).unwrap();
            let opened = RoundOpened {
                task: TASK,
                round: task.round + 1,
                base_model: task.model,
                opened_ms: 1,
                deadline_ms: 70_000,
                weights: BTreeMap::new(),
            };
            let statement = opened.sign(&key(12)).unwrap();
            self.send(Body::RoundOpened {
                statement: statement.clone(),
            });
            statement
        }

        /// Up to a proposed model.
        fn propose(&mut self) {
            let opening = round_randomness(&self.open());
            let round = self.0.state().task(&TASK).unwrap().round;
            let mut members = [key(10), key(11)];
            members.sort_by_key(NodeKey::id);
            let ids: Vec<_> = (0..3).map(|n| ReportId([n; 16])).collect();
            let summary = BatchSummary::new(TASK, round, opening, 0, &ids, BTreeMap::new());
            let summary = summary.unwrap();
            let statements = members.iter().map(|member| summary.sign(member).unwrap());
            self.send(Body::BatchClosed {
                statements: statements.collect(),
            });
            let some = Digest([round as u8; 32]);
            self.send(Body::Opened(Opened {
                task: TASK,
                round,
                selection: some,
                batches: [0].into(),
                ciphertexts: members.iter().map(|node| (node.id(), some)).collect(),
                sum: some,
                key: some,
                total: some,
            }));
            self.send(Body::ModelUpdated(ModelUpdated {
                task: TASK,
                round,
                model: some,
                optimiser: some,
                record: some,
            }));
        }

        fn give_up(&mut self) {
            let round = self.0.state().task(&TASK).unwrap().round;
            self.send(Body::RoundVoided {
                task: TASK,
                round,
                reason: "it does not say".into(),
                evidence: None,
            });
        }

        fn of(&self, validator: u8) -> Vec<Key> {
            by(&key(validator).id(), self.0.state())
        }
    }

    #[test]
    fn a_round_is_complained_about_after_it_was_given_up_and_the_next_is_open() {
        let mut rounds = Rounds::begin();
        rounds.propose();
        let waiting: Vec<Key> = vec![(TASK, 1)];
        assert_eq!(rounds.of(1), waiting);
        let before = proposed(rounds.0.state(), (TASK, 1)).unwrap();
        rounds.give_up();
        rounds.open();
        assert_eq!(rounds.of(1), waiting);
        let after = proposed(rounds.0.state(), (TASK, 1)).unwrap();
        assert_eq!((after.opened, after.model), (before.opened, before.model));
        assert!(is_as_it_was(rounds.0.state(), (TASK, 1)));
        // A round in which nothing was proposed has nothing to be complained about.
        rounds.give_up();
        for _ in 0..LATE_ROUNDS {
            rounds.open();
            rounds.give_up();
        }
        assert_eq!(rounds.of(1), Vec::new(), "that was too long ago");
    }

    #[test]
    fn a_void_round_is_not_judged_by_a_model_that_came_later() {
        let mut rounds = Rounds::begin();
        rounds.propose();
        rounds.give_up();
        rounds.propose();
        assert!(is_as_it_was(rounds.0.state(), (TASK, 1)));
        let vote = Body::Vote(Vote {
            task: TASK,
            round: 2,
            model: Digest([2; 32]),
            verdict: Verdict::Accept {
                loss_micro: 1,
                accuracy_ppm: 1,
            },
        });
        for validator in 1..4 {
            rounds.0.sent(&key(validator), vec![vote.clone()]);
        }
        assert!(!is_as_it_was(rounds.0.state(), (TASK, 1)));
    }

    #[test]
    fn of_a_void_round_only_what_is_wrong_is_said() {
        let complain = |fault| Verdict::Complain {
            fault,
            accused: None,
            evidence: Digest([1; 32]),
        };
        assert!(is_shown(&complain(Fault::OtherModel)));
        assert!(!is_shown(&complain(Fault::Unavailable)));
        assert!(!is_shown(&Verdict::Accept {
            loss_micro: 1,
            accuracy_ppm: 1
        }));
    }
}
