//! "Where is my data": a contribution's way, station by station.

use leptos::prelude::*;

use crate::format::{bytes, change, millis, score};
use crate::light::{self, Via};
use crate::memory::Left;
use crate::proof::{Proof, is_other_ledger};
use crate::route::{Page, Route, link};
use crate::schema::Manifest;
use crate::session::{Loaded, Session, current};
use crate::state::{Effect, Mark, Run, Status, Step, sentence};

pub fn strip(session: Session, route: Route) -> impl IntoView {
    let run = Memo::new(move |_| session.run());
    let counted = Memo::new(move |_| run.with(|run| run.effect.as_ref().map(|e| e.round)));
    let stations = Step::ALL
        .into_iter()
        .map(|step| station(session, run, step))
        .collect_view();
    view! {
        <section class="card" aria-labelledby="strip-title">
            <div class="titled">
                <h2 id="strip-title">"Where is my data?"</h2>
                <button
                    class="quiet"
                    data-testid="stop"
                    data-on=move || run.with(Run::busy).to_string()
                    disabled=move || !run.with(Run::busy)
                    on:click=move |_| session.stop()
                >
                    "Stop"
                </button>
            </div>
            {move || session.elsewhere().map(elsewhere)}
            {move || run.with(|run| run.resumed).then(|| view! {
                <p class="notice" data-testid="resume-note">
                    "This contribution was made in this browser before."
                </p>
            })}
            <ol class="strip">{stations}</ol>
            {move || kept(session, &run.get())}
            {move || run.with(|run| problem(run, route))}
            {move || run.with(|run| run.effect.as_ref().map(|found| effect(found, &run.proof)))}
            {move || counted.get().map(|round| after(session, route, round))}
        </section>
    }
}

fn station(session: Session, run: Memo<Run>, step: Step) -> impl IntoView {
    let mark = move || run.with(|run| run.at(step).mark);
    let title = move || match (step, run.with(|run| run.round)) {
        (Step::Counted, Some(round)) => format!("Counted in round {round}"),
        _ => name(step).to_owned(),
    };
    let figures = move || {
        run.with(|run| {
            let at = run.at(step);
            [at.bytes.map(bytes), at.ms.map(millis)]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" · ")
        })
    };
    let note = move || run.with(|run| run.at(step).note.clone());
    let parties = move || {
        session
            .task()
            .and_then(|task| task.round)
            .map(|round| round.min_batch)
    };
    view! {
        <li
            data-testid=format!("step-{}", word(step))
            data-state=move || mark().word()
            aria-current=move || run.with(|run| current(run) == Some(step)).then_some("step")
        >
            <span class="mark" aria-hidden="true"></span>
            <div>
                <p class="line">
                    <strong>{title}</strong>
                    <span class="unseen">", " {move || mark().told()}</span>
                    <span class="note">{note}</span>
                    <span class="figures">{figures}</span>
                </p>
                <p class="muted">{move || meaning(step, parties())}</p>
                {(step == Step::Read).then(|| opening(session, run))}
                {(step == Step::Sent).then(|| way(run))}
            </div>
        </li>
    }
}

/// What the ledger says of the round, before anything is trained. Its place is kept on a mesh that has one.
fn opening(session: Session, run: Memo<Run>) -> impl IntoView {
    let keeps = Memo::new(move |_| {
        session
            .mesh
            .with(|mesh| matches!(mesh, Loaded::Here(mesh) if mesh.ledger.is_some()))
    });
    let told = move || {
        run.with(|run| match (&run.opening, run.round) {
            (Some(opening), Some(round)) => {
                let told = opening.told();
                format!("Before training: the opening of round {round} is final, verified in this browser at {told}.")
            }
            _ if run.at(Step::Read).mark == Mark::Running => {
                "Waiting until the round's opening is final on the ledger…".to_owned()
            }
            _ => "Trained only if the round's opening is final on the ledger, checked here.".to_owned(),
        })
    };
    let state = move || {
        run.with(|run| {
            if run.opening.is_some() {
                "right"
            } else {
                "waits"
            }
        })
    };
    move || {
        (keeps.get() || run.with(|run| run.opening.is_some())).then(|| {
            view! {
                <p class="final" data-testid="opening" data-state=state>{told}</p>
            }
        })
    }
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Read => "read",
        Step::Trained => "trained",
        Step::Split => "split",
        Step::Sealed => "sealed",
        Step::Sent => "sent",
        Step::Counted => "counted",
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Read => "On this device",
        Step::Trained => "Trained",
        Step::Split => "Split and proved",
        Step::Sealed => "Sealed",
        Step::Sent => "Sent",
        Step::Counted => "Counted in the round",
    }
}

fn meaning(step: Step, parties: Option<u32>) -> String {
    match step {
        Step::Read => "Your rows are read and checked in this browser. They stay here.".into(),
        Step::Trained => "The model learns from your rows here. Only the change it made, cut to a fixed length, goes on.".into(),
        Step::Split => "The change is split into shares, one for each full node that checks it; all but one of them \
                        are random noise together. A proof shows that it is no longer \
                        than the task allows, and nothing else about it."
            .into(),
        Step::Sealed => "Each share is encrypted for one full node, so that nobody in between can open it.".into(),
        Step::Sent => "Each full node opens its own share only, which is random noise. To read your change, all that have a share of it would have to work together.".into(),
        Step::Counted => match parties {
            Some(parties) => format!("Only the sum of at least {parties} contributions, whoever makes them, is ever opened, and the model moves by it."),
            None => "Only the sum of all contributions is ever opened, and the model moves by it.".into(),
        },
    }
}

fn way(run: Memo<Run>) -> impl IntoView {
    let path = move || run.with(|run| run.path.clone());
    let told = move || {
        let sent = run.with(|run| run.at(Step::Sent).mark == Mark::Done);
        let verb = if sent { "Sent" } else { "Sending" };
        path().map(|(via, because)| match (via, because) {
            (Via::Webrtc, _) => format!("{verb} over WebRTC, straight to the full node."),
            (Via::Https, Some(because)) => {
                format!("{verb} over HTTPS because {}", sentence(&because))
            }
            (Via::Https, None) => format!("{verb} over HTTPS."),
        })
    };
    let upload = Memo::new(move |_| run.with(|run| run.upload.unwrap_or_default()));
    let shown = move || {
        let upload = upload.get();
        let from = if upload.resumed_from > 0 {
            format!(", going on after {}", bytes(upload.resumed_from))
        } else {
            String::new()
        };
        format!("{} of {}{from}", bytes(upload.sent), bytes(upload.total))
    };
    view! {
        <div class="way" data-on=move || (path().is_some() || upload.get().total > 0).to_string()>
            <p
                data-testid="path"
                data-path=move || path().map(|(via, _)| match via { Via::Webrtc => "webrtc", Via::Https => "https" })
            >
                {told}
            </p>
            <p
                class="upload"
                data-testid="upload-progress"
                data-sent=move || upload.get().sent.to_string()
                data-total=move || upload.get().total.to_string()
                data-resumed=move || upload.get().resumed_from.to_string()
            >
                <progress
                    aria-label="Upload"
                    max=move || upload.get().total.max(1).to_string()
                    value=move || upload.get().sent.to_string()
                ></progress>
                <span>{move || if upload.get().total > 0 { shown() } else { String::new() }}</span>
            </p>
        </div>
    }
}

fn elsewhere(left: Left) -> impl IntoView {
    let doing = match left.delivered {
        Some(delivered) => format!(
            "its contribution waits for round {} to close",
            delivered.round
        ),
        None => "its contribution is on its way".into(),
    };
    view! {
        <div class="notice" role="status" data-testid="other-tab">
            <p>
                {format!("Another tab of this browser takes part in this task: {doing}. It is shown there. ")}
                "Tabs of one browser are one participant; to try this as somebody else, use another browser or a private window."
            </p>
        </div>
    }
}

fn kept(session: Session, run: &Run) -> Option<AnyView> {
    let (told, verb) = match (&run.kept, run.left) {
        (Some(because), _) => (sentence(because), "Try now"),
        (None, true) => (run.kept_told(), "Send now"),
        (None, false) => return ended(run),
    };
    Some(
        view! {
            <div class="notice warn" role="status" data-testid="kept-note">
                <p>{told} " You may close this page and come back."</p>
                <p class="row">
                    <button data-testid="try-now" on:click=move |_| session.try_now()>{verb}</button>
                    <button class="quiet" data-testid="discard" on:click=move |_| session.discard()>"Discard"</button>
                </p>
            </div>
        }
        .into_any(),
    )
}

/// What a person reads who has ended it.
fn ended(run: &Run) -> Option<AnyView> {
    let told = match (run.status, &run.problem, run.discarded) {
        (Status::Stopped, None, false) => "Stopped. Nothing was sent, and nothing is kept.",
        // The last bytes may have arrived when it was stopped.
        (Status::Stopped, None, true) => {
            "Discarded: nothing of it is kept in this browser. If the full node had all of it already, it still counts."
        }
        _ => return None,
    };
    Some(view! { <p class="notice" role="status" data-testid="ended-note">{told}</p> }.into_any())
}

fn problem(run: &Run, route: Route) -> Option<AnyView> {
    let failure = run
        .problem
        .clone()
        .filter(|_| run.status == Status::Stopped)?;
    let lines = failure.problems.unwrap_or_default();
    let lines = lines.into_iter().map(|problem| {
        view! { <li><strong>{problem.place()}</strong>": " {problem.message}</li> }
    });
    Some(
        view! {
            <div class="notice bad" role="alert" data-testid="error" data-code=failure.code.clone()>
                <p>{failure.message}</p>
                {is_other_ledger(&failure.code).then(|| forgetting(route))}
                <ul>{lines.collect_view()}</ul>
            </div>
        }
        .into_any(),
    )
}

/// Where the button is that a refusal speaks of.
fn forgetting(route: Route) -> impl IntoView {
    view! {
        <p data-testid="to-ledger">"The button that forgets the old ledger is on this page: " {link(route, Page::Ledger)}</p>
    }
}

fn effect(effect: &Effect, proof: &Proof) -> impl IntoView + use<> {
    let round = effect.round;
    let (state, class, title) = match proof {
        Proof::Right(_) => (
            "proven",
            "notice good",
            format!("Your contribution was counted in round {round}, proven in this browser."),
        ),
        Proof::NoLedger => (
            "told",
            "notice good",
            format!("Your contribution was counted in round {round}, as the mesh says."),
        ),
        Proof::Asked | Proof::Early { .. } => (
            "waits",
            "notice plain",
            format!(
                "The mesh says that your contribution is counted in round {round}; its proof is on its way."
            ),
        ),
        Proof::Refused(_) | Proof::Voided => (
            "wrong",
            "notice warn",
            format!(
                "The mesh says that your contribution is counted in round {round}, and does not prove it."
            ),
        ),
    };
    let numbers = effect
        .before
        .zip(effect.after)
        .and_then(|(before, after)| before.score().zip(after.score()));
    let is_accuracy = effect.after.is_some_and(|after| after.accuracy.is_some());
    let told = numbers.map(|(before, after)| {
        let name = if is_accuracy { "accuracy" } else { "R²" };
        format!(
            "The model's {name} went from {} to {} ({}) with it, as the mesh says, measured on rows nobody trained on.",
            score(before, is_accuracy),
            score(after, is_accuracy),
            change(before, after, is_accuracy),
        )
    });
    view! {
        <div class=class data-testid="effect" data-state=state>
            <p><strong>{title}</strong> " " {told}</p>
        </div>
    }
}

/// After a round: the part of it that this browser adds up again, once, and what contributing has spent.
fn after(session: Session, route: Route, round: u64) -> impl IntoView {
    let audited = RwSignal::new(None);
    let spent = RwSignal::new(None);
    // Once for a round, however often its task changes.
    let task = untrack(|| session.task().map(|task| task.id));
    leptos::task::spawn_local(async move {
        let Some(task) = task else { return };
        // The page may show something else by now.
        match light::mesh().await {
            Ok(mesh) => {
                let _ = audited.try_set(Some(light::audit(&mesh, &task, round).await));
                let told = light::spent(&mesh, &task).await.ok();
                let _ = spent.try_set(told.and_then(|spent| spent.told()));
            }
            Err(failure) => drop(audited.try_set(Some(Err(failure)))),
        }
    });
    let told = move || match audited.get() {
        None => (
            "waits",
            format!("Adding a part of round {round} up again here…"),
        ),
        Some(Ok(found)) if found.fraud.is_none() => ("right", found.told()),
        Some(Ok(found)) => ("wrong", found.told()),
        Some(Err(failure)) => (
            "unknown",
            format!(
                "Round {round} could not be checked here: {}",
                failure.told()
            ),
        ),
    };
    let class = move || match told().0 {
        "wrong" => "notice bad",
        "unknown" => "notice warn",
        _ => "notice",
    };
    view! {
        <p class=class role="status" data-testid="audit" data-verdict=move || told().0>{move || told().1}</p>
        {receipt(session, route)}
        {move || spent.get().map(|told| view! { <p class="notice" data-testid="spent">{told}</p> })}
    }
}

/// The ledger's receipt, which comes once the validators have voted.
fn receipt(session: Session, route: Route) -> impl IntoView {
    let manifest = Memo::new(move |_| session.task().map(|task| task.signed.payload));
    let enrolled = Memo::new(move |_| {
        let manifest = manifest.get().and_then(|payload| Manifest::read(&payload));
        manifest.is_some_and(|manifest| manifest.admission.is_some())
    });
    let told = Memo::new(move |_| session.run().proof.told(enrolled.get()));
    let is_other = Memo::new(
        move |_| matches!(session.run().proof, Proof::Refused(failure) if is_other_ledger(&failure.code)),
    );
    let is_there = Memo::new(move |_| told.with(Option::is_some));
    let state = move || told.get().map_or("waits", |(state, _)| state);
    let class = move || match state() {
        "wrong" => "notice bad",
        "late" => "notice warn",
        "waits" => "notice plain",
        _ => "notice",
    };
    move || {
        is_there.get().then(|| view! {
            <p class=class role="status" data-testid="receipt" data-state=state>{move || told.get().map(|(_, told)| told)}</p>
            {move || is_other.get().then(|| forgetting(route))}
        })
    }
}
