//! The open round: what has come in, and what is asked of which full node next.
//!
//! ```text
//! Collecting ── enough, or late ──> Closing ── all closed, or those that are ──> Encrypting ──> Decrypting
//!                                                                       └─ a node has gone: without it ─┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use defim_he::{SumShare, Threshold};
use defim_protocol::{
    Committee, CommitteeIndex, Millis, NodeId, NodeKey, Reason, ReportId, RoundPhase, SignedText,
    VerifiedManifest, VerifiedRound,
    batch::AgreedBatch,
    sum::{Selection, SumError, VerifiedSelection},
    wire::{ClosedBatch, Progress, Request, Response, Submission},
};

use crate::{
    Encrypted, EncryptedSums, OpenError, OpenedTotal,
    message::{OpenRoundView, Output},
    open::selected,
    repeat::check_ids,
};

/// How long a step waits for a full node before it goes on without it, if it can; in milliseconds.
pub const PATIENCE_MS: Millis = 10_000;
/// How long after its deadline, or after it was closed, a round may wait for full nodes that it cannot do
/// without, in milliseconds. Then it is given up: nothing that a node or a stranger sends puts the end off.
pub const GRACE_MS: Millis = 5 * 60 * 1000;

/// What the store holds of the open round.
#[derive(Debug, Default)]
pub struct RestoredRound {
    /// Committees that have closed.
    pub closed: Vec<ClosedBatch>,
    /// The signed selection.
    pub selection: Option<SignedText>,
    /// What was encrypted for it.
    pub sums: Vec<(NodeId, Submission)>,
    /// The signed opening.
    pub opening: Option<SignedText>,
}

/// What a step came to.
pub(crate) enum End {
    /// The round goes on.
    Open,
    /// The total is open.
    Opened(Box<Opened>),
    /// The round is given up.
    Void(String),
}

/// An opened total, and what everybody needs to repeat it.
pub(crate) struct Opened {
    pub total: OpenedTotal,
    /// What was refused, by reason.
    pub rejected: BTreeMap<String, u64>,
    pub selection: VerifiedSelection,
    pub sums: EncryptedSums,
    pub opening: SignedText,
    /// The accepted reports of each selected batch.
    pub ids: Vec<(CommitteeIndex, Vec<ReportId>)>,
}

enum Step {
    Collecting,
    Closing,
    Encrypting {
        selection: Box<VerifiedSelection>,
        sums: BTreeMap<NodeId, Encrypted>,
    },
    Decrypting(Box<Decrypting>),
}

/// All sums are here, and the holders are asked.
struct Decrypting {
    selection: VerifiedSelection,
    sums: EncryptedSums,
    opening: SignedText,
    /// By the holders' places in the manifest.
    answers: BTreeMap<usize, SumShare>,
    refused: BTreeMap<usize, String>,
    /// So many answers were tried, and why they open nothing.
    tried: Option<(usize, String)>,
}

/// Most sets of answers that are tried for a total that does not open with all of them.
const MOST_SETS: usize = 500;

impl Decrypting {
    fn step(selection: VerifiedSelection, sums: EncryptedSums, opening: SignedText) -> Step {
        Step::Decrypting(Box::new(Self {
            selection,
            sums,
            opening,
            answers: BTreeMap::new(),
            refused: BTreeMap::new(),
            tried: None,
        }))
    }

    /// Open the total with the answers so far. A wrong answer shows only by a total that does not open; then others are
    /// tried without it.
    fn open(
        &self,
        task: &VerifiedManifest,
        threshold: Threshold,
    ) -> Result<OpenedTotal, OpenError> {
        let try_with = |answers: &[SumShare]| {
            OpenedTotal::open(task, &self.selection, &self.sums, threshold, answers)
        };
        let answers: Vec<_> = self.answers.values().cloned().collect();
        let first = match try_with(&answers) {
            Err(error) if error.is_wrong_answer() => error,
            done => return done,
        };
        let others = choices(answers.len(), threshold.needed().into());
        let others = others.take(MOST_SETS).map(|set| {
            let chosen = set.iter().filter_map(|at| answers.get(*at).cloned());
            chosen.collect::<Vec<_>>()
        });
        let mut totals = others.filter_map(|set| try_with(&set).ok());
        totals.next().ok_or(first)
    }

    /// A holder's answer.
    fn answered(&mut self, place: usize, answer: Response) {
        let read = match answer {
            Response::SumShare(bytes) => self.sums.answer(place, &bytes),
            Response::Refused(why) => Err(why),
            _ => return,
        };
        match read {
            Ok(share) => {
                self.answers.insert(place, share);
            }
            Err(why) => {
                self.refused.insert(place, why);
            }
        }
    }
}

/// All ways to choose `k` of `n`, ascending.
fn choices(n: usize, k: usize) -> impl Iterator<Item = Vec<usize>> {
    let mut next = (k <= n).then(|| (0..k).collect::<Vec<_>>());
    std::iter::from_fn(move || {
        let this = next.take()?;
        // The last one that can still move up, and those after it right behind.
        let moves = (0..k)
            .rev()
            .find(|at| this.get(*at).is_some_and(|v| v + k - at < n));
        next = moves.and_then(|at| {
            let first = this.get(at)? + 1;
            let head = this.iter().take(at).copied();
            Some(head.chain(first..first + k - at).collect())
        });
        Some(this)
    })
}

pub(crate) struct OpenRound {
    opened: VerifiedRound,
    task: VerifiedManifest,
    threshold: Threshold,
    /// Full nodes whose committees are neither waited for nor selected.
    absent: BTreeSet<NodeId>,
    progress: BTreeMap<CommitteeIndex, Progress>,
    closed: BTreeMap<CommitteeIndex, Option<AgreedBatch>>,
    /// The accepted reports of each agreed batch.
    ids: BTreeMap<CommitteeIndex, Vec<ReportId>>,
    /// What was refused in committees that closed without a batch, by reason.
    rejected: BTreeMap<String, u64>,
    enough_at: Option<Millis>,
    closed_at: Option<Millis>,
    /// When this step began; none right after a restart.
    since: Option<Millis>,
    /// Selections so far: each was asked to be encrypted.
    attempt: u32,
    /// So many selections at most.
    most_attempts: u64,
    step: Step,
}

impl OpenRound {
    /// `most_attempts`: how many selections may be encrypted, as each costs privacy.
    pub fn new(
        opened: VerifiedRound,
        task: VerifiedManifest,
        threshold: Threshold,
        most_attempts: u64,
    ) -> Self {
        Self {
            opened,
            task,
            threshold,
            absent: BTreeSet::new(),
            progress: BTreeMap::new(),
            closed: BTreeMap::new(),
            ids: BTreeMap::new(),
            rejected: BTreeMap::new(),
            enough_at: None,
            closed_at: None,
            since: None,
            attempt: 0,
            most_attempts,
            step: Step::Collecting,
        }
    }

    /// Go on from what the store holds. What does not fit together is asked for again.
    pub fn restore(mut self, restored: RestoredRound) -> Self {
        let RestoredRound {
            closed,
            selection,
            sums,
            opening,
        } = restored;
        // Whatever else fits together: it was asked for, and may have been encrypted.
        let signed = selection.as_ref();
        self.attempt = signed.map_or(0, |signed| attempt_of(signed).unwrap_or(1));
        for batch in closed {
            self.close(batch);
        }
        if self.closed.is_empty() {
            return self;
        }
        self.step = Step::Closing;
        let Some(selection) = selection.and_then(|signed| self.reselected(signed).ok()) else {
            return self;
        };
        let sums: BTreeMap<_, _> = sums
            .into_iter()
            .filter_map(|(node, sum)| {
                let verified = Encrypted::verify(&self.task, &selection, node, sum).ok()?;
                Some((node, verified))
            })
            .collect();
        let complete = opening.and_then(|opening| {
            let sums = EncryptedSums::new(&selection, sums.clone()).ok()?;
            sums.is_opened_by(&self.task, &selection, &opening)
                .then_some((sums, opening))
        });
        self.step = match complete {
            Some((sums, opening)) => Decrypting::step(selection, sums, opening),
            None => Step::Encrypting {
                selection: Box::new(selection),
                sums,
            },
        };
        self
    }

    pub fn opened(&self) -> &VerifiedRound {
        &self.opened
    }

    /// Selections that full nodes have been asked to encrypt. What they encrypted can be opened without their help.
    pub fn spent(&self) -> u64 {
        self.attempt.into()
    }

    /// Whether another selection may be encrypted.
    fn may_select(&self) -> bool {
        self.spent() < self.most_attempts
    }

    /// Leave the committees of these nodes out. Once batches are selected that is too late: full nodes stand by a selection.
    pub fn leave_out(&mut self, absent: BTreeSet<NodeId>) {
        if matches!(self.step, Step::Collecting | Step::Closing) {
            self.absent = absent;
        }
    }

    /// Whether a committee has a member that is left out.
    fn lacks(&self, committee: &Committee) -> bool {
        let mut members = committee.members().into_iter();
        members.any(|member| self.absent.contains(&member.node))
    }

    /// What a full node is to be asked now.
    pub fn question(&self, node: &NodeId) -> Option<Request> {
        let place = self.task.place(node)?;
        match &self.step {
            Step::Collecting => None,
            Step::Closing => self
                .unclosed()
                .any(|committee| committee.leader().node == *node)
                .then_some(Request::CloseRound {
                    task: self.opened.task,
                    round: self.opened.round,
                }),
            Step::Encrypting { selection, sums } => {
                let missing = selection.nodes().contains(node) && !sums.contains_key(node);
                missing.then(|| Request::Encrypt(selected(selection)))
            }
            Step::Decrypting(step) => {
                let asked = step.answers.contains_key(&place) || step.refused.contains_key(&place);
                let question = || step.sums.question(&step.selection, &step.opening, place);
                (!asked).then(|| Request::OpenSum(question()))
            }
        }
    }

    /// A full node's answer to what it was asked.
    pub fn answered(&mut self, node: NodeId, answer: Response, out: &mut impl FnMut(Output)) {
        let round = self.opened.round;
        match (answer, &mut self.step) {
            (Response::Closed(batches), Step::Closing) => {
                for batch in batches {
                    if self.closed.contains_key(&batch.committee) || !self.leads(&node, &batch) {
                        continue;
                    }
                    out(Output::StoreClosed(round, batch.clone()));
                    self.close(batch);
                }
            }
            (Response::Encrypted(submission), Step::Encrypting { selection, sums }) => {
                let awaited = selection.nodes().contains(&node) && !sums.contains_key(&node);
                if let Ok(sum) = Encrypted::verify(&self.task, selection, node, *submission)
                    && awaited
                {
                    out(Output::StoreSum(
                        round,
                        node,
                        Box::new(sum.submission().clone()),
                    ));
                    sums.insert(node, sum);
                }
            }
            (answer, Step::Decrypting(step)) => {
                if let Some(place) = self.task.place(&node) {
                    step.answered(place, answer);
                }
            }
            _ => {}
        }
    }

    /// A leader's word on its committee; false if it does not lead it.
    pub fn progress(&mut self, node: &NodeId, progress: Progress) -> bool {
        let committee = self.task.committee(progress.committee);
        let leads = committee.is_some_and(|committee| committee.leader().node == *node);
        if leads && progress.round == self.opened.round {
            self.progress.insert(progress.committee, progress);
        }
        leads
    }

    /// Go on with what has come in.
    pub fn advance(&mut self, now: Millis, key: &NodeKey, out: &mut impl FnMut(Output)) -> End {
        let since = *self.since.get_or_insert(now);
        let impatient = now >= since.saturating_add(PATIENCE_MS);
        let may_select = self.may_select();
        match &mut self.step {
            Step::Collecting => {
                let need = u64::from(self.task.schedule.min_batch);
                let have = self.verified();
                if have < need {
                    self.enough_at = None;
                } else if self.enough_at.is_none() {
                    self.enough_at = Some(now);
                }
                let settle = self.task.schedule.settle_ms;
                let settled = |at: Millis| now >= at.saturating_add(settle);
                if now > self.opened.deadline_ms
                    || self.enough_at.is_some_and(settled)
                    || have >= u64::from(self.task.schedule.max_batch)
                {
                    self.closed_at = Some(now);
                    self.begin(now, Step::Closing);
                }
            }
            Step::Closing => {
                let need = u64::from(self.task.schedule.min_batch);
                let all = self.unclosed().next().is_none();
                let have = self.accepted(&BTreeSet::new());
                if all && have < need {
                    return End::Void(format!(
                        "{have} contributions by the deadline, {need} are needed"
                    ));
                }
                if (all || impatient) && have >= need {
                    return self.select(now, key, &BTreeSet::new(), out);
                }
            }
            Step::Encrypting { selection, sums } => {
                let missing: BTreeSet<_> = selection
                    .nodes()
                    .iter()
                    .filter(|node| !sums.contains_key(node))
                    .copied()
                    .collect();
                if missing.is_empty() {
                    return match self.seal(now, key, out) {
                        Ok(()) => End::Open,
                        Err(error) => End::Void(error.to_string()),
                    };
                }
                let need = u64::from(self.task.schedule.min_batch);
                if impatient && may_select && self.accepted(&missing) >= need {
                    return self.select(now, key, &missing, out);
                }
            }
            Step::Decrypting(step) => {
                let needed = usize::from(self.threshold.needed());
                let have = step.answers.len();
                if have >= needed && step.tried.as_ref().is_none_or(|(tried, _)| have > *tried) {
                    match step.open(&self.task, self.threshold) {
                        Ok(total) => {
                            let selection = step.selection.clone();
                            return End::Opened(Box::new(Opened {
                                total,
                                sums: step.sums.clone(),
                                opening: step.opening.clone(),
                                rejected: self.all_rejected(&selection),
                                ids: self.selected_ids(&selection),
                                selection,
                            }));
                        }
                        // One answer is wrong, and another one may come.
                        Err(error) if error.is_wrong_answer() => {
                            step.tried = Some((have, error.to_string()));
                        }
                        Err(error) => return End::Void(error.to_string()),
                    }
                }
                if have + step.refused.len() == self.task.members.len()
                    && let Some((_, why)) = &step.tried
                {
                    return End::Void(why.clone());
                }
                if self.task.members.len() - step.refused.len() < needed
                    && let Some((place, why)) = step.refused.iter().next()
                {
                    let name = self.task.members.get(*place).map_or("", |m| &m.name);
                    return End::Void(format!("{name} does not open the total: {why}"));
                }
            }
        }
        let begun = self
            .opened
            .deadline_ms
            .min(self.closed_at.unwrap_or(Millis::MAX));
        match now > begun.saturating_add(GRACE_MS) {
            true => End::Void(self.overdue()),
            false => End::Open,
        }
    }

    /// Where the round stands, for people.
    pub fn view(&self) -> OpenRoundView {
        let mut rejected = BTreeMap::new();
        for progress in self.progress.values() {
            count(&mut rejected, &progress.rejected);
        }
        let pending = self.progress.values().map(|p| p.pending);
        OpenRoundView {
            opened: (**self.opened()).clone(),
            phase: self.phase(),
            pending: pending.fold(0, u64::saturating_add),
            verified: self.verified(),
            rejected,
        }
    }

    fn phase(&self) -> RoundPhase {
        match &self.step {
            Step::Collecting => {
                let (have, need) = (self.verified(), u64::from(self.task.schedule.min_batch));
                let trouble = self.progress.values().find_map(|p| match &p.phase {
                    phase @ (RoundPhase::WaitingForMember { .. }
                    | RoundPhase::MemberRefuses { .. }) => Some(phase.clone()),
                    _ => None,
                });
                match trouble {
                    Some(trouble) if have < need => trouble,
                    _ if have >= need => RoundPhase::Settling { have },
                    _ => RoundPhase::WaitingForReports { have, need },
                }
            }
            Step::Closing => RoundPhase::Closing,
            Step::Encrypting { selection, sums } => RoundPhase::Encrypting {
                have: sums.len() as u64,
                need: selection.nodes().len() as u64,
                missing: self.names(selection.nodes().iter().filter(|n| !sums.contains_key(n))),
            },
            Step::Decrypting(step) => RoundPhase::Decrypting {
                have: step.answers.len() as u64,
                need: u64::from(self.threshold.needed()),
            },
        }
    }

    /// What is missing when the round is given up.
    fn overdue(&self) -> String {
        match &self.step {
            Step::Collecting => "nobody has closed it since its deadline".into(),
            Step::Closing => {
                let leaders: BTreeSet<_> =
                    self.unclosed().map(|c| c.leader().name.clone()).collect();
                let names: Vec<_> = leaders.into_iter().collect();
                format!(
                    "{} has not closed its committees, and the others have too few contributions",
                    names.join(" and ")
                )
            }
            Step::Encrypting { selection, sums } => {
                let missing = selection.nodes().iter().filter(|n| !sums.contains_key(n));
                let names = self.names(missing).join(" and ");
                let why = match self.may_select() {
                    true => "without it there are too few contributions",
                    false => "the privacy budget has nothing left for sums without it",
                };
                format!("{names} has not encrypted its sum, and {why}")
            }
            Step::Decrypting(step) => format!(
                "{} of {} full nodes have opened the total, {} are needed",
                step.answers.len(),
                self.task.members.len(),
                self.threshold.needed()
            ),
        }
    }

    fn names<'a>(&self, nodes: impl Iterator<Item = &'a NodeId>) -> Vec<String> {
        let mut names: Vec<_> = nodes
            .filter_map(|node| Some(self.task.member(node)?.name.clone()))
            .collect();
        names.sort();
        names
    }

    fn verified(&self) -> u64 {
        let counts = |index: &CommitteeIndex| {
            let committee = self.task.committee(*index);
            committee.is_some_and(|committee| !self.lacks(&committee))
        };
        let verified = self.progress.iter().filter(|(index, _)| counts(index));
        verified.fold(0, |sum, (_, p)| sum.saturating_add(p.verified))
    }

    fn unclosed(&self) -> impl Iterator<Item = Committee> {
        self.task.committees().filter(|committee| {
            !self.closed.contains_key(&committee.index()) && !self.lacks(committee)
        })
    }

    fn leads(&self, node: &NodeId, batch: &ClosedBatch) -> bool {
        let committee = self.task.committee(batch.committee);
        committee.is_some_and(|committee| committee.leader().node == *node)
    }

    fn close(&mut self, batch: ClosedBatch) {
        // One that breaks a rule is none: the round can do without it, and not with it.
        let agreed = self.read(&batch).unwrap_or_default();
        match agreed {
            None => count(&mut self.rejected, &batch.rejected),
            Some(_) => drop(self.ids.insert(batch.committee, batch.ids)),
        }
        self.closed.insert(batch.committee, agreed);
    }

    fn selected_ids(&self, selection: &VerifiedSelection) -> Vec<(CommitteeIndex, Vec<ReportId>)> {
        let selected = selection.batches.keys();
        let ids = selected.map(|index| (*index, self.ids.get(index).cloned().unwrap_or_default()));
        ids.collect()
    }

    /// What was refused, in all committees, by reason.
    fn all_rejected(&self, selection: &VerifiedSelection) -> BTreeMap<String, u64> {
        let mut all = selection.rejected();
        for (reason, more) in &self.rejected {
            let total = all.entry(reason.clone()).or_default();
            *total = total.saturating_add(*more);
        }
        all
    }

    /// A committee's batch, or that it has none.
    fn read(&self, closed: &ClosedBatch) -> Result<Option<AgreedBatch>, String> {
        if closed.signatures.is_empty() {
            return Ok(None);
        }
        let committee = self.task.committee(closed.committee);
        let committee = committee.ok_or("there is no such committee")?;
        let agreed = AgreedBatch::verify(&committee, self.opened.round, closed.signatures.clone())
            .map_err(|e| e.to_string())?;
        // A batch whose reports nobody can see would be one without receipts, and validators would not accept the round.
        check_ids(&self.task, &self.opened, agreed.summary(), &closed.ids)
            .map_err(|e| e.to_string())?;
        Ok(Some(agreed))
    }

    /// The batches of committees without any of these nodes.
    fn batches<'a>(
        &'a self,
        without: &'a BTreeSet<NodeId>,
    ) -> impl Iterator<Item = (CommitteeIndex, &'a AgreedBatch)> {
        self.closed.iter().filter_map(|(index, batch)| {
            let committee = self.task.committee(*index)?;
            let here = !self.lacks(&committee)
                && committee
                    .members()
                    .iter()
                    .all(|member| !without.contains(&member.node));
            batch.as_ref().filter(|_| here).map(|batch| (*index, batch))
        })
    }

    fn accepted(&self, without: &BTreeSet<NodeId>) -> u64 {
        let batches = self.batches(without);
        batches.fold(0, |sum, (_, batch)| {
            sum.saturating_add(batch.summary().accepted)
        })
    }

    fn verified_selection(
        &self,
        signed: SignedText,
        indices: impl Iterator<Item = CommitteeIndex>,
    ) -> Result<VerifiedSelection, SumError> {
        let signatures = indices
            .filter_map(|index| self.closed.get(&index)?.as_ref())
            .map(|batch| batch.signatures().to_vec())
            .collect();
        VerifiedSelection::verify(&self.task, self.opened.round, signed, signatures)
    }

    fn reselected(&self, signed: SignedText) -> Result<VerifiedSelection, SumError> {
        let selection: Selection = serde_json::from_str(&signed.payload)
            .map_err(|e| SumError::Malformed(e.to_string()))?;
        self.verified_selection(signed, selection.batches.into_keys())
    }

    fn begin(&mut self, now: Millis, step: Step) {
        self.since = Some(now);
        self.step = step;
    }

    fn select(
        &mut self,
        now: Millis,
        key: &NodeKey,
        without: &BTreeSet<NodeId>,
        out: &mut impl FnMut(Output),
    ) -> End {
        if !self.may_select() {
            return End::Void("the task's privacy budget is spent".into());
        }
        self.attempt += 1;
        let selection = Selection {
            task: self.opened.task,
            round: self.opened.round,
            attempt: self.attempt,
            batches: self
                .batches(without)
                .map(|(index, batch)| (index, batch.digest()))
                .collect(),
        };
        let verified = selection
            .sign(key)
            .and_then(|signed| self.verified_selection(signed, selection.batches.into_keys()));
        match verified {
            Ok(selection) => {
                let signed = selection.signed().clone();
                out(Output::StoreSelection(self.opened.round, signed));
                let (selection, sums) = (Box::new(selection), BTreeMap::new());
                self.begin(now, Step::Encrypting { selection, sums });
                End::Open
            }
            Err(error) => End::Void(error.to_string()),
        }
    }

    /// All sums are here: say which are opened, and ask the holders.
    fn seal(
        &mut self,
        now: Millis,
        key: &NodeKey,
        out: &mut impl FnMut(Output),
    ) -> Result<(), OpenError> {
        let Step::Encrypting { selection, sums } = std::mem::replace(&mut self.step, Step::Closing)
        else {
            return Ok(());
        };
        let sums = EncryptedSums::new(&selection, sums)?;
        let opening = sums.sign(&selection, key)?;
        // Before a holder is asked: each answers one opening of a round only.
        out(Output::StoreOpening(self.opened.round, opening.clone()));
        self.begin(now, Decrypting::step(*selection, sums, opening));
        Ok(())
    }
}

/// Which of its round's selections it is.
fn attempt_of(signed: &SignedText) -> Option<u32> {
    let selection = serde_json::from_str::<Selection>(&signed.payload);
    selection.ok().map(|selection| selection.attempt)
}

/// Add counts by code to counts by word.
fn count(all: &mut BTreeMap<String, u64>, rejected: &[(u16, u64)]) {
    for (code, more) in rejected {
        let total = all.entry(Reason::word(*code)).or_default();
        *total = total.saturating_add(*more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_comes_once() {
        let all = |n, k| choices(n, k).collect::<Vec<_>>();
        assert_eq!(all(3, 2), [vec![0, 1], vec![0, 2], vec![1, 2]]);
        assert_eq!(all(4, 3).len(), 4);
        assert_eq!(all(2, 2), [vec![0, 1]]);
        assert_eq!(all(6, 3).len(), 20);
        assert!(all(1, 2).is_empty());
    }
}
