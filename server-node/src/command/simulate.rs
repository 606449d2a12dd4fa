//! `defim simulate`.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _},
    path::Path,
};

use defim_learn::{DataLimits, LearningSpec};
use defim_protocol::{limits::MANIFEST_BYTES, vote::BINS};
use defim_sim::{Attack, RoundReport, Setup, SimError, Steps, Summary};
use indicatif::{ProgressBar, ProgressStyle};

use super::out;
use crate::{
    cli::{Baseline, Simulate},
    clock,
    failure::{Failure, Outcome},
    node::task::builtin_task,
};

impl From<SimError> for Failure {
    fn from(error: SimError) -> Self {
        match error {
            SimError::Setup(text) => Self::Input(text),
            SimError::Light(error) => error.into(),
            other => Self::Other(other.to_string()),
        }
    }
}

fn read_at_most(path: &Path, max: u64, else_do: &str) -> Outcome<Vec<u8>> {
    let cannot =
        |e: std::io::Error| Failure::Input(format!("{} cannot be read: {e}", path.display()));
    let too_long = |bytes: String| {
        Err(Failure::Input(format!(
            "{} has {bytes} bytes, more than the {max} that are taken; {else_do}",
            path.display()
        )))
    };
    let file = File::open(path).map_err(cannot)?;
    let length = file.metadata().map_err(cannot)?.len();
    // Before it is read: a file of a gigabyte would be in memory twice.
    if length > max {
        return too_long(length.to_string());
    }
    let mut bytes = Vec::new();
    // A pipe or a device names no length, and may never end.
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > max {
        return too_long(format!("over {max}"));
    }
    Ok(bytes)
}

/// Read rows, at most as many bytes as are taken.
///
/// # Errors
///
/// [`Failure::Input`] naming the file.
pub fn read_rows(path: &Path) -> Outcome<Vec<u8>> {
    read_at_most(path, DataLimits::default().max_bytes, "split it into parts")
}

fn spec(args: &Simulate) -> Outcome<LearningSpec> {
    if Path::new(&args.task).is_file() {
        let text = read_at_most(
            Path::new(&args.task),
            MANIFEST_BYTES as u64,
            "leave columns out",
        )?;
        return serde_json::from_slice(&text).map_err(|e| {
            Failure::Input(format!("{} is no learning specification: {e}", args.task))
        });
    }
    let known = builtin_task(&args.task, args.model.map(crate::cli::ModelArg::name))?;
    let mut spec = known.spec;
    spec.frac_bits = spec.frac_bits.min(args.scheme.most_frac_bits());
    Ok(spec)
}

fn bar(rounds: u64, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} round {pos}/{len}  {msg}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(rounds).with_style(style)
}

#[derive(serde::Serialize)]
struct Line<'a, T> {
    baseline: &'static str,
    #[serde(flatten)]
    value: &'a T,
}

fn show_round(bar: &ProgressBar, baseline: Option<Baseline>, json: bool, round: &RoundReport) {
    if json {
        match baseline {
            None => out::json(round),
            Some(baseline) => out::json(&Line {
                baseline: baseline.name(),
                value: round,
            }),
        }
        return;
    }
    let metrics = crate::http::MetricsView::from(&round.metrics);
    bar.set_message(out::quality(Some(&metrics)));
    bar.inc(1);
    if bar.is_hidden() {
        if let Some(votes) = &round.votes {
            println!(
                "           votes on the model before it: {:?}, {:.1} % on average, {:.1} % in the worst quarter",
                votes.bins,
                votes.mean * 100.0,
                votes.worst_quarter * 100.0
            );
        }
        println!(
            "round {:>3}  {:<16} {} reports, {} refused, {:.0} ms",
            round.round,
            out::quality(Some(&metrics)),
            round.reports,
            round.rejected,
            round.wall_ms
        );
    }
}

fn print_steps(steps: &Steps, rounds: u64) {
    let each = |total: f64| total / rounds.max(1) as f64;
    let silos = match steps.silo_train_ms > 0.0 {
        true => format!(" (silos {:.0} ms)", each(steps.silo_train_ms)),
        false => String::new(),
    };
    println!(
        "  a round, summed over nodes: train {:.0} ms{silos}, split and prove {:.0} ms, seal {:.0} ms, verify {:.0} ms, add {:.0} ms, encrypt {:.0} ms, open {:.0} ms",
        each(steps.train_ms),
        each(steps.split_ms),
        each(steps.seal_ms),
        each(steps.verify_ms),
        each(steps.add_ms),
        each(steps.encrypt_ms),
        each(steps.open_ms)
    );
}

fn print_summary(title: &str, summary: &Summary) {
    let metrics = crate::http::MetricsView::from(&summary.metrics);
    println!(
        "{title}: {} after {} rounds with {} light nodes{}, {:.1} s",
        out::quality(Some(&metrics)),
        summary.rounds,
        summary.light,
        match summary.silos {
            0 => String::new(),
            1 => " and 1 silo".into(),
            silos => format!(" and {silos} silos"),
        },
        summary.wall_s
    );
    if summary.upload_bytes_per_report > 0 {
        println!(
            "  {} bytes a report, {} counted, {} refused",
            summary.upload_bytes_per_report, summary.reports, summary.rejected
        );
    }
    if let Some(epsilon) = summary.epsilon {
        println!("  epsilon {epsilon:.3} spent");
    }
    if let Some(r2) = summary.least_squares_r2 {
        println!(
            "  least squares on the same rows: R2 {}",
            out::number(Some(r2))
        );
    }
    print_steps(&summary.steps, summary.rounds);
}

fn simulate(args: &Simulate, setup: &Setup, json: bool) -> Outcome {
    let start = clock::start();
    let time = move || start.elapsed();
    let progress = bar(args.rounds, json);
    let mut on_round = |round: &RoundReport| show_round(&progress, args.baseline, json, round);
    let summary = match args.baseline {
        None => defim_sim::run(setup, &time, &mut on_round)?,
        Some(Baseline::Plain) => defim_sim::run_plain(setup, &time, &mut on_round)?,
    };
    progress.finish_and_clear();
    match (json, args.baseline) {
        (true, None) => out::json(&summary),
        (true, Some(baseline)) => out::json(&Line {
            baseline: baseline.name(),
            value: &summary,
        }),
        (false, None) => print_summary("with proofs and secret shares", &summary),
        (false, Some(_)) => print_summary("without cryptography", &summary),
    }
    Ok(())
}

impl Baseline {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
        }
    }
}

/// Run it.
///
/// # Errors
///
/// [`Failure`].
pub async fn run(args: Simulate, json: bool) -> Outcome {
    let spec = spec(&args)?;
    let csv = match &args.data {
        Some(path) => read_rows(path)?,
        None => defim_learn::builtin_csv(&args.task)
            .map(<[u8]>::to_vec)
            .ok_or_else(|| {
                Failure::Usage(
                    "--data is needed: only built-in tasks have rows of their own".into(),
                )
            })?,
    };
    let rows = spec
        .schema
        .read_csv(&csv, &DataLimits::default())
        .map_err(|e| {
            let file = args
                .data
                .as_ref()
                .map_or_else(|| args.task.clone(), |path| path.display().to_string());
            Failure::Input(format!("{file}: {e}"))
        })?;
    let setup = Setup {
        spec,
        rows,
        light: args.light,
        silos: args.silos,
        max_weight: args.max_weight,
        enrolled: args.enrolled,
        rounds: args.rounds,
        seed: args.seed,
        scheme: args.scheme,
        full: args.full,
        shares: args.shares,
        votes: match args.quality_votes {
            true => BINS,
            false => 0,
        },
        // Safe: a cast from f64 saturates.
        fairness_gap_ppm: (args.fairness_gap * 1e6).round() as u32,
        vanishing: args.dropouts.into(),
        attack: args.attack.map(|kind| Attack {
            kind,
            share: args.attackers,
        }),
        privacy: args
            .privacy
            .epsilon
            .map(|epsilon| (epsilon, args.privacy.delta)),
    };
    tokio::task::spawn_blocking(move || simulate(&args, &setup, json))
        .await
        .map_err(|e| Failure::Other(format!("the run stopped: {e}")))?
}
