//! What a key has.

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::ledger::Balance;
use crate::light::{self, Failure};

/// How a question stands.
#[derive(Clone)]
enum Asked {
    Nothing,
    Waiting,
    Found(Balance),
    Failed(Failure),
}

pub fn balance() -> impl IntoView {
    let key = RwSignal::new(String::new());
    let asked = RwSignal::new(Asked::Nothing);
    let ask = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let wanted = key.get_untracked().trim().to_owned();
        if wanted.is_empty() || matches!(asked.get_untracked(), Asked::Waiting) {
            return;
        }
        asked.set(Asked::Waiting);
        spawn_local(async move {
            let found = async { light::balance(&light::mesh().await?, &wanted).await };
            let found = match found.await {
                Ok(balance) => Asked::Found(balance),
                Err(failure) => Asked::Failed(failure),
            };
            asked.try_set(found);
        });
    };
    let answer = move || match asked.get() {
        Asked::Nothing => (
            "none",
            "A key has 43 letters and digits; nodes and light nodes are named by theirs."
                .to_owned(),
        ),
        Asked::Waiting => ("waits", "Looking it up…".to_owned()),
        Asked::Found(balance) => ("right", balance.told()),
        Asked::Failed(failure) => ("wrong", failure.told()),
    };
    view! {
        <section class="card" aria-labelledby="balance-title">
            <h2 id="balance-title">"Balance"</h2>
            <form class="lookup" on:submit=ask>
                <label for="balance-key">"Key"</label>
                <input
                    id="balance-key"
                    data-testid="balance-key"
                    type="text"
                    autocomplete="off"
                    autocapitalize="off"
                    spellcheck="false"
                    maxlength="64"
                    aria-describedby="balance-answer"
                    prop:value=move || key.get()
                    on:input=move |event| key.set(event_target_value(&event))
                />
                <button type="submit" data-testid="balance-ask" disabled=move || key.with(|key| key.trim().is_empty())>"Look up"</button>
            </form>
            <p
                id="balance-answer"
                class=move || if answer().0 == "wrong" { "answer bad" } else { "answer" }
                role="status"
                data-testid="balance"
                data-state=move || answer().0
            >
                {move || answer().1}
            </p>
        </section>
    }
}
