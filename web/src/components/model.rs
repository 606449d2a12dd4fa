//! How the model gets better, round by round.

use leptos::prelude::*;

use super::tasks::quality;
use crate::api::{Metrics, Record, Task};
use crate::chart::{AREA, HEIGHT, Point, WIDTH, layout};
use crate::format::{count, score};
use crate::session::Session;

/// What the chart shows.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Score,
    Loss,
}

pub fn model(session: Session) -> impl IntoView {
    let task = Memo::new(move |_| session.task());
    let shown = RwSignal::new(Shown::Score);
    let best = move || task.with(|task| task.as_ref().and_then(quality));
    let is_accuracy = move || best().is_none_or(|(name, _, _)| name == "Accuracy");
    let tab = move |this: Shown, name: &'static str| {
        view! {
            <button aria-pressed=move || (shown.get() == this).to_string() on:click=move |_| shown.set(this)>
                {move || if this == Shown::Score && !is_accuracy() { "R²" } else { name }}
            </button>
        }
    };
    view! {
        <section class="card" aria-labelledby="model-title">
            <h2 id="model-title">"The model"</h2>
            <p class="round" data-testid="round-text">
                {move || task.with(|task| task.as_ref().map(place).unwrap_or_else(|| "\u{a0}".into()))}
            </p>
            <p class="score">
                <strong data-testid="accuracy" data-value=move || best().map(|(_, value, _)| value.to_string())>
                    {move || best().map_or_else(|| "–".into(), |(_, _, text)| text)}
                </strong>
                <span class="muted">
                    {move || if is_accuracy() { "accuracy on rows nobody trained on, as the mesh says" } else { "R² on rows nobody trained on, as the mesh says" }}
                </span>
            </p>
            <div class="tabs" role="group" aria-label="The chart shows">
                {tab(Shown::Score, "Accuracy")} {tab(Shown::Loss, "Loss")}
            </div>
            {move || task.with(|task| chart(task.as_ref(), shown.get(), is_accuracy()))}
            {move || task.with(|task| votes(task.as_ref()))}
            <h3>"Rounds"</h3>
            <ol class="history" tabindex="0" aria-label="Rounds, newest first" data-testid="history">
                {move || task.with(|task| history(task.as_ref()))}
            </ol>
        </section>
    }
}

fn place(task: &Task) -> String {
    match &task.round {
        Some(round) if !task.paused => format!("Round {}: {}", round.round, round.text),
        _ => task.round_text(),
    }
}

fn points(task: &Task, value: impl Fn(&Metrics) -> Option<f64>) -> Vec<Point> {
    let first = task.initial.map(|metrics| (0, metrics));
    let records = task
        .history
        .iter()
        .flatten()
        .filter(|record| record.finished());
    let rest = records.filter_map(|record| Some((record.round, record.metrics?)));
    let mut points: Vec<_> = first
        .into_iter()
        .chain(rest)
        .filter_map(|(round, metrics)| {
            Some(Point {
                round,
                value: value(&metrics)?,
            })
        })
        .collect();
    points.sort_by_key(|point| point.round);
    points
}

fn chart(task: Option<&Task>, shown: Shown, is_accuracy: bool) -> impl IntoView + use<> {
    let values = task.map(|task| match shown {
        Shown::Score => points(task, Metrics::score),
        Shown::Loss => points(task, |metrics| Some(metrics.loss)),
    });
    let values = values.unwrap_or_default();
    let (name, most) = match (shown, is_accuracy) {
        (Shown::Score, true) => ("Accuracy", Some(1.0)),
        (Shown::Score, false) => ("R²", Some(1.0)),
        (Shown::Loss, _) => ("Loss", None),
    };
    let told = move |value: f64| score(value, is_accuracy && shown == Shown::Score);
    let laid = layout(&values, most);
    let (left, top, right, bottom) = AREA;
    let spoken = values
        .iter()
        .map(|p| format!("round {}: {}", p.round, told(p.value)))
        .collect::<Vec<_>>()
        .join(", ");
    let view_box = format!("0 0 {WIDTH} {HEIGHT}");
    let inside = laid.map(|chart| {
        // Dots of many rounds would hide the line.
        let dotted = chart.dots.len() <= 40;
        let whole = chart.values.iter().all(|(_, value)| (value * 100.0 - (value * 100.0).round()).abs() < 1e-6);
        let tick = move |value: f64| match (is_accuracy && shown == Shown::Score, whole) {
            (true, true) => format!("{:.0}%", value * 100.0),
            (true, false) => format!("{:.1}%", value * 100.0),
            (false, true) => format!("{value:.2}"),
            (false, false) => format!("{value:.3}"),
        };
        view! {
            {chart.values.into_iter().map(|(y, value)| view! {
                <line class="grid" x1=left x2=right y1=y y2=y />
                <text x={left - 6.0} y={y + 4.0} text-anchor="end">{tick(value)}</text>
            }).collect_view()}
            {chart.rounds.into_iter().map(|(x, round)| view! {
                <text x=x y={bottom + 17.0} text-anchor="middle">{round.to_string()}</text>
            }).collect_view()}
            <path class="axis" d=format!("M{left} {top}V{bottom}H{right}") />
            <polyline class="curve" points=chart.line />
            {dotted.then(|| chart.dots.into_iter().map(|(x, y, point)| view! {
                <circle cx=x cy=y r="3"><title>{format!("Round {}: {}", point.round, told(point.value))}</title></circle>
            }).collect_view())}
        }
    });
    view! {
        <svg class="chart" viewBox=view_box role="img" aria-labelledby="chart-title chart-desc" data-testid="chart">
            <title id="chart-title">{format!("{name} after each round")}</title>
            <desc id="chart-desc">{spoken}</desc>
            {inside}
            <text x={(left + right) / 2.0} y={HEIGHT - 6.0} text-anchor="middle">"Round (0 is the untrained model)"</text>
        </svg>
    }
}

/// How good the newest votes find the model, if the task has votes.
fn votes(task: Option<&Task>) -> Option<impl IntoView + use<>> {
    let records = task?.history.as_ref()?;
    let voted = records.iter().filter(|record| record.votes.is_some());
    let record = voted.max_by_key(|record| record.round)?;
    let votes = record.votes.clone()?;
    let most = votes.bins.iter().copied().max().unwrap_or(0).max(1) as f64;
    let (bins, top) = (votes.bins.len().max(1) as f64, 60.0);
    let width = 300.0 / bins;
    let bars = votes.bins.iter().enumerate().map(|(at, count)| {
        let high = (*count).max(0) as f64 / most * top;
        let said = |edge: usize| edge as f64 * 100.0 / bins;
        view! {
            <rect x={at as f64 * width + 1.0} y={top - high} width={width - 2.0} height=high>
                <title>{format!("{:.0} to {:.0}%: {count}", said(at), said(at + 1))}</title>
            </rect>
        }
    });
    let text = format!(
        "Round {}: {} on the model that it started from. Right on {} of a contributor's rows on average, on {} for the quarter that \
         it serves worst. Only these counts are seen.",
        record.round,
        count(votes.votes, "private vote"),
        score(votes.mean, true),
        score(votes.worst_quarter, true)
    );
    Some(view! {
        <h3>"How well it does for those who contribute"</h3>
        <svg class="votes" viewBox="0 0 300 76" aria-hidden="true">
            {bars.collect_view()}
            <text x="0" y="73">"0%"</text>
            <text x="300" y="73" text-anchor="end">"100%"</text>
        </svg>
        <p class="muted" data-testid="votes">{text}</p>
    })
}

fn history(task: Option<&Task>) -> impl IntoView + use<> {
    let mut records = task
        .and_then(|task| task.history.clone())
        .unwrap_or_default();
    records.sort_by_key(|record| std::cmp::Reverse(record.round));
    if records.is_empty() {
        return view! { <li class="muted">"No round is over yet."</li> }.into_any();
    }
    records
        .iter()
        .map(|record| view! { <li data-outcome=record.outcome.clone()>{line(record)}</li> })
        .collect_view()
        .into_any()
}

fn line(record: &Record) -> impl IntoView + use<> {
    let rejected: u64 = record.rejected.values().sum();
    let refused = if rejected > 0 {
        format!(", {rejected} refused")
    } else {
        String::new()
    };
    let text = if record.finished() {
        format!("{}{refused}", count(record.reports, "contribution"))
    } else {
        let reason = record.reason.as_deref().unwrap_or("no reason was given");
        format!("ended without a result: {reason}{refused}")
    };
    let quality = record
        .metrics
        .filter(|_| record.finished())
        .and_then(|metrics| {
            metrics
                .score()
                .map(|value| score(value, metrics.accuracy.is_some()))
        });
    let time = js_sys::Date::new(&record.finished_ms.into()).to_locale_time_string("en-GB");
    view! {
        <strong>{format!("Round {}", record.round)}</strong>
        <span>{text}</span>
        <span class="figures">{quality}</span>
        <time class="muted">{String::from(time)}</time>
    }
}
