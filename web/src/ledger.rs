//! What the page shows of the ledger, and how it says it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::format::{count, grouped, millis};

/// Whether a refusal says something of this device or of the way to the mesh, and nothing of the ledger.
pub fn is_unreached(code: &str) -> bool {
    const CODES: [&str; 6] = [
        "mesh-unreachable",
        "not-loaded",
        "no-wasm",
        "bad-answer",
        "no-hand-over",
        // Those who answer are behind what was verified here before.
        "older-state",
    ];
    CODES.contains(&code)
}

/// A transaction, as the mesh lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Tx {
    pub kind: String,
    pub text: String,
    #[serde(default)]
    pub task: Option<String>,
    #[serde(default)]
    pub round: Option<u64>,
}

/// A block, as the mesh lists it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    pub height: u64,
    pub digest: String,
    pub timestamp_ms: f64,
    #[serde(default)]
    pub txs: Vec<Tx>,
    #[serde(default)]
    pub signers: Vec<String>,
}

/// A final block, as this browser has checked it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Final {
    pub height: u64,
    pub signers: Vec<String>,
    pub validators: u64,
    pub ms: f64,
}

impl Final {
    /// `block 41, signed by validation-1, -2, -3 of 4; 2 ms`.
    pub fn told(&self) -> String {
        format!("{}; {}", self.signed(), millis(self.ms))
    }

    /// `block 41, signed by validation-1, -2, -3 of 4`.
    pub fn signed(&self) -> String {
        format!(
            "block {}, signed by {} of {}",
            grouped(self.height),
            names(&self.signers),
            self.validators
        )
    }
}

/// How the ledger stands, as this browser has checked it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub chain: String,
    pub timestamp_ms: f64,
    /// On whose word: `pinned` or `first-use`.
    pub trust: String,
    /// Height of the newest final block that this browser has seen on it.
    pub seen: u64,
    #[serde(flatten)]
    pub block: Final,
}

impl Status {
    /// Whether the mesh shows an older block than it did.
    pub fn is_older(&self) -> bool {
        self.block.height < self.seen
    }

    /// What was found.
    pub fn told(&self) -> String {
        let block = self.block.told();
        match self.is_older() {
            false => format!("{block}."),
            true => format!(
                "{block}. This browser has seen block {} of this ledger before, so newer blocks are kept from it, or the node that \
                 answered is behind. Check again in a moment.",
                grouped(self.seen)
            ),
        }
    }
}

/// What a key has.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Balance {
    pub balance: u64,
    pub nonce: u64,
    #[serde(flatten)]
    pub block: Final,
}

impl Balance {
    /// For a person.
    pub fn told(&self) -> String {
        let has = match (self.balance, self.nonce) {
            (0, 0) => "This key has nothing, and has never sent a transaction".to_owned(),
            (balance, nonce) => format!(
                "This key has {} and has sent {}",
                count(balance, "point"),
                count(nonce, "transaction")
            ),
        };
        format!("{has}. Proven in this browser under {}.", self.block.told())
    }
}

/// Whether a key takes part in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Member {
    /// It was never enrolled.
    None,
    Active,
    /// An admin has ended it.
    Removed,
}

/// This browser's key for a task, and whether it takes part, as this browser has checked it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Enrolled {
    pub key: String,
    /// Whether the browser keeps the key.
    pub kept: bool,
    pub state: Member,
    #[serde(flatten)]
    pub block: Final,
}

/// What a finished round pays for this browser's report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reward {
    pub round: u64,
    pub points: u64,
}

/// What this browser's key for a task has, and what it can claim or was paid.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewards {
    pub rewards: Vec<Reward>,
    /// What it had before it was paid.
    pub before: u64,
    pub now: Balance,
}

impl Rewards {
    /// What all of it pays.
    pub fn points(&self) -> u64 {
        self.rewards.iter().map(|reward| reward.points).sum()
    }

    /// What can be claimed, for a person.
    pub fn owed_told(&self) -> String {
        let owed = match self.rewards.is_empty() {
            true => String::new(),
            false => format!(
                ", and {} to claim for {}",
                grouped(self.points()),
                rounds_told(&self.rewards)
            ),
        };
        let has = count(self.now.balance, "point");
        self.proven(format!("This browser's key has {has}{owed}"))
    }

    /// What was paid, for a person.
    pub fn paid_told(&self) -> String {
        let paid = match self.rewards.is_empty() {
            true => "All of it was claimed before".to_owned(),
            false => format!(
                "{} claimed for {}",
                count(self.points(), "point"),
                rounds_told(&self.rewards)
            ),
        };
        self.proven(format!(
            "{paid}. This browser's key had {} and has {} now",
            count(self.before, "point"),
            grouped(self.now.balance)
        ))
    }

    fn proven(&self, said: String) -> String {
        let block = self.now.block.signed();
        format!("{said}. Proven in this browser under {block}.")
    }
}

/// Most rounds that are named one by one.
const NAMED_ROUNDS: usize = 6;

/// `round 3`, `rounds 3, 4`, `12 rounds`.
fn rounds_told(rewards: &[Reward]) -> String {
    let rounds: Vec<_> = rewards.iter().map(|reward| grouped(reward.round)).collect();
    match rounds.len() {
        1 => format!("round {}", rounds.join("")),
        few if few <= NAMED_ROUNDS => format!("rounds {}", rounds.join(", ")),
        many => format!("{many} rounds"),
    }
}

/// Where a round stands, as this browser has checked it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    pub stage: String,
    pub accepted: u64,
    pub accepts: u64,
    pub complaints: u64,
    pub per_report: Option<u64>,
    #[serde(flatten)]
    pub block: Final,
}

impl Standing {
    /// Where it stands, in words.
    pub fn stage_told(&self) -> &'static str {
        match self.stage.as_str() {
            "open" => "Open for reports",
            "opened" => "Total opened",
            "proposed" => "Model proposed, validators vote",
            "finished" => "Finished",
            "voided" => "Voided, nobody is paid",
            _ => "Unknown to this page",
        }
    }

    /// `4 for the model`, `2 for it, 1 complaint`.
    pub fn votes_told(&self) -> String {
        match (self.accepts, self.complaints) {
            (0, 0) => "none yet".into(),
            (accepts, 0) => format!("{accepts} for the model"),
            (accepts, complaints) => format!(
                "{accepts} for the model, {}",
                count(complaints, "complaint")
            ),
        }
    }
}

/// A receipt, as this browser has checked it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Receipt {
    pub round: u64,
    pub accepted: u64,
    pub reward: u64,
    #[serde(flatten)]
    pub block: Final,
}

impl Receipt {
    /// For a person; rewards are for those who are enrolled.
    pub fn told(&self, enrolled: bool) -> String {
        let Self {
            round,
            accepted,
            reward,
            block,
        } = self;
        let counted = match accepted {
            1 => "the only one".to_owned(),
            many => format!("one of {}", grouped(*many)),
        };
        let reward = match (enrolled, reward) {
            (false, _) => String::new(),
            (true, 0) => " The round pays nothing for it.".into(),
            (true, reward) => format!(" It earns {} once you claim them.", count(*reward, "point")),
        };
        format!(
            "Receipt verified in this browser: yours is {counted} that its committee counted in round {round}, at {}. It is kept \
             here, and listed on the Ledger page.{reward}",
            block.told(),
        )
    }
}

/// A contribution that was delivered from this browser.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Given {
    pub report: String,
    pub task: String,
    pub task_name: String,
    pub round: u64,
    pub sent_ms: f64,
    /// Verified and kept.
    #[serde(default)]
    pub receipt: Option<Receipt>,
}

/// A round that stands in the listed blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub task: String,
    pub round: u64,
    /// The block that opened it, if it is listed.
    pub opened: Option<u64>,
    pub votes: usize,
    pub claims: usize,
}

/// The rounds of listed blocks, the newest activity first.
pub fn rounds(blocks: &[Block]) -> Vec<Listed> {
    let mut found: BTreeMap<(String, u64), (u64, Listed)> = BTreeMap::new();
    for block in blocks {
        for tx in &block.txs {
            let (Some(task), Some(round)) = (&tx.task, tx.round) else {
                continue;
            };
            let (newest, listed) = found.entry((task.clone(), round)).or_insert_with(|| {
                let listed = Listed {
                    task: task.clone(),
                    round,
                    opened: None,
                    votes: 0,
                    claims: 0,
                };
                (block.height, listed)
            });
            *newest = (*newest).max(block.height);
            match tx.kind.as_str() {
                "round-opened" => listed.opened = Some(block.height),
                "vote" => listed.votes += 1,
                "claim" => listed.claims += 1,
                _ => {}
            }
        }
    }
    let mut found: Vec<_> = found.into_values().collect();
    found.sort_by(|(a, one), (b, other)| b.cmp(a).then(other.round.cmp(&one.round)));
    found.into_iter().map(|(_, listed)| listed).collect()
}

/// Adds blocks to those that are listed: each height once, the newest first.
pub fn merge(listed: &mut Vec<Block>, more: Vec<Block>) {
    for block in more {
        match listed.iter_mut().find(|there| there.height == block.height) {
            Some(there) => *there = block,
            None => listed.push(block),
        }
    }
    listed.sort_by_key(|block| std::cmp::Reverse(block.height));
}

/// `validation-1, -2, -3`: what names begin with in common is said once.
pub fn names(names: &[String]) -> String {
    let Some(first) = names.first() else {
        return "nobody".into();
    };
    let stem = |name: &str| {
        let (stem, number) = name.rsplit_once('-')?;
        (!number.is_empty() && number.len() < 4).then(|| stem.to_owned())
    };
    let common = stem(first).filter(|common| {
        let mut all = names.iter();
        all.all(|name| stem(name).as_ref() == Some(common))
    });
    match common {
        Some(common) => {
            let rest = names.iter().skip(1);
            let rest = rest.map(|name| name.get(common.len()..).unwrap_or(name));
            std::iter::once(first.as_str())
                .chain(rest)
                .collect::<Vec<_>>()
                .join(", ")
        }
        None => {
            // A key without a name is long, and its first letters tell it apart.
            let short = |name: &String| match name.len() > 24 {
                true => format!("{}…", name.get(..8).unwrap_or(name)),
                false => name.clone(),
            };
            names.iter().map(short).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signers(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn at(height: u64) -> Final {
        Final {
            height,
            signers: signers(&["validation-1", "validation-2", "validation-3"]),
            validators: 4,
            ms: 1.6,
        }
    }

    fn block(height: u64, txs: &[(&str, u64)]) -> Block {
        let tx = |(kind, round): &(&str, u64)| Tx {
            kind: (*kind).to_owned(),
            text: String::new(),
            task: Some("t".into()),
            round: Some(*round),
        };
        Block {
            height,
            digest: String::new(),
            timestamp_ms: 0.0,
            txs: txs.iter().map(tx).collect(),
            signers: Vec::new(),
        }
    }

    #[test]
    fn signers_are_named_once_and_shortly() {
        assert_eq!(
            at(1234).told(),
            "block 1,234, signed by validation-1, -2, -3 of 4; 2 ms"
        );
        assert_eq!(names(&signers(&["north", "south-2"])), "north, south-2");
        let key = "Gf7bD9i0kqQWm1x2y3z4A5B6C7D8E9F0G1H2I3J4K5L";
        assert_eq!(
            names(&signers(&["validation-1", key])),
            "validation-1, Gf7bD9i0…"
        );
        assert_eq!(names(&[]), "nobody");
    }

    #[test]
    fn a_ledger_that_goes_back_in_time_is_not_told_as_the_newest() {
        let json = |height: u64| {
            format!(
                r#"{{"chain":"c","timestampMs":1,"trust":"first-use","verified":true,"seen":106,"height":{height},"digest":"d","epoch":2,
                "signers":["validation-2"],"validators":4,"ms":0.4}}"#
            )
        };
        let newest: Status = serde_json::from_str(&json(106)).unwrap();
        assert!(!newest.is_older());
        let older: Status = serde_json::from_str(&json(103)).unwrap();
        assert!(older.is_older());
        assert!(older.told().contains("seen block 106"), "{}", older.told());
    }

    #[test]
    fn a_receipt_says_where_it_was_checked_and_promises_what_can_be_had() {
        let receipt = Receipt {
            round: 3,
            accepted: 5,
            reward: 100,
            block: at(41),
        };
        let told = receipt.told(true);
        assert!(
            told.contains("one of 5 that its committee counted in round 3, at block 41, signed by validation-1, -2, -3 of 4"),
            "{told}"
        );
        assert!(told.contains("100 points"), "{told}");
        let told = receipt.told(false);
        assert!(
            !told.contains("points") && !told.contains("claim"),
            "nobody can claim without a key: {told}"
        );
        let unpaid = Receipt {
            reward: 0,
            accepted: 1,
            ..receipt
        };
        let told = unpaid.told(true);
        assert!(
            told.contains("pays nothing") && told.contains("the only one that its committee"),
            "{told}"
        );
    }

    #[test]
    fn what_can_be_claimed_is_told_with_its_rounds_and_what_was_with_what_it_made() {
        let of = |rounds: &[u64]| Rewards {
            rewards: rounds
                .iter()
                .map(|&round| Reward { round, points: 100 })
                .collect(),
            before: 50,
            now: Balance {
                balance: 150,
                nonce: 1,
                block: at(41),
            },
        };
        let told = of(&[3, 4]).owed_told();
        let said = "key has 150 points, and 200 to claim for rounds 3, 4. Proven in this browser under block 41,";
        assert!(told.contains(said), "{told}");
        assert!(!of(&[]).owed_told().contains("claim"));
        assert!(
            of(&[1, 2, 3, 4, 5, 6, 7])
                .owed_told()
                .contains("for 7 rounds")
        );
        let told = of(&[3]).paid_told();
        let said =
            "100 points claimed for round 3. This browser's key had 50 points and has 150 now.";
        assert!(told.contains(said), "{told}");
        assert!(
            of(&[])
                .paid_told()
                .starts_with("All of it was claimed before")
        );
    }

    #[test]
    fn what_was_given_is_read_with_and_without_its_receipt() {
        let given = |receipt: &str| {
            let json = format!(
                r#"{{"report":"r","task":"t","taskName":"digits","round":2,"sentMs":5,"receipt":{receipt}}}"#
            );
            serde_json::from_str::<Given>(&json).unwrap().receipt
        };
        assert_eq!(given("null"), None);
        let kept = r#"{"chain":"c","task":"t","round":2,"report":"r","model":"m","accepted":3,"reward":7,"height":41,"digest":"d",
            "epoch":1,"timestampMs":1,"signers":["a"],"validators":4,"ms":1.5,"verifiedMs":1,"served":{}}"#;
        assert_eq!(given(kept).unwrap().accepted, 3);
    }

    #[test]
    fn rounds_are_found_in_blocks_and_the_newest_comes_first() {
        let blocks = [
            block(9, &[("vote", 2), ("claim", 1)]),
            block(8, &[("vote", 2)]),
            block(5, &[("round-opened", 2)]),
            block(3, &[("vote", 1)]),
        ];
        let found = rounds(&blocks);
        assert_eq!(found.iter().map(|r| r.round).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(
            (found[0].opened, found[0].votes, found[0].claims),
            (Some(5), 2, 0)
        );
        assert_eq!(
            (found[1].opened, found[1].votes, found[1].claims),
            (None, 1, 1)
        );
    }

    #[test]
    fn blocks_that_come_twice_are_listed_once() {
        let mut listed = vec![block(7, &[]), block(6, &[])];
        merge(&mut listed, vec![block(8, &[]), block(7, &[("vote", 1)])]);
        merge(&mut listed, vec![block(5, &[])]);
        let heights: Vec<_> = listed.iter().map(|block| block.height).collect();
        assert_eq!(heights, [8, 7, 6, 5]);
        assert_eq!(listed[1].txs.len(), 1);
    }

    #[test]
    fn a_mesh_says_of_a_key_and_a_round_what_was_proven() {
        let json = r#"{"node":"k","balance":1000,"nonce":1,"height":9,"digest":"d","epoch":2,"timestampMs":1,
            "signers":["validation-2"],"validators":4,"ms":0.4}"#;
        let balance: Balance = serde_json::from_str(json).unwrap();
        assert!(
            balance
                .told()
                .starts_with("This key has 1,000 points and has sent 1 transaction."),
            "{}",
            balance.told()
        );
        let json = r#"{"stage":"finished","accepted":5,"accepts":3,"complaints":1,"perReport":100,"unclaimed":500,"model":"m",
            "height":9,"digest":"d","epoch":2,"timestampMs":1,"signers":[],"validators":4,"ms":0.4}"#;
        let round: Standing = serde_json::from_str(json).unwrap();
        assert_eq!(round.votes_told(), "3 for the model, 1 complaint");
        assert_eq!(
            (round.stage_told(), round.per_report),
            ("Finished", Some(100))
        );
    }
}
