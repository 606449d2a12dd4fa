//! Reports, their outcomes, and the replay cache.

use sqlx::{Row as _, Sqlite, Transaction};

use crate::{
    BatchKey, DigestKey, ReportKey, StoreError, TaskKey, WorkStore,
    row::{array, bytes, number, signed},
};

/// A report to store.
#[derive(Debug, Clone)]
pub struct NewReport {
    /// Its task.
    pub task: TaskKey,
    /// Its round.
    pub round: u64,
    /// The committee that checks it.
    pub committee: u32,
    /// Its id.
    pub id: ReportKey,
    /// Digest of its bytes.
    pub digest: DigestKey,
    /// Its bytes, sealed.
    pub bytes: Vec<u8>,
    /// When it was made, seconds.
    pub time: u64,
    /// When it came, milliseconds.
    pub received: u64,
}

/// What became of [`WorkStore::put_report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutReport {
    /// Stored.
    Stored,
    /// The same bytes are stored already, in the same round.
    Same,
    /// The id is used up.
    Conflict,
}

/// What became of [`WorkStore::claim_helper_report`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimReport {
    /// Never seen before; claimed now.
    New,
    /// Claimed before, with the same bytes in the same round.
    Same,
    /// The id is used up.
    Conflict,
}

/// A report that waits for its proof to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingReport {
    /// Its id.
    pub id: ReportKey,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What came of checking a report.
#[derive(Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The proof held.
    Verified {
        /// This node's share.
        out_share: Vec<u8>,
        /// What was answered to the leader; empty at the leader. Of three shares, the first answer.
        response: Vec<u8>,
    },
    /// Refused.
    Rejected {
        /// The public reason's code.
        reason: u16,
    },
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verified { .. } => f.write_str("Verified(redacted)"),
            Self::Rejected { reason } => write!(f, "Rejected({reason})"),
        }
    }
}

/// A helper's part of a report of three shares whose proof it has begun to check.
#[derive(Clone, PartialEq, Eq)]
pub struct BegunReport {
    /// What it finishes with.
    pub state: Vec<u8>,
    /// What was answered to the leader.
    pub response: Vec<u8>,
}

impl std::fmt::Debug for BegunReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BegunReport(redacted)")
    }
}

/// Where a report stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportStatus {
    /// Stored, not yet checked.
    Pending,
    /// Its proof held.
    Verified,
    /// Refused, by code.
    Rejected(u16),
    /// In a closed batch.
    Counted,
    /// Its round ended without it.
    Dropped,
}

/// How many reports a round has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportCounts {
    /// Not yet checked.
    pub pending: u64,
    /// Proof held, in a closed batch or not.
    pub verified: u64,
    /// Refused, by reason code ascending.
    pub rejected_by_reason: Vec<(u16, u64)>,
}

fn code(value: i64) -> Result<u16, StoreError> {
    u16::try_from(value).map_err(|_| StoreError::Damaged("a reason code is out of range"))
}

async fn known(
    tx: &mut Transaction<'static, Sqlite>,
    task: &TaskKey,
    id: &ReportKey,
) -> Result<Option<(DigestKey, u64, i64)>, StoreError> {
    let row = sqlx::query("SELECT digest, round, state FROM report WHERE task = ? AND id = ?")
        .bind(task.as_slice())
        .bind(id.as_slice())
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| {
        Ok((
            array(&row, "digest")?,
            number(&row, "round")?,
            row.try_get("state")?,
        ))
    })
    .transpose()
}

impl WorkStore {
    /// Store a report, once.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the report is not stored then.
    pub async fn put_report(&self, report: NewReport) -> Result<PutReport, StoreError> {
        let mut tx = self.pool.begin().await?;
        match known(&mut tx, &report.task, &report.id).await? {
            Some((digest, round, state))
                if digest == report.digest && round == report.round && state <= 1 =>
            {
                Ok(PutReport::Same)
            }
            Some(_) => Ok(PutReport::Conflict),
            None => {
                sqlx::query(
                    "INSERT INTO report (task, id, round, committee, digest, body) VALUES (?, ?, ?, ?, ?, ?)",
                )
                .bind(report.task.as_slice())
                .bind(report.id.as_slice())
                .bind(signed(report.round)?)
                .bind(report.committee)
                .bind(report.digest.as_slice())
                .bind(report.bytes)
                .execute(&mut *tx)
                .await?;
                tx.commit().await?;
                Ok(PutReport::Stored)
            }
        }
    }

    /// Whether a helper has claimed a report id; nothing is claimed by asking.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn helper_report(
        &self,
        key: BatchKey,
        id: ReportKey,
        digest: DigestKey,
    ) -> Result<ClaimReport, StoreError> {
        let mut tx = self.pool.begin().await?;
        Ok(match known(&mut tx, &key.task, &id).await? {
            None => ClaimReport::New,
            // A refused report is answered as it was the first time.
            Some((first, round, state))
                if first == digest && (state == 2 || round == key.round && state <= 1) =>
            {
                ClaimReport::Same
            }
            Some(_) => ClaimReport::Conflict,
        })
    }

    /// Claim a report id at the helper, once. To be called when its share was opened: whoever could claim an id without a
    /// report could keep the report that it belongs to out.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn claim_helper_report(
        &self,
        key: BatchKey,
        id: ReportKey,
        digest: DigestKey,
    ) -> Result<ClaimReport, StoreError> {
        let BatchKey {
            task,
            round,
            committee,
        } = key;
        let claim = NewReport {
            task,
            round,
            committee,
            id,
            digest,
            bytes: Vec::new(),
            time: 0,
            received: 0,
        };
        Ok(match self.put_report(claim).await? {
            PutReport::Stored => ClaimReport::New,
            PutReport::Same => ClaimReport::Same,
            PutReport::Conflict => self.helper_report(key, id, digest).await?,
        })
    }

    /// Reports whose proof is still to be checked, in order of arrival: at most `limit`, and at most
    /// `max_bytes` of them together, but at least one. No more than that is ever read.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn pending_reports(
        &self,
        key: BatchKey,
        limit: u64,
        max_bytes: u64,
    ) -> Result<Vec<PendingReport>, StoreError> {
        let rows = sqlx::query("SELECT arrival, length(body) AS length FROM report WHERE task = ? AND round = ? AND committee = ? AND state = 0 AND body IS NOT NULL ORDER BY arrival LIMIT ?")
            .bind(key.task.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .bind(signed(limit)?)
            .fetch_all(&self.pool)
            .await?;
        let (mut held, mut reports) = (0_u64, Vec::new());
        for row in &rows {
            held = held.saturating_add(number(row, "length")?);
            if held > max_bytes && !reports.is_empty() {
                break;
            }
            let report = sqlx::query("SELECT id, body FROM report WHERE arrival = ?")
                .bind(row.try_get::<i64, _>("arrival")?)
                .fetch_one(&self.pool)
                .await?;
            reports.push(PendingReport {
                id: array(&report, "id")?,
                bytes: bytes(&report, "body")?,
            });
        }
        Ok(reports)
    }

    /// Refuse reports that were verified here after all; their shares go.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn disown_reports(
        &self,
        key: BatchKey,
        ids: &[ReportKey],
        reason: u16,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for id in ids {
            sqlx::query(
                "UPDATE report SET state = 2, reason = ?, out_share = NULL, response = NULL
                 WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 1",
            )
            .bind(i64::from(reason))
            .bind(key.task.as_slice())
            .bind(id.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// How many reports the round has.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn report_counts(&self, key: BatchKey) -> Result<ReportCounts, StoreError> {
        let rows = sqlx::query(
            "SELECT state, coalesce(reason, 0) AS reason, count(*) AS count FROM report WHERE task = ?1 AND round = ?2 AND committee = ?3 GROUP BY 1, 2",
        )
        .bind(key.task.as_slice())
        .bind(signed(key.round)?)
        .bind(key.committee)
        .fetch_all(&self.pool)
        .await?;
        let mut counts = ReportCounts::default();
        let mut rejected = std::collections::BTreeMap::<u16, u64>::new();
        for row in rows {
            let count = number(&row, "count")?;
            match row.try_get::<i64, _>("state")? {
                0 => counts.pending += count,
                1 | 3 => counts.verified += count,
                2 => *rejected.entry(code(row.try_get("reason")?)?).or_default() += count,
                _ => {}
            }
        }
        counts.rejected_by_reason = rejected.into_iter().collect();
        Ok(counts)
    }

    /// Store what came of checking reports, all or none. An outcome that is there already stays.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn record_outcomes(
        &self,
        key: BatchKey,
        outcomes: &[(ReportKey, Outcome)],
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for (id, outcome) in outcomes {
            let (state, reason, out_share, response) = match outcome {
                Outcome::Verified {
                    out_share,
                    response,
                } => (1, None, Some(out_share), Some(response)),
                Outcome::Rejected { reason } => (2, Some(i64::from(*reason)), None, None),
            };
            sqlx::query(
                "UPDATE report SET state = ?, reason = ?, out_share = ?, response = ?, body = NULL
                 WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 0",
            )
            .bind(state)
            .bind(reason)
            .bind(out_share.map(Vec::as_slice))
            .bind(response.map(Vec::as_slice))
            .bind(key.task.as_slice())
            .bind(id.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Store what was begun of reports that are claimed, all or none. What is there already stays, and so does an outcome.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn record_begun(
        &self,
        key: BatchKey,
        begun: &[(ReportKey, BegunReport)],
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        for (id, BegunReport { state, response }) in begun {
            // Both places are free until there is an outcome, and are emptied with the round whatever they hold.
            sqlx::query(
                "UPDATE report SET out_share = ?, response = ?
                 WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 0 AND response IS NULL",
            )
            .bind(state.as_slice())
            .bind(response.as_slice())
            .bind(key.task.as_slice())
            .bind(id.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// What was begun of a report, until it has an outcome.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn begun(
        &self,
        key: BatchKey,
        id: ReportKey,
    ) -> Result<Option<BegunReport>, StoreError> {
        let row = sqlx::query("SELECT out_share, response FROM report WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 0 AND response IS NOT NULL")
            .bind(key.task.as_slice())
            .bind(id.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok(BegunReport {
                state: bytes(&row, "out_share")?,
                response: bytes(&row, "response")?,
            })
        })
        .transpose()
    }

    /// What came of checking a report, while its round is open.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn outcome(
        &self,
        task: TaskKey,
        id: ReportKey,
    ) -> Result<Option<Outcome>, StoreError> {
        let row = sqlx::query("SELECT state, coalesce(reason, 0) AS reason, out_share, response FROM report WHERE task = ? AND id = ? AND state IN (1, 2)")
            .bind(task.as_slice())
            .bind(id.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| match row.try_get::<i64, _>("state")? {
            1 => Ok(Outcome::Verified {
                out_share: bytes(&row, "out_share")?,
                response: bytes(&row, "response")?,
            }),
            _ => Ok(Outcome::Rejected {
                reason: code(row.try_get("reason")?)?,
            }),
        })
        .transpose()
    }

    /// Where a report stands; `None` if its id was never seen.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn report_status(
        &self,
        task: TaskKey,
        id: ReportKey,
    ) -> Result<Option<ReportStatus>, StoreError> {
        let row = sqlx::query(
            "SELECT state, coalesce(reason, 0) AS reason FROM report WHERE task = ? AND id = ?",
        )
        .bind(task.as_slice())
        .bind(id.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(match row.try_get::<i64, _>("state")? {
                0 => ReportStatus::Pending,
                1 => ReportStatus::Verified,
                2 => ReportStatus::Rejected(code(row.try_get("reason")?)?),
                3 => ReportStatus::Counted,
                _ => ReportStatus::Dropped,
            })
        })
        .transpose()
    }

    /// Digest of the report under this id, for ever.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn report_digest(
        &self,
        task: TaskKey,
        id: ReportKey,
    ) -> Result<Option<DigestKey>, StoreError> {
        let row = sqlx::query("SELECT digest FROM report WHERE task = ? AND id = ?")
            .bind(task.as_slice())
            .bind(id.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| array(&row, "digest")).transpose()
    }

    /// Ids of all verified reports of an open round, ascending.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn verified_ids(&self, key: BatchKey) -> Result<Vec<ReportKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM report WHERE task = ? AND round = ? AND committee = ? AND state = 1 ORDER BY id",
        )
        .bind(key.task.as_slice())
        .bind(signed(key.round)?)
        .bind(key.committee)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| array(row, "id")).collect()
    }

    /// The reports of a closed batch, ascending.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn counted_ids(&self, key: BatchKey) -> Result<Vec<ReportKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT id FROM report WHERE task = ? AND round = ? AND committee = ? AND state = 3 ORDER BY id",
        )
        .bind(key.task.as_slice())
        .bind(signed(key.round)?)
        .bind(key.committee)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| array(row, "id")).collect()
    }

    /// Hand this node's share of each of these reports to `fold`, one at a time, in the order given.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingShare`], or [`StoreError::Caller`] with what `fold` said.
    pub async fn fold_out_shares<E: std::fmt::Display>(
        &self,
        key: BatchKey,
        ids: &[ReportKey],
        mut fold: impl FnMut(&ReportKey, &[u8]) -> Result<(), E>,
    ) -> Result<(), StoreError> {
        for id in ids {
            let row = sqlx::query("SELECT out_share FROM report WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 1")
                .bind(key.task.as_slice())
                .bind(id.as_slice())
                .bind(signed(key.round)?)
                .bind(key.committee)
                .fetch_optional(&self.pool)
                .await?
                .ok_or(StoreError::MissingShare)?;
            fold(id, &bytes(&row, "out_share")?).map_err(|e| StoreError::Caller(e.to_string()))?;
        }
        Ok(())
    }
}
