//! Whether it is proven that a contribution is counted, which the mesh's own word does not show.

use crate::ledger::{Receipt, Standing, is_unreached};
use crate::light::{self, Failure};
use crate::state::sentence;

/// How many times a receipt is asked for before a person reads that it is late.
const LATE: u32 = 60;

/// How the ledger's receipt of a contribution stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Proof {
    /// It is asked for.
    #[default]
    Asked,
    /// It is not there yet.
    Early { because: String, late: bool },
    /// Neither does the mesh keep a ledger, nor has this browser ever met one of it.
    NoLedger,
    /// Verified.
    Right(Receipt),
    /// What was served is not believed.
    Refused(Failure),
    /// The ledger has voided the round.
    Voided,
}

/// Whether a person who is sure of it may forget the ledger that the mesh is known by.
pub fn is_other_ledger(code: &str) -> bool {
    matches!(code, "ledger-gone" | "other-chain")
}

/// Whether the round's standing says more than this refusal: a receipt is made before its round is settled.
fn depends_on_round(code: &str) -> bool {
    matches!(code, "not-counted" | "not-finished")
}

impl Proof {
    /// What an answer shows, with where the round stands on the ledger if that was looked up.
    fn of(
        found: Result<Receipt, Failure>,
        standing: Option<&Standing>,
        round: u64,
        tries: u32,
    ) -> Self {
        let failure = match found {
            Ok(receipt) => return Self::Right(receipt),
            Err(failure) => failure,
        };
        let stage = standing.map(|standing| standing.stage.as_str());
        let because = match (failure.code.as_str(), stage) {
            ("no-ledger", _) => return Self::NoLedger,
            (code, Some("voided")) if depends_on_round(code) => return Self::Voided,
            (code, Some("open")) if depends_on_round(code) => {
                format!("round {round} is still open on the ledger.")
            }
            (code, Some("finished")) if depends_on_round(code) => format!(
                "the validators have accepted round {round}, and the mesh has not given the receipt yet."
            ),
            (code, _) if depends_on_round(code) => {
                format!("the validators have not accepted round {round} yet.")
            }
            // A block of before the validators changed; the next answer is under a newer one.
            ("past-epoch", _) => "the validators are changing.".into(),
            (code, _) if is_unreached(code) => sentence(&failure.told()),
            _ => return Self::Refused(failure),
        };
        Self::Early {
            because,
            late: tries >= LATE,
        }
    }

    /// Whether nothing that may still come changes it.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Right(_) | Self::NoLedger | Self::Voided)
    }

    /// A word for the page's attributes, and what a person reads; nothing where there can be no receipt. Only who is
    /// enrolled has a reward to claim.
    pub fn told(&self, enrolled: bool) -> Option<(&'static str, String)> {
        Some(match self {
            Self::NoLedger => return None,
            Self::Asked => ("waits", "Waiting for the ledger's receipt…".into()),
            Self::Early {
                because,
                late: false,
            } => (
                "waits",
                format!("Waiting for the ledger's receipt: {because}"),
            ),
            Self::Early { because, .. } => (
                "late",
                format!(
                    "The ledger's receipt is late: {because} Until it comes, only the mesh says that the contribution is counted."
                ),
            ),
            Self::Right(receipt) => ("right", receipt.told(enrolled)),
            Self::Refused(failure) => (
                "wrong",
                format!("The ledger's receipt was refused here: {}", failure.told()),
            ),
            Self::Voided => (
                "wrong",
                "The ledger has voided the round: the contribution counts for nothing.".into(),
            ),
        })
    }
}

/// Asks for the receipt of a contribution once.
pub async fn ask(task: &str, round: u64, report: &str, tries: u32) -> Proof {
    let found = async { light::receipt(&light::mesh().await?, task, round, report).await };
    let found = found.await;
    let standing = match &found {
        Err(failure) if depends_on_round(&failure.code) => {
            let standing = async { light::ledger_round(&light::mesh().await?, task, round).await };
            standing.await.ok().flatten()
        }
        _ => None,
    };
    Proof::of(found, standing.as_ref(), round, tries)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn receipt() -> Receipt {
        let json = r#"{"round":2,"accepted":3,"reward":1666,"height":41,"signers":["validation-1"],"validators":4,"ms":1.0}"#;
        serde_json::from_str(json).unwrap()
    }

    pub fn refused(code: &str) -> Failure {
        Failure {
            code: code.into(),
            message: "As it is.".into(),
            problems: None,
        }
    }

    fn stands(stage: &str) -> Standing {
        let json = format!(
            r#"{{"stage":"{stage}","accepted":3,"accepts":1,"complaints":0,"perReport":null,"height":40,"signers":[],"validators":4,"ms":1.0}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    fn of(code: &str, stage: Option<&str>, tries: u32) -> Proof {
        Proof::of(Err(refused(code)), stage.map(stands).as_ref(), 2, tries)
    }

    #[test]
    fn a_receipt_that_comes_before_the_round_is_settled_is_early_and_not_refused() {
        for code in ["not-finished", "not-counted"] {
            for stage in [
                None,
                Some("open"),
                Some("opened"),
                Some("proposed"),
                Some("finished"),
            ] {
                let proof = of(code, stage, 0);
                assert!(!proof.is_settled());
                let (state, told) = proof.told(false).unwrap();
                assert_eq!(state, "waits", "{code} {stage:?}: {told}");
            }
            assert_eq!(of(code, Some("voided"), 0), Proof::Voided);
            assert_eq!(of(code, None, LATE).told(false).unwrap().0, "late");
        }
        assert_eq!(
            of("mesh-unreachable", None, 0).told(false).unwrap().0,
            "waits"
        );
    }

    #[test]
    fn only_a_mesh_that_never_had_a_ledger_needs_none() {
        assert_eq!(of("no-ledger", None, 0), Proof::NoLedger);
        assert_eq!(Proof::NoLedger.told(true), None);
        for code in ["ledger-gone", "other-chain", "not-in-batch", "bad-proof"] {
            let proof = of(code, None, 0);
            assert!(!proof.is_settled(), "{code}: a right one may come");
            assert_eq!(proof.told(false).unwrap().0, "wrong", "{code}");
        }
    }

    #[test]
    fn a_right_receipt_ends_the_asking() {
        let proof = Proof::of(Ok(receipt()), None, 2, 9);
        assert!(proof.is_settled());
        assert_eq!(proof.told(false).unwrap().0, "right");
    }
}
