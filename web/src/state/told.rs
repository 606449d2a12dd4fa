//! A run in words.

use super::{Mark, Run, Status, Step};
use crate::format::bytes;
use crate::proof::Proof;

impl Run {
    /// Where a report is that is not being sent.
    pub fn kept_told(&self) -> String {
        match self.round {
            Some(round) => format!(
                "Your contribution to round {round} is kept in this browser, and is not being sent."
            ),
            None => "Your contribution is kept in this browser, and is not being sent.".into(),
        }
    }

    /// What a person reads whose task is gone. The report stays where it is: the task may be listed again.
    pub fn gone_told(&self, title: Option<&str>) -> String {
        let task = match title {
            Some(title) => format!("The mesh has no task “{title}” any more"),
            None => "The mesh no longer has a task that you contributed to".into(),
        };
        match (self.status, self.round) {
            (Status::Delivered, Some(round)) => {
                format!("{task}, so your contribution to its round {round} ended with it.")
            }
            _ => format!("{task}, so your contribution to it has ended with it."),
        }
    }

    /// A few words for the list of tasks.
    pub fn brief(&self) -> Option<String> {
        let round = self.round.unwrap_or_default();
        match self.status {
            Status::Working if self.kept.is_some() => Some("Yours waits to be sent".into()),
            Status::Working => Some("Yours is on its way".into()),
            Status::Delivered => Some(format!("Yours is in round {round}")),
            Status::Stopped if self.left => Some("Yours is kept here".into()),
            Status::Idle | Status::Counted | Status::Stopped => None,
        }
    }

    /// One sentence for people who hear the page.
    pub fn told(&self) -> String {
        if let Some(problem) = &self.problem {
            return problem.message.clone();
        }
        if let Some(because) = &self.kept {
            return sentence(because);
        }
        let round = self.round.unwrap_or_default();
        match self.status {
            Status::Idle => String::new(),
            Status::Counted => match &self.proof {
                Proof::Right(_) => {
                    format!("Counted in round {round}, proven in this browser.")
                }
                Proof::NoLedger => format!("Counted in round {round}, as the mesh says."),
                Proof::Refused(_) => format!(
                    "The mesh says that it is counted in round {round}, and does not prove it."
                ),
                Proof::Asked | Proof::Early { .. } | Proof::Voided => format!(
                    "The mesh says that it is counted in round {round}; its proof is on its way."
                ),
            },
            Status::Delivered => format!("Sent. Waiting for round {round} to close."),
            Status::Stopped if self.left => self.kept_told(),
            Status::Stopped if self.discarded => "Discarded.".into(),
            Status::Stopped => "Stopped.".into(),
            Status::Working => {
                let running = Step::ALL
                    .into_iter()
                    .find(|step| self.at(*step).mark == Mark::Running);
                match running {
                    Some(Step::Read) | None => "Reading your rows on this device.".into(),
                    Some(Step::Trained) => "Training on this device.".into(),
                    Some(Step::Split) => {
                        "Splitting the result into shares and proving its bound.".into()
                    }
                    Some(Step::Sealed) => "Sealing the shares.".into(),
                    Some(_) => match self.upload {
                        Some(upload) if upload.resumed_from > 0 => {
                            format!("Sending; going on after {}.", bytes(upload.resumed_from))
                        }
                        _ => "Sending.".into(),
                    },
                }
            }
        }
    }
}

/// With one full stop at its end.
pub fn sentence(text: &str) -> String {
    format!("{}.", text.trim().trim_end_matches('.'))
}
