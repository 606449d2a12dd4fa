//! Taking uploads: the one handler behind WebRTC, QUIC, TCP and HTTPS.

use std::sync::{Arc, atomic::Ordering};

use defim_full::{accept_upload, claimed_id};
use defim_net::upload::{Begin, BeginAnswer, UploadHandler, Verdict};
use defim_protocol::{Digest, Reason, ReportId, TaskId};
use defim_store::{NewReport, PartialKey, PutReport};

use super::full::{FullNode, Served};
use crate::clock;

/// Bytes of unfinished uploads a node holds at most.
pub const PARTIAL_BYTES: u64 = 1 << 30;
/// Unfinished uploads a node holds at most.
pub const PARTIAL_COUNT: u64 = 4096;

/// A report could not be taken.
#[derive(Debug)]
pub enum ReceiveError {
    /// Refused, for a public reason.
    Refused(Reason),
    /// This node failed; the sender keeps the report and tries again.
    Broken(String),
}

impl From<Reason> for ReceiveError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl From<defim_store::StoreError> for ReceiveError {
    fn from(error: defim_store::StoreError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// What was done with a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Stored, durably.
    Stored,
    /// It was here already, byte for byte.
    Again,
}

impl FullNode {
    /// The task, if this node takes uploads for it: every full node of a task leads committees.
    pub fn led(&self, task: &TaskId) -> Result<Arc<Served>, Reason> {
        let served = self.served(task).ok_or(Reason::UnknownTask)?;
        if served.paused.load(Ordering::Relaxed) {
            return Err(Reason::Paused);
        }
        Ok(served)
    }

    /// Count a report of the open round that was refused before it was stored.
    pub fn count_refusal(&self, task: &TaskId, reason: Reason) {
        if let Some(served) = self.served(task)
            && let Some(round) = served.round()
        {
            served.count_refusal(round.round, reason);
        }
    }

    /// Take one whole report.
    ///
    /// # Errors
    ///
    /// [`ReceiveError`]; nothing is stored then.
    pub async fn receive(&self, task: TaskId, bytes: Vec<u8>) -> Result<Received, ReceiveError> {
        let result = self.try_receive(task, bytes).await;
        if let Err(ReceiveError::Refused(reason)) = &result {
            self.count_refusal(&task, *reason);
        }
        result
    }

    async fn try_receive(&self, task: TaskId, bytes: Vec<u8>) -> Result<Received, ReceiveError> {
        let served = self.led(&task)?;
        // The first round is about to be told here too.
        let round = served.round().ok_or(Reason::Unavailable)?;
        let now = clock::now();
        let known = self.enrolled(&task);
        // The same report again, after its answer was lost, is answered as the first time, even after its round.
        if let Some(id) = claimed_id(&bytes)
            && let Some(stored) = self.inner.store.report_digest(task.0, id.0).await?
            && stored == Digest::of(&bytes).0
        {
            return Ok(Received::Again);
        }
        let report = tokio::task::block_in_place(|| {
            let secrets = &self.inner.secrets;
            accept_upload(&served.manifest, &round, secrets, &known, now, bytes)
        })?;
        let led = served
            .led
            .get(&report.committee)
            .ok_or(Reason::WrongCommittee)?;
        let status = led
            .status()
            .filter(|status| status.round == round.round)
            // The round was just opened, or this node just started: the sender keeps its report.
            .ok_or_else(|| ReceiveError::Broken("the round is not led yet".into()))?;
        if let Err(reason) = status.accepts {
            return Err(
                match self.inner.store.report_digest(task.0, report.id.0).await? {
                    Some(_) => Reason::Replayed.into(),
                    None => reason.into(),
                },
            );
        }
        let put = self
            .inner
            .store
            .put_report(NewReport {
                task: task.0,
                round: round.round,
                committee: report.committee,
                id: report.id.0,
                digest: report.digest.0,
                bytes: report.bytes,
                time: report.time_s,
                received: now,
            })
            .await?;
        match put {
            PutReport::Stored => {
                led.wake.notify_one();
                Ok(Received::Stored)
            }
            PutReport::Same => Ok(Received::Again),
            PutReport::Conflict => Err(Reason::Replayed.into()),
        }
    }

    async fn begin_upload(&self, begin: &Begin) -> Result<u64, ReceiveError> {
        let task = TaskId(begin.task);
        let served = self.led(&task)?;
        if begin.length > served.report_bytes as u64 {
            return Err(Reason::TooLarge.into());
        }
        if let Some(round) = served.round()
            && clock::now() > round.deadline_ms
        {
            return Err(Reason::TooLate.into());
        }
        Ok(self
            .inner
            .store
            .partial_begin(
                upload_of(begin),
                begin.length,
                clock::now(),
                PARTIAL_BYTES,
                PARTIAL_COUNT,
            )
            .await?)
    }

    async fn finish_upload(&self, begin: &Begin) -> Result<Received, ReceiveError> {
        let bytes = self
            .inner
            .store
            .partial_finish(upload_of(begin))
            .await?
            // Dropped on its way, when this node was told of the round that the report is for.
            .ok_or_else(|| ReceiveError::Broken("the upload is gone; it comes again".into()))?;
        let dropped = self.inner.store.partial_drop(upload_of(begin));
        if Digest::of(&bytes).0 != begin.digest {
            dropped.await?;
            return Err(Reason::Malformed.into());
        }
        let received = self.receive(TaskId(begin.task), bytes).await;
        // A failure of this node keeps the bytes, and so does a key that it has not heard of yet; the sender only asks again.
        let again = matches!(
            received,
            Err(ReceiveError::Broken(_) | ReceiveError::Refused(Reason::NotEnrolled))
        );
        if !again {
            dropped.await?;
        }
        received
    }

    /// What became of a report, for its sender.
    pub async fn report_state(
        &self,
        task: &TaskId,
        id: &ReportId,
    ) -> Result<ReportState, ReceiveError> {
        use defim_store::ReportStatus as S;
        Ok(match self.inner.store.report_status(task.0, id.0).await? {
            None => ReportState::Unknown,
            Some(S::Pending) => ReportState::Pending,
            Some(S::Verified | S::Counted) => ReportState::Verified,
            Some(S::Rejected(code)) => {
                ReportState::Rejected(Reason::from_code(code).unwrap_or(Reason::Malformed))
            }
            Some(S::Dropped) => ReportState::Rejected(Reason::RoundClosed),
        })
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportState {
    /// Never seen.
    Unknown,
    /// Stored, not yet checked by all members.
    Pending,
    /// Its proof held at all members.
    Verified,
    /// Refused.
    Rejected(Reason),
}

fn upload_of(begin: &Begin) -> PartialKey {
    PartialKey {
        task: begin.task,
        id: begin.report_id,
        digest: begin.digest,
    }
}

fn verdict(result: Result<Received, ReceiveError>) -> Verdict {
    match result {
        Ok(_) => Verdict {
            code: 0,
            message: String::new(),
        },
        Err(ReceiveError::Refused(reason)) => Verdict {
            code: reason.code(),
            message: reason.text().to_owned(),
        },
        Err(ReceiveError::Broken(why)) => broken(&why),
    }
}

/// Not a verdict on the report: the sender keeps it and comes again.
fn broken(why: &str) -> Verdict {
    tracing::warn!(why, "a report could not be stored");
    let reason = Reason::Unavailable;
    Verdict {
        code: reason.code(),
        message: reason.text().into(),
    }
}

impl UploadHandler for FullNode {
    async fn begin(&self, begin: &Begin) -> BeginAnswer {
        let stored = self.inner.store.report_digest(begin.task, begin.report_id);
        match stored.await {
            // Its answer was lost: it is not sent again, and may come after the end of its round.
            Ok(Some(digest)) if digest == begin.digest => {
                return BeginAnswer::Verdict(verdict(Ok(Received::Again)));
            }
            Ok(_) => {}
            Err(error) => return BeginAnswer::Verdict(broken(&error.to_string())),
        }
        match self.begin_upload(begin).await {
            Ok(offset) => BeginAnswer::Resume(offset),
            Err(error) => BeginAnswer::Verdict(verdict(Err(error))),
        }
    }

    async fn append(&self, begin: &Begin, offset: u64, bytes: &[u8]) -> Result<(), Verdict> {
        self.inner
            .store
            .partial_append(upload_of(begin), offset, bytes, clock::now())
            .await
            .map(drop)
            .map_err(|e| broken(&e.to_string()))
    }

    async fn finish(&self, begin: &Begin) -> Verdict {
        verdict(self.finish_upload(begin).await)
    }
}
