//! How this browser comes to take part in tasks that count enrolled participants only.

use std::collections::BTreeMap;

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast as _;

use crate::api::Task;
use crate::ledger::{Enrolled, Member};
use crate::light::{self, Failure};
use crate::memory;
use crate::schema::{Admission, Manifest};
use crate::session::Session;
use crate::state::sentence;

/// Where the focus goes when the form has done its work and is gone.
pub const STATE_ID: &str = "enrol-state";
/// How often the ledger is asked about a key that waits for an admin.
const LOOK_MS: u32 = 2_000;
/// Every so many looks a key that takes part is looked up too: an admin may have removed it.
const SELDOM: u32 = 8;

/// Where this browser stands with a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nobody has asked for anything here.
    Unasked,
    /// A person has asked for it before; the ledger is asked what came of it.
    Looking,
    /// A person has asked for it now.
    Asking,
    /// What the ledger says of this browser's key.
    Known(Enrolled),
}

/// The same, with why the last step was refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Enrolment {
    pub standing: Standing,
    pub refused: Option<String>,
}

impl Enrolment {
    fn of(standing: Standing) -> Self {
        Self {
            standing,
            refused: None,
        }
    }

    /// One word for it.
    pub fn word(&self, rule: Admission) -> &'static str {
        match &self.standing {
            Standing::Unasked => "none",
            Standing::Looking => "looking",
            Standing::Asking => "asking",
            Standing::Known(known) => match (known.state, rule) {
                (Member::Active, _) => "enrolled",
                (Member::Removed, _) => "removed",
                (Member::None, Admission::Approved) => "waiting",
                (Member::None, Admission::Open | Admission::Invite) => "none",
            },
        }
    }

    /// This browser's key, and whether it is kept; once there is one that matters.
    pub fn key(&self, rule: Admission) -> Option<(String, bool)> {
        match &self.standing {
            Standing::Known(known) if self.word(rule) != "none" => {
                Some((known.key.clone(), known.kept))
            }
            _ => None,
        }
    }

    /// Why nothing can be contributed.
    fn blocks(&self, rule: Admission) -> Option<String> {
        let because = match self.word(rule) {
            "enrolled" => return None,
            "looking" => "Looking up whether this browser is enrolled.",
            "asking" => "Your enrolment is on its way.",
            "waiting" => "Your key waits for an administrator of this task.",
            "removed" => "An administrator has removed this browser's key from the task.",
            _ => "Enrol first: this task counts enrolled participants only.",
        };
        Some(because.into())
    }
}

/// The enrolments of all tasks.
#[derive(Clone, Copy)]
pub struct Enrolments {
    all: RwSignal<BTreeMap<String, Enrolment>>,
    /// What manifests say, which never changes for a task's id.
    rules: StoredValue<BTreeMap<String, Option<Admission>>>,
    busy: StoredValue<bool>,
}

impl Enrolments {
    /// None.
    pub fn new() -> Self {
        Self {
            all: RwSignal::new(BTreeMap::new()),
            rules: StoredValue::new(BTreeMap::new()),
            busy: StoredValue::new(false),
        }
    }

    /// How participants come to a task; none where anybody contributes.
    pub fn admission(self, task: &Task) -> Option<Admission> {
        if let Some(known) = self.rules.with_value(|rules| rules.get(&task.id).copied()) {
            return known;
        }
        let rule = Manifest::read(&task.signed.payload).and_then(|manifest| manifest.admission);
        self.rules.update_value(|rules| {
            rules.insert(task.id.clone(), rule);
        });
        rule
    }

    fn of(self, task: &str) -> Enrolment {
        let known = self.all.with(|all| all.get(task).cloned());
        known.unwrap_or_else(|| {
            Enrolment::of(match memory::has_enrolled(task) {
                true => Standing::Looking,
                false => Standing::Unasked,
            })
        })
    }

    fn put(self, task: &str, enrolment: Enrolment) {
        if self
            .all
            .with_untracked(|all| all.get(task) != Some(&enrolment))
        {
            self.all.update(|all| {
                all.insert(task.to_owned(), enrolment);
            });
        }
    }
}

async fn look(task: &str) -> Result<Enrolled, Failure> {
    light::enrolled(&light::mesh().await?, task).await
}

impl Session {
    /// How this browser stands with the selected task, if that counts enrolled participants only.
    pub fn enrolment(self) -> Option<(Admission, Enrolment)> {
        let task = self.task()?;
        let rule = self.enrolments.admission(&task)?;
        Some((rule, self.enrolments.of(&task.id)))
    }

    /// Why a contribution to a task would not be counted.
    pub fn not_enrolled(self, task: &Task) -> Option<String> {
        let rule = self.enrolments.admission(task)?;
        self.enrolments.of(&task.id).blocks(rule)
    }

    /// Enrols this browser for the selected task, as its rule says: with the invite's code, or by making a key to show to an
    /// admin.
    pub fn enrol(self, code: String) {
        let Some(task) = self.task() else { return };
        let Some(rule) = self.enrolments.admission(&task) else {
            return;
        };
        let before = self.enrolments.of(&task.id);
        if before.standing == Standing::Asking {
            return;
        }
        self.enrolments
            .put(&task.id, Enrolment::of(Standing::Asking));
        spawn_local(async move {
            let asked = async {
                let mesh = light::mesh().await?;
                match rule {
                    Admission::Approved => light::enrolled(&mesh, &task.id).await,
                    Admission::Open | Admission::Invite => {
                        light::enrol(&mesh, &task.id, code.trim()).await
                    }
                }
            };
            let enrolment = match asked.await {
                Ok(known) => {
                    memory::enrols(&task.id);
                    Enrolment::of(Standing::Known(known))
                }
                Err(failure) => Enrolment {
                    standing: before.standing,
                    refused: Some(sentence(&failure.told())),
                },
            };
            let done = enrolment.refused.is_none();
            self.enrolments.put(&task.id, enrolment);
            if done {
                TimeoutFuture::new(0).await;
                focus(STATE_ID);
            }
        });
    }

    /// Notices what becomes of keys.
    pub fn follow_enrolments(self) {
        spawn_local(async move {
            for turn in 0_u32.. {
                self.look_enrolment_up(turn.is_multiple_of(SELDOM)).await;
                TimeoutFuture::new(LOOK_MS).await;
            }
        });
        // At once for a task that a person turns to.
        let turned_to = Memo::new(move |_| {
            let task = self.task()?;
            self.enrolments.admission(&task).map(|_| task.id)
        });
        Effect::new(move |_| {
            if turned_to.get().is_some() {
                spawn_local(self.look_enrolment_up(false));
            }
        });
    }

    async fn look_enrolment_up(self, all: bool) {
        let Some(task) = untrack(|| self.task()) else {
            return;
        };
        let Some(rule) = self.enrolments.admission(&task) else {
            return;
        };
        let now = untrack(|| self.enrolments.of(&task.id));
        let word = now.word(rule);
        let wanted = matches!(word, "looking" | "waiting" | "removed")
            || (all && word == "enrolled")
            // In another tab.
            || (now.standing == Standing::Unasked && memory::has_enrolled(&task.id));
        if !wanted || self.enrolments.busy.get_value() {
            return;
        }
        self.enrolments.busy.set_value(true);
        let found = look(&task.id).await;
        self.enrolments.busy.set_value(false);
        if untrack(|| self.enrolments.of(&task.id)) != now {
            return;
        }
        match (found, &now.standing) {
            // The first proof is as good; nothing moves on the page.
            (Ok(known), Standing::Known(before))
                if (known.state, &known.key) == (before.state, &before.key) => {}
            (Ok(known), _) => self
                .enrolments
                .put(&task.id, Enrolment::of(Standing::Known(known))),
            // What was proven stays so; what was not is asked again.
            (Err(failure), Standing::Looking) => self.enrolments.put(
                &task.id,
                Enrolment {
                    standing: Standing::Looking,
                    refused: Some(sentence(&failure.told())),
                },
            ),
            (Err(_), _) => {}
        }
    }
}

/// Moves the focus to an element.
pub fn focus(id: &str) {
    let element = document().get_element_by_id(id);
    if let Some(element) = element.and_then(|e| e.dyn_into::<web_sys::HtmlElement>().ok()) {
        let _ = element.focus();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(state: &str) -> Enrolment {
        let json = format!(
            r#"{{"key":"k","kept":true,"state":"{state}","height":9,"signers":["a-1"],"validators":4,"ms":2.0}}"#
        );
        Enrolment::of(Standing::Known(serde_json::from_str(&json).unwrap()))
    }

    #[test]
    fn only_a_key_that_the_ledger_proves_contributes() {
        for rule in [Admission::Open, Admission::Invite, Admission::Approved] {
            assert_eq!(known("active").blocks(rule), None);
            for other in [
                known("none"),
                known("removed"),
                Enrolment::of(Standing::Unasked),
                Enrolment::of(Standing::Looking),
                Enrolment::of(Standing::Asking),
            ] {
                assert!(other.blocks(rule).is_some(), "{other:?}");
            }
        }
    }

    #[test]
    fn a_key_is_shown_where_somebody_is_to_let_it_in() {
        assert_eq!(known("none").word(Admission::Approved), "waiting");
        assert!(known("none").key(Admission::Approved).is_some());
        assert_eq!(known("none").word(Admission::Invite), "none");
        assert_eq!(known("none").key(Admission::Invite), None);
        assert_eq!(known("removed").word(Admission::Open), "removed");
    }
}
