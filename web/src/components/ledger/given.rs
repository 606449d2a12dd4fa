//! What was contributed from this browser, with the receipts that it keeps.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::ledger::Given;
use crate::light;
use crate::proof::{self, Proof};
use crate::schema::Manifest;
use crate::session::{Loaded, Session};

/// How many are shown, and for how many of them a receipt is asked that is not kept yet.
const MOST: usize = 20;
const MOST_ASKED: usize = 6;

pub fn given(session: Session) -> impl IntoView {
    let listed: RwSignal<Loaded<Vec<(Given, Proof)>>> = RwSignal::new(Loaded::Loading);
    let load = move || {
        spawn_local(async move {
            let all = async { light::given(&light::mesh().await?).await };
            let newest = match all.await {
                Ok(all) => newest(all),
                Err(failure) => {
                    listed.try_set(Loaded::Failed(failure.told()));
                    return;
                }
            };
            // The page may show something else by now.
            if listed.try_set(Loaded::Here(newest.clone())).is_some() {
                return;
            }
            let without = newest.into_iter().filter(|(_, proof)| !proof.is_settled());
            for (
                Given {
                    task,
                    round,
                    report,
                    ..
                },
                _,
            ) in without.take(MOST_ASKED)
            {
                let found = proof::ask(&task, round, &report, 0).await;
                listed.try_update(|listed| put(listed, &report, found));
            }
        });
    };
    load();
    let enrolled = move |id: &str| {
        session.tasks.with(|tasks| match tasks {
            Loaded::Here(tasks) => tasks
                .iter()
                .find(|task| task.id == id)
                .and_then(|task| Manifest::read(&task.signed.payload))
                .is_some_and(|manifest| manifest.admission.is_some()),
            Loaded::Loading | Loaded::Failed(_) => false,
        })
    };
    view! {
        <section class="card" aria-labelledby="given-title">
            <div class="titled">
                <h2 id="given-title">"From this browser"</h2>
                <button class="quiet" data-testid="given-again" on:click=move |_| load()>"Ask again"</button>
            </div>
            <p class="muted">"What you contributed to this mesh, with the receipts that are kept here."</p>
            <ol class="standings" data-testid="given">
                {move || match listed.get() {
                    Loaded::Loading => view! { <li class="empty">"Looking it up…"</li> }.into_any(),
                    Loaded::Failed(message) => view! { <li class="empty">{message}</li> }.into_any(),
                    Loaded::Here(all) if all.is_empty() => {
                        view! { <li class="empty">"Nothing yet. A contribution is listed here once it is delivered."</li> }.into_any()
                    }
                    Loaded::Here(all) => all.into_iter().map(|(given, proof)| {
                        let enrolled = enrolled(&given.task);
                        row(given, &proof, enrolled)
                    }).collect_view().into_any(),
                }}
            </ol>
        </section>
    }
}

/// The newest, with what is known of each.
fn newest(mut all: Vec<Given>) -> Vec<(Given, Proof)> {
    all.sort_by(|a, b| b.sent_ms.total_cmp(&a.sent_ms));
    all.truncate(MOST);
    let proof = |given: Given| {
        let proof = given.receipt.clone().map_or(Proof::Asked, Proof::Right);
        (given, proof)
    };
    all.into_iter().map(proof).collect()
}

fn put(listed: &mut Loaded<Vec<(Given, Proof)>>, report: &str, found: Proof) {
    let Loaded::Here(all) = listed else { return };
    if let Some((_, proof)) = all.iter_mut().find(|(given, _)| given.report == report) {
        *proof = found;
    }
}

fn row(given: Given, proof: &Proof, enrolled: bool) -> impl IntoView + use<> {
    let date = js_sys::Date::new(&given.sent_ms.into());
    let undefined = wasm_bindgen::JsValue::UNDEFINED;
    let day = String::from(date.to_locale_date_string("en-GB", &undefined));
    let time = String::from(date.to_locale_time_string("en-GB"));
    let iso = String::from(date.to_iso_string());
    let (state, told) = match proof {
        // What stands further down the list.
        Proof::Asked => ("waits", "No receipt is kept yet.".to_owned()),
        proof => proof
            .told(enrolled)
            .unwrap_or_else(|| ("none", "This mesh keeps no ledger.".into())),
    };
    view! {
        <li data-testid="given-one" data-state=state data-round=given.round.to_string()>
            <p class="line">
                <strong>{given.task_name}</strong>
                <span class="note">{format!("Round {}", given.round)}</span>
                <time class="figures muted" datetime=iso>{format!("{day}, {time}")}</time>
            </p>
            <p class=if state == "wrong" { "stage bad" } else { "stage" }>{told}</p>
        </li>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::tests::receipt;

    fn one(report: &str, sent_ms: f64, receipt: Option<crate::ledger::Receipt>) -> Given {
        Given {
            report: report.into(),
            task: "t".into(),
            task_name: "digits".into(),
            round: 2,
            sent_ms,
            receipt,
        }
    }

    #[test]
    fn kept_receipts_are_listed_and_those_that_are_missing_are_asked_for() {
        let listed = newest(vec![
            one("old", 1.0, Some(receipt())),
            one("new", 2.0, None),
        ]);
        let reports: Vec<_> = listed
            .iter()
            .map(|(given, _)| given.report.as_str())
            .collect();
        assert_eq!(reports, ["new", "old"]);
        assert_eq!(listed[0].1, Proof::Asked);
        assert!(listed[1].1.is_settled());
        let mut listed = Loaded::Here(listed);
        put(&mut listed, "new", Proof::Right(receipt()));
        let Loaded::Here(listed) = listed else {
            panic!()
        };
        assert!(listed.iter().all(|(_, proof)| proof.is_settled()));
    }
}
