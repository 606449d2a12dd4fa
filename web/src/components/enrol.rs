//! Where a person enrols for a task that counts enrolled participants only.

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::points;
use crate::enrolment::{Enrolment, STATE_ID, Standing};
use crate::proof::Proof;
use crate::schema::Admission;
use crate::session::Session;

// Pages that were not loaded over HTTPS have no clipboard; there the old way works, or the key is at least marked.
#[wasm_bindgen(inline_js = r#"
export async function copy(text, id) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const shown = document.getElementById(id);
        if (shown) getSelection()?.selectAllChildren(shown);
        return document.execCommand("copy");
    }
}
"#)]
extern "C" {
    #[wasm_bindgen(js_name = copy)]
    fn copy_js(text: &str, id: &str) -> js_sys::Promise;
}

const KEY_ID: &str = "enrol-key";
const COPIED_MS: u32 = 3_000;

pub fn enrol(session: Session) -> impl IntoView {
    let asked = Memo::new(move |_| session.enrolment().map(|(rule, _)| rule));
    move || asked.get().map(|rule| section(session, rule))
}

fn section(session: Session, rule: Admission) -> impl IntoView {
    let enrolment = Memo::new(move |_| session.enrolment().map(|(_, enrolment)| enrolment));
    let word =
        Memo::new(move |_| enrolment.with(|now| now.as_ref().map_or("none", |now| now.word(rule))));
    let key = Memo::new(move |_| enrolment.with(|now| now.as_ref().and_then(|now| now.key(rule))));
    let taking_part = Memo::new(move |_| {
        let enrolled = word.get() == "enrolled";
        enrolled.then(|| session.task().map(|task| task.id))?
    });
    // A contribution is proven to be counted: there may be something to claim.
    let earned = Memo::new(move |_| match session.run().proof {
        Proof::Right(receipt) => receipt.round,
        _ => 0,
    });
    let has_form = Memo::new(move |_| matches!(word.get(), "none" | "asking"));
    view! {
        <section class="card" aria-labelledby="enrol-title" data-testid="enrolment" data-state=move || word.get()>
            <h2 id="enrol-title">"Enrol"</h2>
            <p class="muted">{about(rule)}</p>
            <p
                id=STATE_ID
                tabindex="-1"
                role="status"
                class=move || class(word.get())
                data-testid="enrol-state"
            >
                <strong>{move || title(word.get())}</strong>
                {move || enrolment.with(|now| now.as_ref().map(|now| told(now, word.get())))}
            </p>
            {move || has_form.get().then(|| form(session, rule, enrolment, word))}
            {move || key.get().map(|(key, kept)| this_key(key, kept))}
            {move || taking_part.get().map(|task| points::points(task, earned))}
        </section>
    }
}

/// Who is let in, and what a key gives away.
fn about(rule: Admission) -> &'static str {
    match rule {
        Admission::Open => {
            "This task counts enrolled participants only, once a round each. Anybody enrols: a key for this task alone is made \
             and kept in this browser. Everybody can see in which rounds it was counted."
        }
        Admission::Invite => {
            "This task counts invited participants only, once a round each. With the code that you were given, a key for this \
             task alone is made and kept in this browser. Everybody can see in which rounds it was counted."
        }
        Admission::Approved => {
            "This task counts only participants whose keys an administrator has let in, once a round each. A key for this task alone is made \
             and kept in this browser. Everybody can see in which rounds it was counted."
        }
    }
}

fn class(word: &str) -> &'static str {
    match word {
        "enrolled" => "notice",
        "waiting" => "notice warn",
        "removed" => "notice bad",
        "looking" => "muted",
        _ => "unseen",
    }
}

fn title(word: &str) -> &'static str {
    match word {
        "enrolled" => "Enrolled. ",
        "waiting" => "Waiting to be let in. ",
        "removed" => "Removed. ",
        _ => "",
    }
}

fn told(enrolment: &Enrolment, word: &str) -> String {
    let block = match &enrolment.standing {
        Standing::Known(known) => known.block.told(),
        _ => String::new(),
    };
    match word {
        "enrolled" => format!("Verified in this browser: {block}."),
        "waiting" => {
            "Send this key to whoever runs the task. This page notices by itself when it is let in."
                .into()
        }
        "removed" => format!(
            "An administrator has ended this key's part in the task. Only they can let it in again: send it to them. \
             Verified in this browser: {block}."
        ),
        "looking" => match &enrolment.refused {
            Some(refused) => format!("{refused} It is tried again every few seconds."),
            None => "Looking up on the ledger whether this browser is enrolled…".into(),
        },
        "asking" => "Enrolling…".into(),
        _ => String::new(),
    }
}

fn form(
    session: Session,
    rule: Admission,
    enrolment: Memo<Option<Enrolment>>,
    word: Memo<&'static str>,
) -> impl IntoView {
    let code = RwSignal::new(String::new());
    let missing = RwSignal::new(false);
    let asking = move || word.get() == "asking";
    let refused = Memo::new(move |_| {
        if missing.get() {
            return Some("Type or paste the code that you were given.".to_owned());
        }
        enrolment.with(|now| now.as_ref().and_then(|now| now.refused.clone()))
    });
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        let typed = code.get_untracked();
        missing.set(rule == Admission::Invite && typed.trim().is_empty());
        if !missing.get_untracked() {
            session.enrol(typed);
        }
    };
    let bad = move || refused.with(Option::is_some);
    view! {
        <form class="lookup enrol" on:submit=submit>
            {(rule == Admission::Invite).then(|| view! {
                <label for="invite-code">"Invite code"</label>
                <input
                    id="invite-code"
                    data-testid="invite-code"
                    type="text"
                    autocomplete="off"
                    autocapitalize="characters"
                    spellcheck="false"
                    maxlength="200"
                    placeholder="3K7QM-…"
                    aria-invalid=move || bad().to_string()
                    aria-describedby="enrol-error"
                    prop:value=move || code.get()
                    on:input=move |event| { code.set(event_target_value(&event)); missing.set(false); }
                />
            })}
            <button type="submit" class="main" data-testid="enrol" aria-disabled=move || asking().to_string() aria-describedby="enrol-error">
                {move || if asking() { "Enrolling…" } else { "Enrol" }}
            </button>
        </form>
        <p id="enrol-error" class="answer bad" role="alert" data-testid="enrol-error">{move || refused.get()}</p>
    }
}

fn this_key(key: String, kept: bool) -> impl IntoView {
    let copied = RwSignal::new(None::<bool>);
    let shown = key.clone();
    let copy = move |_| {
        let done = JsFuture::from(copy_js(&key, KEY_ID));
        spawn_local(async move {
            let done = done.await.is_ok_and(|done| done.is_truthy());
            copied.try_set(Some(done));
            TimeoutFuture::new(COPIED_MS).await;
            copied.try_set(None);
        });
    };
    let hint = move || match copied.get() {
        None => "",
        Some(true) => "Copied.",
        Some(false) => "It is marked: copy it by hand.",
    };
    view! {
        <div class="own">
            <p class="muted">"This browser's public key for this task"</p>
            <code id=KEY_ID class="key" data-testid="enrol-key">{shown}</code>
            <button data-testid="copy-key" on:click=copy>"Copy the key"</button>
            <span class="muted" role="status" data-testid="copied">{hint}</span>
        </div>
        {(!kept).then(|| view! {
            <p class="notice warn" data-testid="key-not-kept">
                "This browser refuses to keep the key: after this page is closed it is another one. Allow storage for this \
                 page, or use another window."
            </p>
        })}
    }
}
