//! Why a report is refused: the one public list, the same on the wire, in metrics and on the page.

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $slug:literal, $text:literal;)*) => {
        /// Why a report was rejected. The code is stable; a new reason gets a new code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable number, as on the wire. Zero means accepted and is no reason.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code),* }
            }

            /// The stable word, as in metrics and JSON.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),* }
            }

            /// What happened and what to do, for a person.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// The bytes are not a report.
    Malformed = 1, "malformed", "The report could not be decoded. Update this client and send again.";
    /// No such task here.
    UnknownTask = 2, "unknown-task", "This node does not serve that task. Check the task id, or load the task list again.";
    /// The report was made for another round.
    WrongRound = 3, "wrong-round", "The report belongs to another round than the one that is open. Train again on the current model.";
    /// The round's deadline has passed.
    TooLate = 4, "too-late", "The report arrived after the round's deadline and was not counted. Train again in the next round.";
    /// The report's time lies in the future.
    TooEarly = 5, "too-early", "The report's time is in the future. Check this device's clock and send again.";
    /// The report id was used before.
    Replayed = 6, "replayed", "A report with this id was already counted. Each report counts once.";
    /// Sealed to a key this node does not have.
    UnknownSealingKey = 7, "unknown-sealing-key", "The share is sealed to a key this node does not have. Load the task again and send again.";
    /// The seal does not open: wrong key, or changed on the way.
    SealBroken = 8, "seal-broken", "The sealed share does not open: it was changed on the way or sealed for another task.";
    /// The opened share is not a share of this task.
    InvalidShare = 9, "invalid-share", "The opened share does not have the form this task needs. Load the task again.";
    /// The proof fails: the update is over the norm bound, or a share was changed.
    InvalidProof = 10, "invalid-proof", "The proof does not hold: the update is over the task's norm bound, or a share was changed.";
    /// Longer than the task allows.
    TooLarge = 11, "too-large", "The report is larger than this task allows.";
    /// The batch has all the reports it takes.
    BatchFull = 12, "batch-full", "This round has all the reports it takes. Take part in the next one.";
    /// The round is being closed or is over.
    RoundClosed = 13, "round-closed", "The round is closed. Take part in the next one.";
    /// An admin has paused the task.
    Paused = 14, "paused", "This task is paused. Nothing is lost; try again later.";
    /// An extension this task does not know.
    UnknownExtension = 15, "unknown-extension", "The report carries an extension this task does not know.";
    /// The committee's members do not agree on the report.
    MemberDisagrees = 16, "member-disagrees", "The members of the committee hold different reports under this id.";
    /// The node cannot take reports for a moment.
    Unavailable = 17, "unavailable", "The node cannot store reports at the moment. Nothing is lost; it is tried again.";
    /// Another committee checks this report.
    WrongCommittee = 18, "wrong-committee", "Another committee of full nodes checks this report. Load the task again and send again.";
    /// A silo's report that its full node has not signed, or the other way round.
    NotTheSilos = 19, "not-the-silos", "The report's id is that of a full node's silo, which has not signed it. Send again: a new id is drawn.";
    /// The key that signed the report is not enrolled, as far as this node knows. It may hear of it later.
    NotEnrolled = 20, "not-enrolled", "The key that signed the report is not enrolled for this task, or this full node has not heard of it yet. Enrol it; the report is tried again until the round is over.";
    /// No report that an enrolled light node can have in this round.
    NotItsReport = 21, "not-its-report", "This task counts one report a round of each enrolled light node, under the id that follows from its key and signed with it. This is none. Contribute with an enrolled key, and update this client.";
}

impl Reason {
    /// The word for this code; of one that this version does not know, its number.
    pub fn word(code: u16) -> String {
        Self::from_code(code).map_or_else(|| code.to_string(), |reason| reason.slug().to_owned())
    }

    /// Whether the same report may be taken later in the same round: nothing is wrong with it.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Paused | Self::Unavailable | Self::NotEnrolled)
    }

    /// Whether the round had ended, or was full, when the report came: the same rows may be used in a later one.
    pub const fn missed(self) -> bool {
        matches!(
            self,
            Self::WrongRound | Self::TooLate | Self::BatchFull | Self::RoundClosed
        )
    }

    /// The reason with this word.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.slug() == slug)
    }

    /// The reason with this code.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.code() == code)
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_come_back() {
        for reason in Reason::ALL {
            assert_ne!(reason.code(), 0, "zero means accepted");
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
            assert_eq!(
                serde_json::to_string(reason).unwrap(),
                format!("\"{}\"", reason.slug())
            );
        }
        assert_eq!(Reason::from_code(0), None);
        assert_eq!(Reason::word(4), "too-late");
        assert_eq!(Reason::word(60_000), "60000");
    }
}
