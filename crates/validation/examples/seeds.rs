//! Goes through seeds: `seeds --seeds 100 --first 0 --scenario all`.

use std::io::Write as _;
use std::process::ExitCode;

use defim_validation::sim::{Scenario, run};

fn main() -> ExitCode {
    let mut seeds: u64 = 10;
    let mut first: u64 = 0;
    let mut scenarios = Scenario::ALL.to_vec();
    let mut trace = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        let understood = match argument.as_str() {
            "--seeds" => value().parse().map(|number| seeds = number).is_ok(),
            "--first" => value().parse().map(|number| first = number).is_ok(),
            "--trace" => {
                trace = true;
                true
            }
            "--scenario" => match value().as_str() {
                "all" => true,
                name => match name.parse() {
                    Ok(scenario) => {
                        scenarios = vec![scenario];
                        true
                    }
                    Err(error) => {
                        eprintln!("{error}");
                        false
                    }
                },
            },
            _ => false,
        };
        if !understood {
            eprintln!("usage: seeds [--seeds N] [--first S] [--scenario NAME|all] [--trace]");
            return ExitCode::from(2);
        }
    }
    // Whoever reads may stop reading.
    let mut out = std::io::stdout();
    let mut violations = 0;
    for seed in first..first.saturating_add(seeds) {
        // One scenario a seed when all are asked for: seeds go through them in turn.
        let Some(scenario) = usize::try_from(seed)
            .ok()
            .and_then(|seed| scenarios.get(seed % scenarios.len()))
            .copied()
        else {
            continue;
        };
        let outcome = run(seed, scenario);
        if trace {
            let hash: String = outcome
                .trace
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let _ = writeln!(
                out,
                "seed {seed} scenario {scenario} heights {:?} trace {hash}",
                outcome.heights
            );
        }
        for violation in &outcome.violations {
            violations += 1;
            let _ = writeln!(out, "seed {seed} scenario {scenario}: {violation}");
        }
        if !outcome.violations.is_empty() {
            let _ = writeln!(
                out,
                "again: cargo run --release -p defim-validation --example seeds -- --seeds 1 --first {seed} --scenario {scenario}"
            );
        }
    }
    let _ = writeln!(out, "seeds {seeds} violations {violations}");
    if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
