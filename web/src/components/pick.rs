//! Where a person picks rows and sends them on their way.

use leptos::prelude::*;
use wasm_bindgen::JsCast as _;
use web_sys::{DragEvent, HtmlInputElement};

use super::{draw, preview};
use crate::data::Source;
use crate::rows::LEAST_ROWS;
use crate::schema::{Admission, Manifest, Schema};
use crate::session::Session;
use crate::state::Status;

pub fn pick(session: Session) -> impl IntoView {
    let task = Memo::new(move |_| {
        session
            .task()
            .map(|task| (task.id, task.signed.payload, task.sample.is_some()))
    });
    let drawing = RwSignal::new(false);
    view! {
        <section class="card" aria-labelledby="pick-title">
            <h2 id="pick-title">"Your rows"</h2>
            <p class="muted">"Rows are read in this browser and never leave it as they are."</p>
            {move || task.get().map(|(id, payload, sample)| {
                let schema = Schema::of_manifest(&payload);
                drawing.set(false);
                view! { {sources(session, schema.as_ref(), sample, drawing)} {chosen(session, id, schema, drawing)} }
            })}
            {move || session.refused.get().map(|message| view! {
                <div class="notice bad" role="alert" data-testid="error"><p>{message}</p></div>
            })}
            {send(session)}
        </section>
    }
}

fn sources(
    session: Session,
    schema: Option<&Schema>,
    sample: bool,
    drawing: RwSignal<bool>,
) -> impl IntoView + use<> {
    let can_draw = schema.is_some_and(|schema| schema.picture_classes().is_some());
    let needs = schema.map(Schema::told);
    let over = RwSignal::new(false);
    let is = move |wanted: fn(&Source) -> bool| {
        move || {
            (!drawing.get()
                && session
                    .chosen()
                    .is_some_and(|chosen| wanted(&chosen.source)))
            .to_string()
        }
    };
    let take = move |files: Option<web_sys::FileList>| {
        if let Some(file) = files.and_then(|files| files.get(0)) {
            drawing.set(false);
            session.choose_file(file);
        }
    };
    let changed = move |event: web_sys::Event| {
        if let Some(input) = event
            .target()
            .and_then(|target| target.dyn_into::<HtmlInputElement>().ok())
        {
            take(input.files());
            // So that the same file, mended, can be picked again.
            input.set_value("");
        }
    };
    let drag = move |event: DragEvent, inside: bool| {
        event.prevent_default();
        over.set(inside);
    };
    let drop = move |event: DragEvent| {
        event.prevent_default();
        over.set(false);
        take(event.data_transfer().and_then(|data| data.files()));
    };
    view! {
        <div class="sources">
            {sample.then(|| view! {
                <button
                    class="source"
                    data-testid="data-sample"
                    aria-pressed=is(|source| matches!(source, Source::Sample { .. }))
                    on:click=move |_| { drawing.set(false); session.choose_sample(); }
                >
                    <strong>"Use sample data"</strong>
                    <span>"A random slice of real, public rows"</span>
                </button>
            })}
            <label
                class="source"
                class:over=over
                on:dragover=move |event| drag(event, true)
                on:dragleave=move |event| drag(event, false)
                on:drop=drop
            >
                <strong>"Choose a CSV file"</strong>
                <span>"or drop it here, up to 64 MiB"</span>
                <input type="file" accept=".csv,text/csv" data-testid="data-csv" on:change=changed />
            </label>
            {can_draw.then(|| view! {
                <button
                    class="source"
                    data-testid="data-draw"
                    aria-pressed=move || drawing.get().to_string()
                    aria-expanded=move || drawing.get().to_string()
                    on:click=move |_| drawing.update(|drawing| *drawing = !*drawing)
                >
                    <strong>"Draw"</strong>
                    <span>{format!("{LEAST_ROWS} digits of your own, or more")}</span>
                </button>
            })}
        </div>
        {needs.map(|needs| view! { <details><summary>"What a CSV file needs"</summary><p class="muted">{needs}</p></details> })}
    }
}

fn chosen(
    session: Session,
    id: String,
    schema: Option<Schema>,
    drawing: RwSignal<bool>,
) -> impl IntoView {
    let pictures = schema
        .as_ref()
        .is_some_and(|schema| schema.picture_classes().is_some());
    view! {
        {move || drawing.get().then(|| schema.clone()).flatten().map(|schema| draw::draw(session, schema))}
        {move || match session.chosen() {
            Some(chosen) => preview::preview(session, &chosen, id.clone(), pictures).into_any(),
            None => view! { <p class="empty">"No rows picked yet."</p> }.into_any(),
        }}
    }
}

fn send(session: Session) -> impl IntoView {
    let again = Memo::new(move |_| {
        let run = session.run();
        matches!(run.status, Status::Counted | Status::Stopped) && !run.left
    });
    let blocked = Memo::new(move |_| session.blocked());
    let who = Memo::new(move |_| {
        match session
            .task()
            .and_then(|task| session.enrolments.admission(&task))
        {
            None => "nobody checks who takes part, so",
            Some(Admission::Open) => "anybody enrols as many keys as they like, so",
            Some(Admission::Invite | Admission::Approved) => {
                "those who let participants in can let in whom they like, and"
            }
        }
    });
    view! {
        <p class="caution" data-testid="caution">
            <strong>"Use only rows that may become known: "</strong>
            {move || who.get()}
            " someone who makes all the other contributions of a round can work out yours and what it was learnt from."
        </p>
        {move || session.task().map(|task| {
            let (title, text) = task.privacy_text();
            view! { <p class="caution" data-testid="privacy"><strong>{title}</strong>{text}</p> }
        })}
        {move || session.task()
            .and_then(|task| Manifest::read(&task.signed.payload))
            .filter(|manifest| manifest.vdaf.votes > 0)
            .map(|manifest| view! {
                <p class="caution" data-testid="vote">
                    <strong>"A private vote goes with it: "</strong>
                    {format!(
                        "how often the model is right on your rows, in {} steps. Only the number of votes for each step is seen.",
                        manifest.vdaf.votes
                    )}
                </p>
            })}
        <div class="send" id="contribute">
            <button
                class="main"
                data-testid=move || if again.get() { "contribute-again" } else { "contribute" }
                disabled=move || blocked.with(Option::is_some)
                aria-describedby="send-hint"
                on:click=move |_| session.contribute()
            >
                {move || if again.get() { "Contribute again" } else { "Contribute" }}
            </button>
            <p id="send-hint" class="muted" aria-live="polite">
                {move || blocked.get().unwrap_or_else(|| "Trains here, then sends one sealed report.".into())}
            </p>
        </div>
    }
}
