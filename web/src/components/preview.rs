//! The picked rows, as far as a person wants to see them, and what is wrong with them.

use leptos::prelude::*;

use crate::data::{Check, Chosen, Source};
use crate::drawing;
use crate::format::count;
use crate::rows::LEAST_ROWS;
use crate::session::Session;

const MOST_PICTURES: usize = 24;

pub fn preview(
    session: Session,
    chosen: &Chosen,
    task: String,
    pictures: bool,
) -> impl IntoView + use<> {
    let drawn: Vec<_> = match &chosen.source {
        Source::Drawn(drawn) => drawn.clone(),
        _ if pictures => chosen
            .preview
            .rows
            .iter()
            .filter_map(|row| drawing::picture(row))
            .collect(),
        _ => Vec::new(),
    };
    let shown = drawn.into_iter().take(MOST_PICTURES).map(|one| {
        let told = format!("a drawn {}", one.class);
        view! { <figure>{super::picture::picture(&one.pixels, &told)}<figcaption>{one.class}</figcaption></figure> }
    });
    view! {
        <div class="chosen">
            <p class="line"><strong data-testid="sample-rows">{chosen.told()}</strong>{state(chosen)}
                <button class="quiet" data-testid="data-remove" on:click=move |_| session.unchoose()>"Remove"</button>
            </p>
            <div class="pictures">{shown.collect_view()}</div>
            {problems(session, chosen, task)}
            {table(chosen)}
        </div>
    }
}

fn state(chosen: &Chosen) -> Option<AnyView> {
    if let Some(missing) = chosen.to_draw() {
        let told = format!(
            "{missing} more to draw: what a model learns from fewer than {LEAST_ROWS} can show them"
        );
        return Some(view! { <span class="muted" data-testid="to-draw">{told}</span> }.into_any());
    }
    match &chosen.check {
        Check::Running => Some(view! { <span class="muted">"checking…"</span> }.into_any()),
        Check::Done(checked) if checked.errors.is_empty() => {
            Some(view! { <span class="fits">"every value fits the task"</span> }.into_any())
        }
        Check::Done(_) | Check::Failed(_) => None,
    }
}

fn problems(session: Session, chosen: &Chosen, task: String) -> Option<AnyView> {
    if chosen.to_draw().is_some() {
        return None;
    }
    match &chosen.check {
        Check::Failed(failure) => Some(
            view! {
                <div class="notice bad" role="alert" data-testid="error">
                    <p>{failure.message.clone()}</p>
                    <button on:click=move |_| session.check(task.clone())>"Check again"</button>
                </div>
            }
            .into_any(),
        ),
        Check::Done(checked) if !checked.errors.is_empty() => {
            let lines = checked.errors.iter().map(|problem| {
                view! { <li><strong>{problem.place()}</strong>": " {problem.message.clone()}</li> }
            });
            let title = format!(
                "{} in these rows; nothing was sent",
                count(checked.errors.len() as u64, "problem")
            );
            Some(
                view! {
                    <div class="notice bad" role="alert" data-testid="problems">
                        <p>{title}</p>
                        <ul tabindex="0" aria-label="Problems">{lines.collect_view()}</ul>
                    </div>
                }
                .into_any(),
            )
        }
        Check::Running | Check::Done(_) => None,
    }
}

fn table(chosen: &Chosen) -> Option<AnyView> {
    let preview = &chosen.preview;
    if preview.header.iter().all(String::is_empty) {
        return None;
    }
    let cells = |row: &Vec<String>| {
        row.iter()
            .map(|cell| view! { <td>{cell.clone()}</td> })
            .collect_view()
    };
    Some(
        view! {
            <div class="scroll" tabindex="0" role="region" aria-label="The first rows" data-testid="preview">
                <table>
                    <thead><tr>
                        {preview.header.iter().map(|name| view! { <th scope="col">{name.clone()}</th> }).collect_view()}
                    </tr></thead>
                    <tbody>{preview.rows.iter().map(|row| view! { <tr>{cells(row)}</tr> }).collect_view()}</tbody>
                </table>
            </div>
        }
        .into_any(),
    )
}
