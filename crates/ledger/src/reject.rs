//! Why a transaction is refused: one public list, the same on the wire, in metrics and on the page.

use serde::{Deserialize, Serialize};

macro_rules! rejects {
    ($($name:ident = $code:literal, $slug:literal, $text:literal;)*) => {
        /// Why a transaction was refused. The code is stable; a new reason gets a new code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum Reject {
            $(#[doc = $text] $name,)*
        }

        impl Reject {
            /// Every reason, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable number. Zero means accepted and is no reason.
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

rejects! {
    WrongChain = 1, "wrong-chain", "The transaction is for another chain. Load this mesh's genesis and sign again.";
    BadSignature = 2, "bad-signature", "The transaction is not signed by its sender, or was changed afterwards. Sign it again.";
    NonceUsed = 3, "nonce-used", "The sender's transaction with this number was carried out before. Load the account and sign again.";
    NonceAhead = 4, "nonce-ahead", "An earlier transaction of the sender is missing. Send that one first.";
    TooLarge = 5, "too-large", "The transaction, or a text in it, is longer than the ledger takes. Shorten it.";
    NotAdmin = 6, "not-admin", "Only an admin may do this. Sign with an admin's key.";
    InsufficientBalance = 7, "insufficient-balance", "The account has less than that. Give it more first.";
    UnknownNode = 8, "unknown-node", "No such node is enrolled. Have an admin enrol it.";
    NodeRemoved = 9, "node-removed", "The node was removed or slashed and takes no part. Use another one.";
    WrongRole = 10, "wrong-role", "The node is enrolled for something else. Enrol another key for this role.";
    BadSet = 11, "bad-set", "The keys must be proper, different, in ascending order, and neither none nor too many.";
    EpochPast = 12, "epoch-past", "Validators can be changed from the next epoch on. Name a later epoch.";
    StillValidator = 13, "still-validator", "The node is a validator of this or a coming epoch. Set other validators first.";
    TaskExists = 14, "task-exists", "The task is on the ledger already. Change its manifest to make another one.";
    UnknownTask = 15, "unknown-task", "No such task is on the ledger. Check the task's id.";
    BadTerms = 16, "bad-terms", "The task's terms make no sense: members, counts or the split. Correct them.";
    TaskPaused = 17, "task-paused", "An admin has paused the task. Try again later.";
    TaskClosed = 18, "task-closed", "The task is closed for good. Make another one.";
    NotAggregation = 19, "not-aggregation", "Only the task's aggregation node may do this.";
    BadStatement = 20, "bad-statement", "A signed statement in it cannot be read, or is not signed by who must sign it.";
    RoundUnsettled = 21, "round-unsettled", "The round before is neither finished nor voided. Wait for the validators, or void it.";
    WrongRound = 22, "wrong-round", "This is not the round that is next, or the ledger no longer has it. Load the task again.";
    WrongModel = 23, "wrong-model", "The model is not the one that the ledger has for this round. Load the task again.";
    Unfunded = 24, "unfunded", "The task's budget is less than one round pays. Fund the task first.";
    RoundsDone = 25, "rounds-done", "The task has finished all its rounds.";
    BadTimes = 26, "bad-times", "The round ends before it begins, or begins in the future. Check the node's clock.";
    BadWeights = 27, "bad-weights", "The round weighs a stranger's silo, or more than the task allows.";
    WrongStage = 28, "wrong-stage", "The round is past this step, or not there yet. Load the round again.";
    UnknownCommittee = 29, "unknown-committee", "The task, or the round, has no such committee or batch.";
    BatchExists = 30, "batch-exists", "The committee's batch of this round is on the ledger already.";
    BadBatch = 31, "bad-batch", "The batch has no reports, too many, or more weight than the round allows.";
    BelowMinBatch = 32, "below-min-batch", "The batches have fewer reports than the task opens a total of. Void the round.";
    WrongCiphertexts = 33, "wrong-ciphertexts", "The ciphertexts are not one of each node of the selected committees, in ascending order.";
    NotValidator = 34, "not-validator", "Only a validator of this epoch may vote.";
    AlreadyVoted = 35, "already-voted", "The validator has voted on this round.";
    NoFault = 36, "no-fault", "The evidence does not show that the node has signed two statements that exclude each other.";
    AlreadySlashed = 37, "already-slashed", "The node is slashed already.";
    OwnFault = 38, "own-fault", "A node cannot be paid for showing its own fault.";
    NotAdmitted = 39, "not-admitted", "The task does not admit light nodes in this way. See its terms.";
    NotTheSender = 40, "not-the-sender", "A light node enrols itself: sign with the key that is enrolled.";
    BadInvite = 41, "bad-invite", "The invite's code does not fit. Check it and type it again.";
    InviteSpent = 42, "invite-spent", "The invite has been used up or has run out. Ask for another one.";
    InviteExists = 43, "invite-exists", "The invite is on the ledger already. Make another one.";
    AlreadyEnrolled = 44, "already-enrolled", "The key is enrolled for this task already.";
    NotEnrolled = 45, "not-enrolled", "The key is not enrolled for this task, or was removed from it.";
    TaskFull = 46, "task-full", "The task has as many light nodes as it takes.";
    NotFinished = 47, "not-finished", "The round is not finished, or was voided. Only finished rounds pay.";
    WrongReport = 48, "wrong-report", "The report is not the one that this key has in this round.";
    NotInBatch = 49, "not-in-batch", "The path does not lead from the report to the batch's root.";
    AlreadyClaimed = 50, "already-claimed", "The reward was claimed before.";
    Overflow = 51, "overflow", "A balance would be more than was ever issued. Report this: it cannot happen.";
    BadAccused = 52, "bad-accused", "The accused node cannot have committed this fault.";
    NothingMoved = 53, "nothing-moved", "The amount is zero, or its sender would get it. Move something, or nothing.";
    WrongOpening = 54, "wrong-opening", "The batch is of another opening than the one that the ledger has for this round. Void the round.";
}

impl Reject {
    /// The reason with this code.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reject| reject.code() == code)
    }
}

impl std::fmt::Display for Reject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Reject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_come_back() {
        for (place, reject) in (1..).zip(Reject::ALL) {
            assert_eq!(
                reject.code(),
                place,
                "codes count up, and zero means accepted"
            );
            assert_eq!(Reject::from_code(reject.code()), Some(*reject));
            assert_eq!(
                serde_json::to_string(reject).unwrap(),
                format!("\"{}\"", reject.slug())
            );
        }
        assert_eq!(Reject::from_code(0), None);
    }
}
