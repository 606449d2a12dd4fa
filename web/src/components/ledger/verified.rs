//! The line that says what this browser has checked of the ledger.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::ledger::{Status, is_unreached};
use crate::light::{self, Failure};
use crate::session::Session;

/// How a check stands.
#[derive(Clone, PartialEq)]
enum Check {
    Running,
    Done(Status),
    Refused(Failure),
}

pub fn verified(session: Session, height: Memo<Option<u64>>) -> impl IntoView {
    let check = RwSignal::new(Check::Running);
    let busy = RwSignal::new(false);
    let run = move || {
        if busy.get_untracked() {
            return;
        }
        busy.set(true);
        spawn_local(async move {
            let found = async { light::ledger(&light::mesh().await?).await };
            let found = match found.await {
                Ok(status) => Check::Done(status),
                Err(failure) => Check::Refused(failure),
            };
            check.try_set(found);
            busy.try_set(false);
        });
    };
    let trust = move |_| {
        spawn_local(async move {
            let forgotten = async { light::forget_ledger(&light::mesh().await?).await };
            match forgotten.await {
                Ok(()) => run(),
                Err(failure) => drop(check.try_set(Check::Refused(failure))),
            }
        });
    };
    // Every time the mesh says that there is more.
    Effect::new(move |_| {
        if height.get().is_some() {
            run();
        }
    });
    let state = move || check.with(word);
    view! {
        <section class="card" aria-labelledby="ledger-title">
            <div class="titled">
                <h1 id="ledger-title">"Ledger"</h1>
                <button class="quiet" data-testid="check-again" disabled=move || busy.get() on:click=move |_| run()>"Check again"</button>
            </div>
            <p class="muted">"What the mesh has agreed on: nodes, tasks, rounds, votes and rewards. Validation nodes sign each block, and your browser checks their signatures."</p>
            <div class=move || class(state()) role="status" data-testid="verified" data-state=state data-code=move || check.with(code)>
                <p>
                    <strong>{move || check.with(title)}</strong>
                    {move || check.with(told)}
                </p>
                <p class="muted">{move || check.with(whose)}</p>
            </div>
            {move || (check.with(code).as_deref() == Some("other-chain")).then(|| view! {
                <p class="row again">
                    <button data-testid="trust-new" on:click=trust>"The operators confirm it: trust the new ledger"</button>
                </p>
            })}
            {move || session.mesh.with(|mesh| matches!(mesh, crate::session::Loaded::Failed(_))).then(|| view! {
                <p class="notice warn" data-testid="ledger-away">"The mesh cannot be reached, so this may not be the newest block. It is tried again every few seconds."</p>
            })}
        </section>
    }
}

fn word(check: &Check) -> &'static str {
    match check {
        Check::Running => "waits",
        Check::Done(status) if status.is_older() => "older",
        Check::Done(_) => "right",
        Check::Refused(failure) if is_unreached(&failure.code) => "unknown",
        Check::Refused(_) => "wrong",
    }
}

fn class(word: &str) -> &'static str {
    match word {
        "wrong" => "verdict notice bad",
        "unknown" | "older" => "verdict notice warn",
        _ => "verdict notice",
    }
}

fn code(check: &Check) -> Option<String> {
    match check {
        Check::Refused(failure) => Some(failure.code.clone()),
        Check::Running | Check::Done(_) => None,
    }
}

fn title(check: &Check) -> &'static str {
    match word(check) {
        "waits" => "Checking in this browser… ",
        "right" => "Verified in this browser: ",
        "older" => "The mesh shows an older block than it did: ",
        "unknown" => "Could not be checked: ",
        _ => "Refused by this browser: ",
    }
}

fn told(check: &Check) -> String {
    match check {
        Check::Running => "The light node is loaded for it.".into(),
        Check::Done(status) => status.told(),
        Check::Refused(failure) => failure.told(),
    }
}

/// What names the ledger, and on whose word it is believed.
fn whose(check: &Check) -> String {
    let Check::Done(status) = check else {
        return "\u{a0}".into();
    };
    let time = js_sys::Date::new(&status.timestamp_ms.into()).to_locale_time_string("en-GB");
    let trust = match status.trust.as_str() {
        "pinned" => "as it was named to this page",
        _ => "as this browser first met it; another one would be refused",
    };
    format!(
        "The block was proposed at {}. Ledger {}, {trust}.",
        String::from(time),
        status.chain
    )
}
