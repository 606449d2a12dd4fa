//! Goes through seeds: `seeds --seeds 100 --first 0 --scenario all`.

use std::io::Write as _;
use std::process::ExitCode;

use defim_sim::whole::{self, Lie};
use defim_validation::sim::{Outcome, Scenario, run};

/// What a seed goes through.
#[derive(Clone, Copy)]
enum Course {
    /// Validators that count.
    Validators(Scenario),
    /// The whole mesh.
    Mesh(Lie),
}

impl Course {
    fn all() -> Vec<Self> {
        let validators = Scenario::ALL.into_iter().map(Self::Validators);
        validators
            .chain(Lie::ALL.into_iter().map(Self::Mesh))
            .collect()
    }

    /// Those that a name means: one, or all of the whole mesh.
    fn named(name: &str) -> Result<Vec<Self>, String> {
        match name {
            "all" => Ok(Self::all()),
            "mesh" => Ok(Lie::ALL.into_iter().map(Self::Mesh).collect()),
            _ => match (
                name.parse().map(Self::Mesh),
                name.parse().map(Self::Validators),
            ) {
                (Ok(course), _) | (_, Ok(course)) => Ok(vec![course]),
                (Err(lies), Err(scenarios)) => Err(format!("{scenarios}; {lies}")),
            },
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Validators(scenario) => scenario.name(),
            Self::Mesh(lie) => lie.name(),
        }
    }

    fn go(self, seed: u64) -> Outcome {
        match self {
            Self::Validators(scenario) => run(seed, scenario),
            Self::Mesh(lie) => whole::play(seed, lie),
        }
    }
}

fn main() -> ExitCode {
    let mut seeds: u64 = 10;
    let mut first: u64 = 0;
    let mut courses = Course::all();
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
            "--scenario" => match Course::named(&value()) {
                Ok(named) => {
                    courses = named;
                    true
                }
                Err(error) => {
                    eprintln!("{error}");
                    false
                }
            },
            _ => false,
        };
        if !understood {
            eprintln!("usage: seeds [--seeds N] [--first S] [--scenario NAME|mesh|all] [--trace]");
            return ExitCode::from(2);
        }
    }
    // Whoever reads may stop reading.
    let mut out = std::io::stdout();
    let (mut violations, mut meshes) = (0, 0);
    for seed in first..first.saturating_add(seeds) {
        // One scenario a seed when all are asked for: seeds go through them in turn.
        let Some(course) = usize::try_from(seed)
            .ok()
            .and_then(|seed| courses.get(seed % courses.len()))
            .copied()
        else {
            continue;
        };
        meshes += u64::from(matches!(course, Course::Mesh(_)));
        let scenario = course.name();
        let outcome = course.go(seed);
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
                "again: cargo xtask sim --seeds 1 --first {seed} --scenario {scenario}"
            );
        }
    }
    let _ = writeln!(out, "whole {meshes}");
    let _ = writeln!(out, "seeds {seeds} violations {violations}");
    if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}
