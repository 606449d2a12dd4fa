//! Asking the model about rows that nobody else can read.

use leptos::prelude::*;

use crate::format::{count, millis};
use crate::light::{Prediction, Scores};
use crate::schema::Schema;
use crate::session::{Asked, Session};

pub fn ask(session: Session) -> impl IntoView {
    let label = Memo::new(move |_| {
        let schema = session
            .task()
            .and_then(|task| Schema::of_manifest(&task.signed.payload));
        schema.map(|schema| schema.label.name).unwrap_or_default()
    });
    let blocked = Memo::new(move |_| session.cannot_ask());
    view! {
        <section class="card" aria-labelledby="ask-title">
            <h2 id="ask-title">"Ask the model"</h2>
            <p class="muted">
                "The rows you picked are encrypted in this browser. A full node scores them without reading them, and only \
                 this browser can open the answer."
            </p>
            <div class="send">
                <button
                    data-testid="ask"
                    disabled=move || blocked.with(Option::is_some)
                    aria-describedby="ask-hint"
                    on:click=move |_| session.ask(label.get_untracked())
                >
                    "Ask about these rows"
                </button>
                <p id="ask-hint" data-testid="ask-hint" class="muted" aria-live="polite">
                    {move || blocked.get().unwrap_or_else(|| "The first 20 at most; nothing of them is kept.".into())}
                </p>
            </div>
            {move || match session.asked() {
                Some(Asked::Answered(scores, known)) => Some(answers(&scores, &known, &label.get()).into_any()),
                Some(Asked::Failed(message)) => Some(view! {
                    <div class="notice bad" role="alert" data-testid="ask-error"><p>{message}</p></div>
                }.into_any()),
                Some(Asked::Waiting) | None => None,
            }}
        </section>
    }
}

fn answers(scores: &Scores, known: &[String], label: &str) -> impl IntoView + use<> {
    let labelled = known.iter().any(|label| !label.is_empty());
    let classes = scores
        .scores
        .iter()
        .any(|score| matches!(score.prediction, Prediction::Class { .. }));
    let rows = scores.scores.iter().zip(known).map(|(score, known)| {
        let (answer, sure) = told(&score.prediction);
        view! {
            <tr data-testid="answer">
                <td>{score.row}</td>
                <td><strong>{answer}</strong></td>
                {sure.map(|sure| view! { <td>{sure}</td> })}
                {labelled.then(|| view! { <td>{known.clone()}</td> })}
            </tr>
        }
    });
    let median = scores.median().unwrap_or_default();
    let note = format!(
        "{} answered {} that it cannot read, {} each.{}",
        scores.node,
        count(scores.scores.len() as u64, "question"),
        millis(median),
        match scores.newest {
            true => "",
            false => " Its model is not the newest one: a round has just ended.",
        },
    );
    view! {
        <div class="scroll fit" tabindex="0" aria-label="Answers">
            <table>
                <thead><tr>
                    <th scope="col">"Row"</th>
                    <th scope="col">"Answer"</th>
                    {classes.then(|| view! { <th scope="col">"Certainty"</th> })}
                    {labelled.then(|| view! { <th scope="col">{format!("Your {label}")}</th> })}
                </tr></thead>
                <tbody>{rows.collect_view()}</tbody>
            </table>
        </div>
        <p class="muted" role="status" data-testid="ask-note" data-ms=median.to_string()>{note}</p>
    }
}

/// The answer, and how sure the model is of a class.
fn told(prediction: &Prediction) -> (String, Option<String>) {
    match prediction {
        Prediction::Class {
            class,
            probabilities,
        } => {
            let most = probabilities.iter().copied().fold(0.0, f64::max);
            (class.clone(), Some(format!("{:.0}%", 100.0 * most)))
        }
        Prediction::Number { value } => {
            let digits = match value.abs() {
                large if large >= 100.0 => 0,
                middle if middle >= 1.0 => 1,
                _ => 3,
            };
            (format!("{value:.digits$}"), None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_as_many_digits_as_help() {
        let number = |value| told(&Prediction::Number { value });
        assert_eq!(number(152.36), ("152".into(), None));
        assert_eq!(number(-4.26), ("-4.3".into(), None));
        assert_eq!(number(0.0126), ("0.013".into(), None));
        let class = Prediction::Class {
            class: "7".into(),
            probabilities: vec![0.02, 0.977],
        };
        assert_eq!(told(&class), ("7".into(), Some("98%".into())));
    }
}
