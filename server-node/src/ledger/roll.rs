//! Who is enrolled: a full node keeps the list of each of its tasks' light nodes, each proven by the ledger.

use std::{collections::BTreeSet, time::Duration};

use defim_ledger::{LightSlot, NodeId, TaskId};

use super::{client::LedgerClient, codec::Place};
use crate::{failure::Outcome, node::full::FullNode};

/// How often it is looked for newcomers.
const LOOK: Duration = Duration::from_millis(500);

/// Keep a full node's lists, for ever.
pub async fn keep(node: FullNode, client: LedgerClient) {
    loop {
        tokio::time::sleep(LOOK).await;
        for served in node.all_served() {
            if served.manifest.admission.is_none() {
                continue;
            }
            let task = served.manifest.task();
            match listed(&client, task, &node.enrolled(&task)).await {
                Ok(Some(keys)) => node.set_enrolled(&task, keys),
                Ok(None) => {}
                Err(failure) => tracing::debug!(%task, %failure, "who is enrolled is asked again"),
            }
        }
    }
}

/// The keys of a task, if they are others than those that are known. What a validator says of a newcomer is proven; that a key
/// has gone is its word, which costs that light node a round at most.
async fn listed(
    client: &LedgerClient,
    task: TaskId,
    known: &BTreeSet<NodeId>,
) -> Outcome<Option<BTreeSet<NodeId>>> {
    let said: BTreeSet<_> = client.lights(task).await?.into_iter().collect();
    if said == *known {
        return Ok(None);
    }
    let mut keys: BTreeSet<_> = said.intersection(known).copied().collect();
    for key in said.difference(known) {
        let (_, light) = client
            .at(Place::Light(task, *key), &LightSlot(task, *key))
            .await?;
        if light.is_some_and(|light| light.active) {
            keys.insert(*key);
        }
    }
    Ok(Some(keys))
}
