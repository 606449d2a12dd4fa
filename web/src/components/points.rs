//! What this browser's key for a task has earned, and the button that claims it.

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::enrolment::focus;
use crate::format::count;
use crate::ledger::Rewards;
use crate::light::{self, Failure};
use crate::state::sentence;

/// How often it is looked up before a person reads why that fails, and how long after each other.
const TRIES: u32 = 4;
const AGAIN_MS: u32 = 3_000;
/// Where the focus goes when the button has done its work and is gone.
const TOLD_ID: &str = "points-told";

/// How it stands.
#[derive(Debug, Clone, PartialEq)]
enum Points {
    Looking,
    Known(Rewards),
    Claiming(Rewards),
    Paid(Rewards),
    /// With what can still be claimed, if that is known.
    Failed(Option<Rewards>, String),
}

impl Points {
    /// One word for it; `none` where there is nothing to show.
    fn word(&self) -> &'static str {
        match self {
            Self::Looking => "none",
            Self::Known(known) if known.points() > 0 => "owed",
            Self::Known(known) if known.now.balance == 0 => "none",
            Self::Known(_) => "has",
            Self::Claiming(_) => "claiming",
            Self::Paid(_) => "paid",
            Self::Failed(..) => "failed",
        }
    }

    fn told(&self) -> String {
        match self {
            Self::Looking => String::new(),
            Self::Failed(_, why) => why.clone(),
            Self::Known(known) | Self::Claiming(known) => known.owed_told(),
            Self::Paid(paid) => paid.paid_told(),
        }
    }

    /// What the button says, where there is one.
    fn button(&self) -> Option<String> {
        match self {
            Self::Known(known) | Self::Failed(Some(known), _) if known.points() > 0 => {
                Some(format!("Claim {}", count(known.points(), "point")))
            }
            Self::Claiming(_) => Some("Claiming…".into()),
            Self::Failed(..) => Some("Look again".into()),
            Self::Looking | Self::Known(_) | Self::Paid(_) => None,
        }
    }

    /// What a look has found, unless a person has pressed the button meanwhile, or it says what is told already.
    fn take(&mut self, found: Result<Rewards, Failure>) {
        match (&*self, found) {
            (Self::Claiming(_), _) => {}
            (Self::Paid(paid), Ok(found))
                if found.points() == 0 && found.now.balance == paid.now.balance => {}
            (_, Ok(found)) => *self = Self::Known(found),
            // What was proven stays so.
            (Self::Looking | Self::Failed(None, _), Err(failure)) => {
                *self = Self::Failed(None, sentence(&failure.told()));
            }
            (_, Err(_)) => {}
        }
    }
}

/// A task's points; looked up anew whenever `again` changes.
pub fn points(task: String, again: Memo<u64>) -> impl IntoView {
    let stand = RwSignal::new(Points::Looking);
    let id = task.clone();
    Effect::new(move |_| {
        // Read, not tracked: what was never read never changes.
        again.get();
        look(id.clone(), stand);
    });
    let press = move |_| match stand.get_untracked() {
        Points::Known(known) | Points::Failed(Some(known), _) => claim(task.clone(), known, stand),
        Points::Failed(None, _) => look(task.clone(), stand),
        Points::Looking | Points::Claiming(_) | Points::Paid(_) => {}
    };
    let word = move || stand.with(Points::word);
    let says = move || stand.with(Points::button);
    view! {
        <div class="points" data-testid="points" data-state=word hidden=move || word() == "none">
            <p id=TOLD_ID tabindex="-1" role="status" data-testid="points-told">{move || stand.with(Points::told)}</p>
            <button class="main" data-testid="claim" hidden=move || says().is_none() on:click=press>{says}</button>
        </div>
    }
}

fn look(task: String, stand: RwSignal<Points>) {
    spawn_local(async move {
        for left in (0..TRIES).rev() {
            let found = async { light::rewards(&light::mesh().await?, &task).await }.await;
            if found.is_ok() || left == 0 {
                // The page may show something else by now.
                stand.try_update(|stand| stand.take(found));
                return;
            }
            TimeoutFuture::new(AGAIN_MS).await;
        }
    });
}

fn claim(task: String, known: Rewards, stand: RwSignal<Points>) {
    stand.set(Points::Claiming(known.clone()));
    spawn_local(async move {
        let paid = async { light::claim(&light::mesh().await?, &task).await }.await;
        let done = paid.is_ok();
        stand.try_set(match paid {
            Ok(paid) => Points::Paid(paid),
            Err(failure) => Points::Failed(Some(known), sentence(&failure.told())),
        });
        if done {
            TimeoutFuture::new(0).await;
            focus(TOLD_ID);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Reward;
    use crate::proof::tests::refused;

    fn known(balance: u64, owed: &[u64]) -> Rewards {
        let json = format!(
            r#"{{"balance":{balance},"nonce":1,"height":9,"signers":["a-1"],"validators":4,"ms":2.0}}"#
        );
        let reward = |&round: &u64| Reward { round, points: 100 };
        Rewards {
            rewards: owed.iter().map(reward).collect(),
            before: 0,
            now: serde_json::from_str(&json).unwrap(),
        }
    }

    fn paid(balance: u64) -> Points {
        Points::Paid(known(balance, &[1]))
    }

    #[test]
    fn there_is_a_button_only_where_there_is_something_to_claim() {
        for (points, word, button) in [
            (Points::Looking, "none", None),
            (Points::Known(known(0, &[])), "none", None),
            (Points::Known(known(100, &[])), "has", None),
            (
                Points::Known(known(0, &[1, 2])),
                "owed",
                Some("Claim 200 points"),
            ),
            (
                Points::Claiming(known(0, &[1])),
                "claiming",
                Some("Claiming…"),
            ),
            (paid(100), "paid", None),
            (
                Points::Failed(Some(known(0, &[1])), "No.".into()),
                "failed",
                Some("Claim 100 points"),
            ),
            (
                Points::Failed(None, "No.".into()),
                "failed",
                Some("Look again"),
            ),
        ] {
            assert_eq!((points.word(), points.button().as_deref()), (word, button));
        }
    }

    #[test]
    fn a_look_disturbs_no_claim_and_no_answer() {
        let after = |mut points: Points, found| {
            points.take(found);
            points.word()
        };
        let claiming = Points::Claiming(known(0, &[1]));
        assert_eq!(after(claiming, Ok(known(0, &[1]))), "claiming");
        assert_eq!(after(paid(100), Ok(known(100, &[]))), "paid");
        assert_eq!(after(paid(100), Ok(known(100, &[2]))), "owed");
        assert_eq!(
            after(Points::Looking, Err(refused("older-state"))),
            "failed"
        );
        let proven = Points::Known(known(100, &[]));
        assert_eq!(after(proven, Err(refused("older-state"))), "has");
    }
}
