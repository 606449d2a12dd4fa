//! Checking reports with the helpers.

use defim_protocol::{
    Millis, Reason, ReportId,
    report::{Ciphertext, SealedShares},
    seal::Seat,
    wire::{
        CollectAnswer, FinishRequest, FinishWith, PrepareAnswer, PrepareInit, PrepareRequest,
        Request, Response,
    },
};
use prio::codec::Encode as _;

use super::{Leader, Outcome, RETRY_MS, Step};
use crate::{BegunShare, LeaderPending, OpenedShare, VerifiedShare, helper::is_ours};

/// A report of three shares that this node has begun.
#[derive(Debug)]
pub(super) struct Begun {
    own: BegunShare,
    /// This node's prepare share.
    share: Vec<u8>,
}

/// What a report is for a helper, but for its sealed share.
struct Init {
    init: PrepareInit,
    /// The helpers' sealed shares, in their order.
    sealed: Vec<Vec<u8>>,
}

impl Leader {
    pub(super) fn prepare(&mut self, reports: Vec<(ReportId, Vec<u8>)>) {
        let verify_key = self.secrets.verify_key(&self.task);
        let two = self.task.helpers().len() == 1;
        let (mut pending, mut begun) = (Vec::new(), Vec::new());
        let (mut inits, mut refused) = (Vec::new(), Vec::new());
        for (id, bytes) in reports {
            let ready = self.open(&bytes).and_then(|(share, mut init)| {
                if two {
                    let (state, message) = share.begin(&verify_key)?;
                    init.init.message = message;
                    pending.push(state);
                } else {
                    let (own, share) = share.collect(&verify_key)?;
                    begun.push(Begun { own, share });
                }
                Ok(init)
            });
            match ready {
                Ok(init) => inits.push(init),
                Err(reason) => refused.push((id, Outcome::Rejected(reason))),
            }
        }
        if inits.is_empty() {
            self.record(refused);
            return;
        }
        // What is refused here stays pending in the store until the next load; one step at a time.
        let (task, round, committee) = (self.task.task(), self.round.round, self.task.index());
        let request = |helper: usize| PrepareRequest {
            task,
            round,
            committee,
            verify_key,
            reports: inits
                .iter()
                .map(|Init { init, sealed }| PrepareInit {
                    sealed: sealed.get(helper).cloned().unwrap_or_default(),
                    ..init.clone()
                })
                .collect(),
        };
        match two {
            true => self.ask(Step::Preparing(pending), |helper| {
                Request::Prepare(request(helper))
            }),
            false => self.ask(Step::Collecting(begun), |helper| {
                Request::Collect(request(helper))
            }),
        }
    }

    fn open(&self, bytes: &[u8]) -> Result<(OpenedShare, Init), Reason> {
        let shares = self.task.vdaf.shares;
        let report = SealedShares::get_decoded(shares, bytes).map_err(|_| Reason::Malformed)?;
        if !is_ours(&self.task, &self.round, &report.metadata.id) {
            return Err(Reason::WrongCommittee);
        }
        let (leader, helpers) = report.sealed.split_first().ok_or(Reason::Malformed)?;
        let share = OpenedShare::open(
            &self.task,
            self.round.round,
            Seat::of(0, shares.into()),
            &self.secrets.sealing,
            &report.metadata,
            &report.public_share,
            leader,
        )?
        .authentic(&self.round, &report.public_share)?;
        let sealed = helpers.iter().map(Ciphertext::get_encoded);
        let init = Init {
            sealed: sealed
                .collect::<Result<_, _>>()
                .map_err(|_| Reason::Malformed)?,
            init: PrepareInit {
                id: report.metadata.id,
                time_s: report.metadata.time_s,
                sealed: Vec::new(),
                public_share: report.public_share,
                message: Vec::new(),
            },
        };
        Ok((share, init))
    }

    /// Whether a report waits for a helper that does not know that its light node is enrolled: it may hear of it later,
    /// until the round closes.
    fn waits(&self, unknown: bool) -> bool {
        unknown && !self.draining
    }

    /// Ask again a while later, if a report waits.
    fn wait(&mut self, now: Millis, waits: &[bool]) {
        if waits.contains(&true) {
            self.retry_at = now + RETRY_MS;
        }
    }

    /// Of two shares: the helper has checked the reports.
    pub(super) fn prepared(
        &mut self,
        now: Millis,
        pending: Vec<LeaderPending>,
        answers: Vec<Option<Response>>,
    ) {
        let Some(answers) = self.answers(now, answers, |answer| match answer {
            Response::Prepared(answers) if answers.len() == pending.len() => Ok(answers),
            other => Err(other),
        }) else {
            return;
        };
        self.trouble = None;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        let waits: Vec<_> = answers
            .iter()
            .map(|answer| self.waits(*answer == PrepareAnswer::Rejected(Reason::NotEnrolled)))
            .collect();
        self.wait(now, &waits);
        let outcomes = pending
            .into_iter()
            .zip(answers)
            .zip(waits)
            .filter(|(_, waits)| !waits)
            .map(|(report, _)| report)
            .map(|(state, answer)| {
                let id = state.id();
                let share = match answer {
                    PrepareAnswer::Verified(message) => state.finish(&message),
                    PrepareAnswer::Rejected(reason) => Err(reason),
                };
                (id, outcome(share))
            })
            .collect();
        self.record(outcomes);
    }

    /// Of three shares: the helpers have begun. Put all prepare shares together, and let everybody finish.
    pub(super) fn collected(
        &mut self,
        now: Millis,
        begun: Vec<Begun>,
        answers: Vec<Option<Response>>,
    ) {
        let Some(answers) = self.answers(now, answers, |answer| match answer {
            Response::Collected(answers) if answers.len() == begun.len() => Ok(answers),
            other => Err(other),
        }) else {
            return;
        };
        let unknown = CollectAnswer::Rejected(Reason::NotEnrolled);
        let waits: Vec<_> = (0..begun.len())
            .map(|at| {
                let mut answers = answers.iter().filter_map(|answers| answers.get(at));
                self.waits(answers.any(|answer| *answer == unknown))
            })
            .collect();
        self.wait(now, &waits);
        let (mut ends, mut reports) = (Vec::new(), Vec::new());
        for (at, (report, waits)) in begun.into_iter().zip(waits).enumerate() {
            // A helper that has begun it has kept what it said, and says it again.
            if waits {
                continue;
            }
            let id = report.own.id();
            let shares = answers.iter().filter_map(|answers| answers.get(at));
            let end = combine(report, shares);
            let (with, share) = match end {
                Ok((message, share)) => (FinishWith::Message(message), Ok(share)),
                Err(reason) => (FinishWith::Refusal(reason), Err(reason)),
            };
            reports.push((id, with));
            ends.push((id, share));
        }
        if ends.is_empty() {
            self.trouble = None;
            self.record(Vec::new());
            return;
        }
        let (task, round, committee) = (self.task.task(), self.round.round, self.task.index());
        self.ask(Step::Finishing(ends), |_| {
            Request::Finish(FinishRequest {
                task,
                round,
                committee,
                reports: reports.clone(),
            })
        });
    }

    /// Of three shares: the helpers have finished. Verified is what all members have verified.
    pub(super) fn finished(
        &mut self,
        now: Millis,
        ends: Vec<(ReportId, Result<VerifiedShare, Reason>)>,
        answers: Vec<Option<Response>>,
    ) {
        let Some(answers) = self.answers(now, answers, |answer| match answer {
            Response::Prepared(answers) if answers.len() == ends.len() => Ok(answers),
            other => Err(other),
        }) else {
            return;
        };
        self.trouble = None;
        let outcomes = ends.into_iter().enumerate().map(|(at, (id, share))| {
            let mut refused = answers.iter().filter_map(|answers| match answers.get(at) {
                Some(PrepareAnswer::Verified(_)) => None,
                Some(PrepareAnswer::Rejected(reason)) => Some(*reason),
                None => Some(Reason::MemberDisagrees),
            });
            // This node's own reason first: a helper only repeats it.
            let share = share.and_then(|share| refused.next().map_or(Ok(share), Err));
            (id, outcome(share))
        });
        let outcomes = outcomes.collect();
        self.record(outcomes);
    }
}

/// The message for all, and this node's share. The leader finishes first: a message that does not even fit its own share is
/// told to nobody.
fn combine<'a>(
    report: Begun,
    helpers: impl Iterator<Item = &'a CollectAnswer>,
) -> Result<(Vec<u8>, VerifiedShare), Reason> {
    let mut shares = vec![report.share.as_slice()];
    for answer in helpers {
        match answer {
            CollectAnswer::Share(share) => shares.push(share),
            CollectAnswer::Rejected(reason) => return Err(*reason),
        }
    }
    let message = report.own.combine(&shares)?;
    let share = report.own.finish(&message)?;
    Ok((message, share))
}

fn outcome(share: Result<VerifiedShare, Reason>) -> Outcome {
    match share.and_then(|share| share.to_bytes()) {
        Ok(bytes) => Outcome::Verified(bytes),
        Err(reason) => Outcome::Rejected(reason),
    }
}
