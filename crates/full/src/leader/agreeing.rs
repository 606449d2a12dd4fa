//! Agreeing on the batch with the helpers.

use std::collections::{BTreeMap, BTreeSet};

use defim_protocol::{
    Millis, Reason, ReportId, SignedText,
    batch::{AgreedBatch, BatchSummary},
    wire::{Request, Response},
};

use super::{AGREE_ATTEMPTS, Leader, Output, Proposal, RETRY_MS, Step};
use crate::helper::Difference;

/// A helper's word on a batch.
enum Word {
    /// Its signature; none of one that was asked whether it would sign.
    Good(Option<SignedText>),
    Differs(Difference),
    Refused(String),
}

impl Leader {
    pub(super) fn propose(&mut self, now: Millis, ids: Vec<ReportId>) {
        let own: BTreeSet<_> = ids.iter().copied().collect();
        let missing = self.missing.iter();
        let refused = missing
            .map(|missing| missing.difference(&own).copied().collect())
            .collect();
        let mut rejected = BTreeMap::new();
        for (code, count) in &self.counts.rejected {
            rejected.insert(Reason::word(*code), *count);
        }
        let (task, round, committee) = (self.task.task(), self.round.round, self.task.index());
        let opening = self.round.randomness();
        let signed = BatchSummary::new(task, round, opening, committee, &ids, rejected)
            .map(|summary| summary.weighed(self.round.extra_weight(&ids)))
            .and_then(|summary| summary.sign(&self.secrets.node));
        match signed {
            Ok(summary) => {
                let proposal = Proposal {
                    summary,
                    ids,
                    refused,
                };
                self.reselect = false;
                // Stored first: after a crash the helpers must be asked about the very same batch.
                self.out.push_back(Output::Propose(proposal.clone()));
                self.proposal = Some(proposal.clone());
                self.ask_about(proposal);
            }
            Err(_) => {
                self.retry_at = now + RETRY_MS;
                self.step = Step::Idle;
            }
        }
    }

    /// Ask for the signature of one helper; of two, first whether both would give it: a helper signs one batch a round, so
    /// that with one of two signatures nothing could be changed any more.
    pub(super) fn ask_about(&mut self, proposal: Proposal) {
        if self.task.helpers().len() == 1 {
            return self.ask_agreement(proposal);
        }
        let (summary, ids, refused) = parts(&proposal);
        self.ask(Step::Checking(proposal), |helper| Request::Check {
            summary: summary.clone(),
            ids: ids.clone(),
            refused: refused.get(helper).cloned().unwrap_or_default(),
        });
    }

    fn ask_agreement(&mut self, proposal: Proposal) {
        let (summary, ids, refused) = parts(&proposal);
        self.ask(Step::Agreeing(proposal), |helper| Request::Close {
            summary: summary.clone(),
            ids: ids.clone(),
            refused: refused.get(helper).cloned().unwrap_or_default(),
        });
    }

    /// All helpers' signatures, if all of them have something good to say; otherwise what follows has been done.
    fn words(
        &mut self,
        now: Millis,
        proposal: &Proposal,
        answers: Vec<Option<Response>>,
        good: impl Fn(Response) -> Result<Word, Response>,
    ) -> Option<Vec<Option<SignedText>>> {
        let words = self.answers(now, answers, |answer| match answer {
            Response::Differs { missing, unknown } => {
                Ok(Word::Differs(Difference { missing, unknown }))
            }
            Response::Refused(why) => Ok(Word::Refused(why)),
            other => good(other),
        })?;
        let (mut signatures, mut differences) = (Vec::new(), Vec::new());
        for (helper, word) in words.into_iter().enumerate() {
            match word {
                Word::Good(signature) => {
                    signatures.push(signature);
                    differences.push(None);
                }
                Word::Differs(difference) => differences.push(Some(difference)),
                Word::Refused(why) => {
                    let name = self.helper_name(helper);
                    self.without(format!("{name} does not agree on the batch: {why}"));
                    return None;
                }
            }
        }
        if signatures.len() < differences.len() {
            self.differs(proposal, &differences);
            return None;
        }
        Some(signatures)
    }

    /// Of two helpers: both would sign, or at least one would not.
    pub(super) fn checked(
        &mut self,
        now: Millis,
        proposal: Proposal,
        answers: Vec<Option<Response>>,
    ) {
        let good = |answer| match answer {
            Response::WouldAgree => Ok(Word::Good(None)),
            other => Err(other),
        };
        if self.words(now, &proposal, answers, good).is_some() {
            self.ask_agreement(proposal);
        }
    }

    pub(super) fn agreed(
        &mut self,
        now: Millis,
        proposal: Proposal,
        answers: Vec<Option<Response>>,
    ) {
        let good = |answer| match answer {
            Response::Agreed(signature) => Ok(Word::Good(Some(signature))),
            other => Err(other),
        };
        let Some(signatures) = self.words(now, &proposal, answers, good) else {
            return;
        };
        let all: Vec<_> = [proposal.summary]
            .into_iter()
            .chain(signatures.into_iter().flatten())
            .collect();
        // Whose signature does not hold, if one does not.
        let members = self.task.members();
        let broken = members.iter().zip(&all).position(|(member, signed)| {
            signed
                .verify(defim_protocol::Context::Batch, &member.node)
                .is_err()
        });
        let broken = broken.unwrap_or(1).saturating_sub(1);
        match AgreedBatch::verify(&self.task, self.round.round, all) {
            Ok(batch) => {
                self.trouble = None;
                self.step = Step::Releasing;
                self.out.push_back(Output::Release {
                    batch,
                    ids: proposal.ids,
                });
            }
            Err(_) => self.helper_failed(now, broken),
        }
    }

    /// Helpers have signed nothing, so another batch may be proposed: without what one lacks, and
    /// with what one has or, where this node refused a report, with that said to it.
    fn differs(&mut self, proposal: &Proposal, differences: &[Option<Difference>]) {
        self.attempts += 1;
        if self.attempts > AGREE_ATTEMPTS {
            let names: Vec<_> = differences
                .iter()
                .enumerate()
                .filter(|(_, difference)| difference.is_some())
                .map(|(helper, _)| self.helper_name(helper))
                .collect();
            let reports = match names.len() {
                1 => "has verified other reports than its leader",
                _ => "have verified other reports than their leader",
            };
            return self.without(format!(
                "{} {reports}, again and again",
                names.join(" and ")
            ));
        }
        let unknown: BTreeSet<_> = differences
            .iter()
            .flatten()
            .flat_map(|difference| &difference.unknown)
            .collect();
        let ids = proposal.ids.iter();
        let lacking: Vec<_> = ids.filter(|id| unknown.contains(id)).copied().collect();
        let none = Difference {
            missing: Vec::new(),
            unknown: Vec::new(),
        };
        for ((missing, refused), difference) in self
            .missing
            .iter_mut()
            .zip(&proposal.refused)
            .zip(differences)
        {
            let Difference {
                missing: more,
                unknown,
            } = difference.as_ref().unwrap_or(&none);
            // What another helper lacks is refused here now; this one may have verified it.
            *missing = more
                .iter()
                .chain(refused)
                .chain(&lacking)
                .filter(|id| !unknown.contains(id))
                .copied()
                .collect();
        }
        self.reselect = true;
        self.step = Step::Recording;
        self.out.push_back(Output::Disown(lacking));
    }
}

fn parts(proposal: &Proposal) -> (SignedText, Vec<ReportId>, Vec<Vec<ReportId>>) {
    let Proposal {
        summary,
        ids,
        refused,
    } = proposal;
    (summary.clone(), ids.clone(), refused.clone())
}
