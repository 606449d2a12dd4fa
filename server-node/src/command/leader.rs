//! Who takes a report: drawn here, and tried from here.

use std::{collections::BTreeSet, time::Duration};

use defim_light::{JoinedTask, ReadyRound};
use defim_net::{http::HttpError, native::Endpoint};
use defim_protocol::{Member, ReportId, wire::protocol};

use super::mesh::MeshClient;
use crate::{
    failure::{Failure, Outcome},
    http::MeshView,
    node::light,
};

/// A leader and the ways to it.
pub(super) struct Leader {
    /// Its name.
    pub name: String,
    /// Its key.
    pub key: [u8; 32],
    /// Base address of its HTTP side.
    pub http: String,
    /// Multiaddresses.
    pub addresses: Vec<String>,
}

/// How many leaders are tried, at most, before a report is made for one of them that is away.
const LEADERS: usize = 3;

/// A report's id, whose leader this device has reached if it has reached one.
///
/// Which of its leaders are up is tried here, and only then drawn anew: on the mesh's word on who is there, the aggregation node
/// could have all reports go to full nodes of its choice.
pub(super) async fn draw(
    task: &JoinedTask,
    round: &ReadyRound,
    mesh: &MeshView,
    client: &MeshClient,
    endpoint: Option<&Endpoint>,
) -> Outcome<ReportId> {
    let mut failed = BTreeSet::new();
    loop {
        let id = task.draw_report_id(round, |node| failed.contains(node), light::fresh_id);
        let committee = task.committee_of(round, &id);
        let leader = Leader::of(committee.leader(), mesh)?;
        let Err(why) = leader.reach(client, endpoint).await else {
            return Ok(id);
        };
        failed.insert(committee.leader().node);
        if failed.len() >= LEADERS.min(task.manifest().members.len()) {
            eprintln!("{} cannot be reached either ({why})", leader.name);
            return Ok(id);
        }
        let name = &leader.name;
        eprintln!("{name} cannot be reached from here ({why}); another committee is drawn");
    }
}

impl Leader {
    /// Where the mesh lists it.
    pub fn of(member: &Member, mesh: &MeshView) -> Outcome<Self> {
        let id = member.node.to_string();
        let node = mesh.nodes.iter().find(|node| node.id == id);
        let node = node.ok_or_else(|| {
            Failure::Integrity(format!(
                "the mesh does not list {}, the leader of a committee of its task",
                member.name
            ))
        })?;
        Ok(Self {
            name: member.name.clone(),
            key: member.node.0,
            addresses: node.native_addresses(),
            http: node.http.clone(),
        })
    }

    /// Connect to it, over one way or the other.
    async fn reach(&self, client: &MeshClient, endpoint: Option<&Endpoint>) -> Result<(), String> {
        if let Some(endpoint) = endpoint.filter(|_| !self.addresses.is_empty()) {
            let connect = Duration::from_millis(defim_light::delivery::CONNECT_MS);
            let (key, addresses) = (self.key, &self.addresses);
            let opened = endpoint.open(key, addresses, protocol::UPLOAD, connect);
            if opened.await.is_ok() {
                return Ok(());
            }
        }
        let address = format!("{}/hpke_config", client.resolve(&self.http));
        match client.http().get_bytes(&address, 1024).await {
            Err(HttpError::Unreachable { why, .. }) => Err(why),
            // A proxy's word that the node behind it is away.
            Err(HttpError::Status { status, .. }) if status >= 500 => {
                Err(format!("it answers with HTTP status {status}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::BTreeMap;

    use defim_full::Secrets;
    use defim_learn::builtin;
    use defim_net::native::{EndpointConfig, Incoming};
    use defim_protocol::{
        Digest, Manifest, NodeKey, RoundOpened, Schedule,
        vdaf::{Scheme, VdafSpec},
    };

    use super::*;
    use crate::{clock, config::Role, http::NodeView};

    struct Scene {
        task: JoinedTask,
        round: ReadyRound,
        mesh: MeshView,
        /// Full nodes that listen.
        _up: Vec<(Endpoint, Incoming)>,
    }

    async fn endpoint(seed: u8, listens: bool) -> Endpoint {
        let quic = listens.then(|| "127.0.0.1:0".parse().unwrap());
        let config = EndpointConfig {
            identity_seed: [seed; 32],
            quic,
            ..EndpointConfig::default()
        };
        Endpoint::start(config).await.unwrap()
    }

    impl Scene {
        /// A task of three full nodes. These listen, and the mesh says that those are there.
        async fn new(up: &[u8], said: &[u8]) -> Self {
            let key = NodeKey::from_seed([9; 32]);
            let spec = builtin("diabetes", None).unwrap().spec;
            let members: Vec<_> = (1..=3)
                .map(|n| {
                    let secrets = Secrets::from_seed([n; 32]);
                    Member {
                        node: secrets.node.id(),
                        name: format!("full-{n}"),
                        hpke: secrets.sealing.config(),
                    }
                })
                .collect();
            let manifest = Manifest {
                name: "diabetes".into(),
                title: String::new(),
                summary: String::new(),
                aggregation: key.id(),
                members: members.clone(),
                vdaf: VdafSpec {
                    scheme: Scheme::Pine64,
                    dimension: spec.dimension(),
                    frac_bits: spec.frac_bits,
                    shares: 2,
                    votes: 0,
                },
                schedule: Schedule {
                    min_batch: 2,
                    max_batch: 9,
                    settle_ms: 0,
                    round_ms: 60_000,
                    rounds: 9,
                },
                privacy: None,
                max_weight: 1,
                admission: None,
                ledger: defim_protocol::LedgerTerms::default(),
                created_ms: 0,
                learning: serde_json::value::to_raw_value(&spec).unwrap(),
            };
            let task = JoinedTask::join(manifest.sign(&key).unwrap(), None).unwrap();
            let opened = RoundOpened {
                task: task.task(),
                round: 1,
                base_model: Digest([0; 32]),
                opened_ms: 0,
                deadline_ms: clock::now() + 60_000,
                weights: BTreeMap::new(),
            };
            let round = task.open_round(opened.sign(&key).unwrap(), clock::now());
            let (mut nodes, mut listening) = (Vec::new(), Vec::new());
            for (n, member) in (1..).zip(&members) {
                let mut addresses = Vec::new();
                if up.contains(&n) {
                    let endpoint = endpoint(n, true).await;
                    addresses = endpoint.addresses().to_vec();
                    let incoming = endpoint.accept(protocol::UPLOAD).unwrap();
                    listening.push((endpoint, incoming));
                }
                nodes.push(NodeView {
                    id: member.node.to_string(),
                    name: member.name.clone(),
                    role: Role::Full,
                    http: "http://127.0.0.1:1".into(),
                    addresses,
                    reachable: said.contains(&n),
                });
            }
            let mesh = serde_json::json!({
                "aggregation": { "id": key.id(), "name": "agg" }, "nodes": nodes,
            });
            Self {
                task,
                round: round.unwrap().without_ledger(),
                mesh: serde_json::from_value(mesh).unwrap(),
                _up: listening,
            }
        }

        /// The leaders of so many reports.
        async fn leaders(&self, reports: usize) -> BTreeSet<String> {
            let client = MeshClient::new("http://127.0.0.1:1").unwrap();
            let own = endpoint(7, false).await;
            let mut leaders = BTreeSet::new();
            for _ in 0..reports {
                let id = draw(&self.task, &self.round, &self.mesh, &client, Some(&own)).await;
                let committee = self.task.committee_of(&self.round, &id.unwrap());
                leaders.insert(committee.leader().name.clone());
            }
            leaders
        }
    }

    fn named(nodes: &[u8]) -> BTreeSet<String> {
        nodes.iter().map(|n| format!("full-{n}")).collect()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_a_report_goes_to_is_not_for_the_mesh_to_say() {
        let scene = Scene::new(&[1, 2, 3], &[1]).await;
        assert_eq!(scene.leaders(40).await, named(&[1, 2, 3]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_leader_that_is_not_reached_from_here_is_left_out() {
        let scene = Scene::new(&[3], &[1, 2]).await;
        assert_eq!(scene.leaders(12).await, named(&[3]));
        // With all of them away the report is made all the same, and waits.
        let scene = Scene::new(&[], &[1, 2, 3]).await;
        assert!(!scene.leaders(1).await.is_empty());
    }
}
