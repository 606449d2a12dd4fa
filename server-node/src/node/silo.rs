//! A company's own data beside its full node: each round it contributes as any light node does, with the same
//! proof, to the same committees.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use defim_ledger::{RoundOpened, SignedText, round_randomness};
use defim_light::{JoinedTask, SealedReport, Training};
use defim_net::upload::{Report, upload};
use defim_protocol::{Digest, Reason, VerifiedRound, wire::protocol};

use super::{
    full::{FullNode, Served},
    light::{self, Prepared, Who},
    receive::ReceiveError,
};
use crate::{
    clock,
    failure::{Failure, Outcome},
    ledger::client::LedgerClient,
};

const RETRY: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(5);
const UPLOAD: Duration = Duration::from_secs(120);
/// Longest file, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// What a leader has said of the silo's report.
enum Said {
    Stored,
    /// Not now.
    Later(String),
    Refused(Reason),
}

/// Wait until the ledger has this very opening of the round: what it is opened with is then final, as for any light node.
async fn is_on_ledger(ledger: &LedgerClient, round: &RoundOpened, signed: &SignedText) -> Outcome {
    while clock::now() <= round.deadline_ms {
        match ledger.round(round.task, round.round).await {
            Ok(Some(known)) if known.randomness == round_randomness(signed) => {
                return Ok(());
            }
            Ok(Some(_)) => {
                return Err(Failure::Integrity(
                    "the ledger has another opening of this round: the aggregation node has signed two".into(),
                ));
            }
            // It is on its way.
            Ok(None) => {}
            Err(failure) => tracing::debug!(%failure, "the ledger is asked again"),
        }
        tokio::time::sleep(RETRY).await;
    }
    Err(Failure::Unreachable(
        "the round was over before the ledger had its opening".into(),
    ))
}

impl FullNode {
    /// Contribute the silo's rows to a round, unless that was done before.
    pub(super) async fn contribute_silo(self, served: Arc<Served>, round: VerifiedRound) {
        let Some(silo) = self.inner.silo.clone() else {
            return;
        };
        let (name, number) = (&served.manifest.name, round.round);
        match self.try_contribute(&served, &round, &silo).await {
            Ok(None) => {}
            Ok(Some(rows)) => {
                tracing::info!(
                    node = self.name(),
                    task = name,
                    round = number,
                    rows,
                    "the silo has contributed"
                );
            }
            Err(failure) => {
                tracing::warn!(node = self.name(), task = name, round = number, %failure, "the silo does not contribute");
            }
        }
    }

    /// The number of rows, if a contribution was made now.
    async fn try_contribute(
        &self,
        served: &Served,
        round: &VerifiedRound,
        silo: &Path,
    ) -> Outcome<Option<usize>> {
        let done = format!("silo/{}/{}", served.manifest.task(), round.round);
        if self.inner.store.setting(&done).await?.is_some() {
            return Ok(None);
        }
        let length = tokio::fs::metadata(silo).await.map(|file| file.len());
        let cannot = |e: std::io::Error| {
            Failure::Input(format!("the silo {} cannot be read: {e}", silo.display()))
        };
        if length.map_err(cannot)? > MOST_BYTES {
            return Err(Failure::Input(format!(
                "the silo {} has over {MOST_BYTES} bytes; leave rows out",
                silo.display()
            )));
        }
        let csv = tokio::fs::read(silo).await.map_err(cannot)?;
        if let Some(ledger) = self.ledger().await {
            is_on_ledger(&ledger, round, round.signed()).await?;
        }
        let model = self.fetch_model(&round.base_model).await?;
        let Prepared { report, rows, .. } =
            tokio::task::block_in_place(|| self.prepare_silo(served, round, &model, &csv))?;
        served.silo_rows.store(rows as u64, Ordering::Relaxed);
        while clock::now() <= round.deadline_ms
            && served.round().is_some_and(|open| open.round == round.round)
        {
            match self.send(&report).await? {
                Said::Stored => {
                    self.inner
                        .store
                        .put_setting(&done, report.id.as_bytes())
                        .await?;
                    return Ok(Some(rows));
                }
                Said::Refused(reason) => return Err(Failure::Input(reason.to_string())),
                Said::Later(why) => {
                    tracing::debug!(node = self.name(), why, "the silo's report waits");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        Err(Failure::Unreachable(
            "the round was over before its leader took the report".into(),
        ))
    }

    fn prepare_silo(
        &self,
        served: &Served,
        round: &VerifiedRound,
        model: &[u8],
        csv: &[u8],
    ) -> Outcome<Prepared> {
        let task = JoinedTask::join(served.manifest.signed().clone(), None)?;
        let open = task.open_round(round.signed().clone(), clock::now())?;
        let training = Training::start(&task, &open.without_ledger(), model)?;
        light::prepare(&training, csv, Who::Silo(&self.inner.secrets.node))
    }

    async fn send(&self, report: &SealedReport) -> Outcome<Said> {
        let leader = report.committee.leader();
        if leader.node == self.inner.secrets.node.id() {
            let received = self.receive(report.task, report.bytes.clone()).await;
            return Ok(match received {
                Ok(_) => Said::Stored,
                Err(ReceiveError::Refused(reason)) => said(reason.code()),
                Err(ReceiveError::Broken(why)) => Said::Later(why),
            });
        }
        let Some(peer) = self.inner.link.peer(&leader.node) else {
            return Err(Failure::Input(format!(
                "{} is not in this node's configuration",
                leader.name
            )));
        };
        let endpoint = self.inner.link.endpoint();
        let opened = endpoint
            .open(leader.node.0, &peer.addresses, protocol::UPLOAD, CONNECT)
            .await;
        let mut stream = match opened {
            Ok(stream) => stream,
            Err(error) => return Ok(Said::Later(error.to_string())),
        };
        let sent = Report {
            task: report.task.0,
            report_id: report.id.0,
            digest: Digest::of(&report.bytes).0,
            bytes: &report.bytes,
        };
        Ok(
            match tokio::time::timeout(UPLOAD, upload(&mut stream, &sent, |_| {})).await {
                Ok(Ok(verdict)) => said(verdict.code),
                Ok(Err(error)) => Said::Later(error.to_string()),
                Err(_) => Said::Later("the upload stood still".into()),
            },
        )
    }
}

fn said(code: u16) -> Said {
    match Reason::from_code(code) {
        None if code == 0 => Said::Stored,
        None => Said::Refused(Reason::Malformed),
        Some(reason) if reason.may_pass() => Said::Later("not now".into()),
        Some(reason) => Said::Refused(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use defim_ledger::Body;

    use super::*;
    use crate::ledger::fake::{Lie, TASK, World, admin, four, key};

    #[tokio::test]
    async fn a_silo_trains_on_the_ledgers_opening_and_no_other() {
        let mut world = World::with_task();
        let (task, amount) = (TASK, 1_000);
        world.sent(&admin(), vec![Body::FundTask { task, amount }]);
        let opened = RoundOpened {
            task: TASK,
            round: 1,
            base_model: world.state().task(&TASK).unwrap().model,
            opened_ms: 1,
            deadline_ms: clock::now() + 60_000,
            weights: BTreeMap::new(),
        };
        let statement = opened.sign(&key(12)).unwrap();
        let (world, _fakes, client) = four(world, Lie::None).await;
        // It comes to the full nodes before it is final.
        let (of_client, of_opened, of_statement) =
            (client.clone(), opened.clone(), statement.clone());
        let waiting =
            tokio::spawn(async move { is_on_ledger(&of_client, &of_opened, &of_statement).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished());
        world
            .lock()
            .unwrap()
            .sent(&key(12), vec![Body::RoundOpened { statement }]);
        waiting.await.unwrap().unwrap();

        let mut other = opened;
        other.deadline_ms += 1;
        let signed = other.sign(&key(12)).unwrap();
        let said = is_on_ledger(&client, &other, &signed).await.unwrap_err();
        assert!(said.to_string().contains("has signed two"), "{said}");
        // One that never comes.
        other.round = 2;
        other.deadline_ms = clock::now() + 300;
        let signed = other.sign(&key(12)).unwrap();
        assert!(is_on_ledger(&client, &other, &signed).await.is_err());
    }
}
