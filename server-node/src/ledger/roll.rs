//! Who is enrolled: a full node keeps the list of each of its tasks' light nodes, each proven by the ledger.

use std::{collections::BTreeSet, time::Duration};

use defim_ledger::{LightSlot, NodeId, TaskId};
use futures::{StreamExt as _, stream};

use super::{client::LedgerClient, codec::Place};
use crate::{failure::Outcome, node::full::FullNode};

/// How often it is looked for newcomers.
const LOOK: Duration = Duration::from_millis(500);
/// Most keys that are proven in one look: the others are in the next ones.
const MOST: usize = 2_048;
/// Proofs that are asked for at once.
const AT_ONCE: usize = 32;

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

/// The keys of a task, if they are others than those that are known. The lists say only where to look: a key comes and goes
/// by the proof of its own place, under a header no older than any before. So nobody is let in or put out by a validator's word.
async fn listed(
    client: &LedgerClient,
    task: TaskId,
    known: &BTreeSet<NodeId>,
) -> Outcome<Option<BTreeSet<NodeId>>> {
    let said = client.lights(task).await?;
    let mut keys = known.clone();
    let others: Vec<_> = said
        .symmetric_difference(known)
        .take(MOST)
        .copied()
        .collect();
    let asked = others.into_iter().map(|key| async move {
        let slot = LightSlot(task, key);
        (key, client.at(Place::Light(task, key), &slot).await)
    });
    let mut places = stream::iter(asked).buffered(AT_ONCE);
    while let Some((key, place)) = places.next().await {
        match place {
            Ok((_, Some(light))) if light.active => keys.insert(key),
            Ok(_) => keys.remove(&key),
            // What was proven before counts.
            Err(failure) if keys == *known => return Err(failure),
            Err(_) => break,
        };
    }
    Ok((keys != *known).then_some(keys))
}

#[cfg(test)]
mod tests {
    use defim_ledger::Body;

    use super::super::fake::{Lie, TASK, World, admin, four, key};
    use super::*;

    #[tokio::test]
    async fn no_validator_puts_anybody_out_or_lets_anybody_in_by_its_word() {
        let world = || {
            let mut world = World::with_task();
            for light in 20..23 {
                world.enrol(light);
            }
            world
        };
        let all: BTreeSet<_> = (20..23).map(|light| key(light).id()).collect();
        let stranger = key(50).id();
        for lie in [
            Lie::Lights(vec![]),
            Lie::Lights(vec![stranger]),
            Lie::Lights((60..90).map(|light| key(light).id()).collect()),
            Lie::Silent,
        ] {
            let (_world, _fakes, client) = four(world(), lie.clone()).await;
            let from_nobody = listed(&client, TASK, &BTreeSet::new()).await.unwrap();
            assert_eq!(from_nobody, Some(all.clone()), "{lie:?}");
            assert_eq!(listed(&client, TASK, &all).await.unwrap(), None, "{lie:?}");
        }
        // All lists are empty, and still the proof of each place is what counts.
        let (world, fakes, client) = four(world(), Lie::None).await;
        for fake in &fakes {
            *fake.lie.lock().unwrap() = Lie::Lights(vec![]);
        }
        assert_eq!(listed(&client, TASK, &all).await.unwrap(), None);
        let gone = key(21).id();
        let remove = Body::RemoveLight {
            task: TASK,
            key: gone,
        };
        world.lock().unwrap().sent(&admin(), vec![remove]);
        // Which is taken up at the latest when another validator is asked.
        let mut left = all.clone();
        left.remove(&gone);
        assert_eq!(listed(&client, TASK, &all).await.unwrap(), Some(left));
    }
}
