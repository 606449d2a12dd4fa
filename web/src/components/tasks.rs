//! The tasks one can take part in.

use leptos::prelude::*;

use crate::api::{Privacy, Task};
use crate::format::{count, score};
use crate::live;
use crate::schema::{Admission, Manifest};
use crate::session::{Loaded, Session};

pub fn tasks(session: Session) -> impl IntoView {
    let ids = Memo::new(move |_| match session.tasks.get() {
        Loaded::Here(tasks) => tasks.into_iter().map(|task| task.id).collect::<Vec<_>>(),
        Loaded::Loading | Loaded::Failed(_) => Vec::new(),
    });
    let trouble = Memo::new(move |_| {
        match session.tasks.get() {
        Loaded::Failed(message) => Some(message),
        Loaded::Here(tasks) if tasks.is_empty() => {
            Some("This mesh has no task yet. Whoever runs it makes one with “defim task create”; it appears here by itself.".into())
        }
        Loaded::Loading | Loaded::Here(_) => None,
    }
    });
    view! {
        <section class="card" aria-labelledby="tasks-title">
            <h1 id="tasks-title">"What would you like to help with?"</h1>
            <div class="tasks" role="group" aria-labelledby="tasks-title">
                <Show when=move || session.tasks.with(|tasks| *tasks == Loaded::Loading)>
                    <div class="task blank" aria-hidden="true"></div>
                </Show>
                <For each=move || ids.get() key=|id| id.clone() let(id)>
                    {card(session, id)}
                </For>
            </div>
            {move || session.gone.get().into_values().map(|told| view! {
                <p class="notice warn" role="status" data-testid="task-gone">{told}</p>
            }).collect_view()}
            {move || trouble.get().map(|message| view! {
                <div class="notice bad" role="alert" data-testid="error">
                    <p>{message}</p>
                    <button on:click=move |_| live::load_tasks(session)>"Try again"</button>
                </div>
            })}
        </section>
    }
}

fn card(session: Session, id: String) -> impl IntoView {
    let mine = id.clone();
    let task = Memo::new(move |_| match session.tasks.get() {
        Loaded::Here(tasks) => tasks.into_iter().find(|task| task.id == mine),
        Loaded::Loading | Loaded::Failed(_) => None,
    });
    let show = move |text: fn(&Task) -> String| {
        move || task.with(|task| task.as_ref().map(text).unwrap_or_default())
    };
    let runs = session.runs;
    let worked = id.clone();
    let yours = Memo::new(move |_| match runs.elsewhere(&worked) {
        Some(_) => Some("Another tab takes part".to_owned()),
        None => runs.of(&worked).brief(),
    });
    let chosen = id.clone();
    let pressed = move || {
        session
            .task()
            .is_some_and(|task| task.id == chosen)
            .to_string()
    };
    // Its text never changes for a task's id, and is long.
    let terms =
        Memo::new(move |_| task.with(|task| task.as_ref().map(|task| task.signed.payload.clone())));
    let manifest = Memo::new(move |_| terms.with(|terms| Manifest::read(terms.as_deref()?)));
    let badges = move || {
        let privacy = task.with(|task| task.as_ref().and_then(|task| task.privacy));
        manifest
            .with(|manifest| badges(privacy, manifest.as_ref()))
            .into_iter()
            .map(|badge| view! { " "<span class="badge">{badge}</span> })
            .collect_view()
    };
    view! {
        <button
            class="task"
            aria-pressed=pressed
            data-testid=show(|task| format!("task-{}", task.name))
            on:click=move |_| session.select(id.clone())
        >
            <strong>{show(|task| task.title.clone())}</strong>
            <small class="badges"><code>{show(|task| task.name.clone())}</code>{badges}</small>
            <span>{show(|task| task.summary.clone())}</span>
            <small>{show(facts)}</small>
            <small class="round">{show(Task::round_text)}</small>
            <small class="yours" data-testid=show(|task| format!("yours-{}", task.name))>{yours}</small>
        </button>
    }
}

/// What sets a task apart from others that learn the same.
fn badges(privacy: Option<Privacy>, manifest: Option<&Manifest>) -> Vec<String> {
    let noise = privacy.map(|privacy| format!("Noise, epsilon {}", privacy.epsilon));
    let admission = manifest.and_then(|manifest| manifest.admission);
    let admission = admission.map(|rule| match rule {
        Admission::Open => "Enrol to take part".to_owned(),
        Admission::Invite => "By invitation".to_owned(),
        Admission::Approved => "By approval".to_owned(),
    });
    let shares = manifest
        .map(|manifest| manifest.vdaf.shares)
        .filter(|shares| *shares > 2)
        .map(|shares| format!("{shares} shares"));
    [noise, admission, shares].into_iter().flatten().collect()
}

fn facts(task: &Task) -> String {
    let model = match task.model.as_str() {
        "softmax" => "Softmax regression",
        "mlp" => "Neural network",
        "linear" => "Linear regression",
        other => other,
    };
    format!(
        "{model}, {} · {} done",
        count(task.dimension, "parameter"),
        count(task.rounds_done, "round")
    )
}

/// The newest score with its name.
pub fn quality(task: &Task) -> Option<(&'static str, f64, String)> {
    let metrics = task.latest()?;
    let value = metrics.score()?;
    let is_accuracy = metrics.accuracy.is_some();
    Some((
        if is_accuracy { "Accuracy" } else { "R²" },
        value,
        score(value, is_accuracy),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_says_what_sets_its_task_apart() {
        let manifest = |more: &str| {
            let learning = r#""learning":{"schema":{"columns":[],"label":{"name":"l","kind":{"type":"number","min":0.0,"max":1.0}}}}"#;
            serde_json::from_str::<Manifest>(&format!("{{{learning}{more}}}")).unwrap()
        };
        assert!(badges(None, Some(&manifest(""))).is_empty());
        let privacy = Privacy {
            epsilon: 8.0,
            delta: 1e-5,
            spent: 0.0,
            rounds_left: 3,
        };
        let strict = manifest(r#","admission":"invite","vdaf":{"shares":3}"#);
        assert_eq!(
            badges(Some(privacy), Some(&strict)),
            ["Noise, epsilon 8", "By invitation", "3 shares"]
        );
    }
}
