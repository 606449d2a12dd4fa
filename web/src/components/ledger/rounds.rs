//! The newest rounds, each proven from the ledger's state.

use std::collections::BTreeMap;

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::Blocks;
use crate::ledger::{Listed, Standing};
use crate::light::{self, Failure};
use crate::session::{Loaded, Session};

/// How many are looked up.
const MOST: usize = 6;

type Found = Result<Option<Standing>, Failure>;

pub fn rounds(session: Session, blocks: Blocks) -> impl IntoView {
    let listed = Memo::new(move |_| {
        blocks.listed.with(|listed| match listed {
            Loaded::Here(blocks) => Some({
                let mut rounds = crate::ledger::rounds(blocks);
                rounds.truncate(MOST);
                rounds
            }),
            Loaded::Loading | Loaded::Failed(_) => None,
        })
    });
    let proven = RwSignal::new(BTreeMap::<(String, u64), Found>::new());
    // A round that has moved on shows in newer blocks, and is looked up again.
    Effect::new(move |_| {
        let rounds = listed.get().unwrap_or_default();
        spawn_local(async move {
            for Listed { task, round, .. } in rounds {
                let found =
                    async { light::ledger_round(&light::mesh().await?, &task, round).await };
                let found = found.await;
                proven.try_update(|all| all.insert((task, round), found));
            }
        });
    });
    let name = move |id: &str| {
        session.tasks.with(|tasks| match tasks {
            Loaded::Here(tasks) => tasks
                .iter()
                .find(|task| task.id == id)
                .map(|t| t.title.clone()),
            Loaded::Loading | Loaded::Failed(_) => None,
        })
    };
    let row = move |listed: Listed| {
        let found = proven.with(|all| all.get(&(listed.task.clone(), listed.round)).cloned());
        let title = name(&listed.task).unwrap_or_else(|| {
            // A task that the mesh no longer lists.
            listed.task.chars().take(8).chain(['…']).collect()
        });
        row(&listed, title, found)
    };
    view! {
        <section class="card" aria-labelledby="ledger-rounds-title">
            <h2 id="ledger-rounds-title">"Rounds and rewards"</h2>
            <p class="muted">"Of the listed blocks. Stage, votes and rewards are proven in this browser."</p>
            <ol class="standings" data-testid="ledger-rounds">
                {move || match listed.get() {
                    None => view! { <li class="empty">"Waiting for the blocks"</li> }.into_any(),
                    Some(rounds) if rounds.is_empty() => {
                        view! { <li class="empty">"No round in the listed blocks. Rounds appear when a task opens one."</li> }.into_any()
                    }
                    Some(rounds) => rounds.into_iter().map(row).collect_view().into_any(),
                }}
            </ol>
        </section>
    }
}

/// A row's state, where its round stands, and figures.
type Told = (&'static str, String, Vec<(&'static str, String)>);

fn told(found: Option<Found>) -> Told {
    match found {
        None => ("waits", "Checking…".to_owned(), Vec::new()),
        Some(Ok(Some(standing))) => {
            let reward = match (standing.stage.as_str(), standing.per_report) {
                ("finished", Some(reward)) => reward.to_string(),
                _ => "–".to_owned(),
            };
            let figures = vec![
                ("Reports", standing.accepted.to_string()),
                ("Votes", standing.votes_told()),
                ("Reward per report", reward),
            ];
            ("right", standing.stage_told().to_owned(), figures)
        }
        // A round of long ago, or one that never was: blocks are listed on the mesh's word.
        Some(Ok(None)) => (
            "none",
            "The ledger has no such round, or no longer: rounds whose rewards have run out are dropped.".into(),
            Vec::new(),
        ),
        Some(Err(failure)) => ("wrong", failure.told(), Vec::new()),
    }
}

fn row(listed: &Listed, title: String, found: Option<Found>) -> impl IntoView + use<> {
    let (state, stage, figures) = told(found);
    let opened = listed
        .opened
        .filter(|_| state != "none")
        .map(|height| format!("opened in block {height}"))
        .unwrap_or_default();
    view! {
        <li data-testid="ledger-round" data-state=state data-round=listed.round.to_string()>
            <p class="line">
                <strong>{format!("Round {}", listed.round)}</strong>
                <span class="note">{title}</span>
                <span class="figures muted">{opened}</span>
            </p>
            <p class=if state == "wrong" { "stage bad" } else { "stage" }>{stage}</p>
            <dl>
                {figures.into_iter().map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view()}
            </dl>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_that_the_ledger_does_not_have_is_not_shown_as_proven() {
        let (state, stage, figures) = told(Some(Ok(None)));
        assert_eq!(state, "none");
        assert!(stage.starts_with("The ledger has no such round"), "{stage}");
        assert!(figures.is_empty());
    }
}
