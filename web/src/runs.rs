//! Contributions on their way, one for each task, and what people can do with them.

use std::collections::BTreeMap;

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use web_sys::AbortController;

use crate::api::Task;
use crate::light::{self, Delivered, Ears, Failure};
use crate::memory::{self, Left};
use crate::proof;
use crate::session::{Loaded, Session};
use crate::state::{Input, Run, Status};
use crate::tabs;

/// Every so many seconds the task is asked for even if no event said that it has changed.
const UNASKED: u32 = 10;
/// How often the page looks what the browser's other tabs do.
const LOOK_MS: u32 = 1000;

/// How often a receipt is asked for at first, and after some tries.
const PROOF_MS: u32 = 2_000;
const LATE_PROOF_MS: u32 = 20_000;
const SOON: u32 = 60;
/// How often it is asked for while the task has a newer run.
const MOST_UNSEEN: u32 = 100;

/// What a person wants of a contribution that is being worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    None,
    Stop,
    Discard,
    /// Not to wait for the next try.
    Retry,
}

/// How this tab drives a task's run.
#[derive(Default)]
struct Reins {
    /// Runs started so far; what an old one says later is not heard.
    turn: u32,
    stop: Option<AbortController>,
    wish: Wish,
}

/// The runs of all tasks.
#[derive(Clone, Copy)]
pub struct Runs {
    runs: RwSignal<BTreeMap<String, Run>>,
    /// What other tabs work for.
    others: RwSignal<BTreeMap<String, Left>>,
    reins: StoredValue<BTreeMap<String, Reins>, LocalStorage>,
    looking: StoredValue<bool>,
}

impl Runs {
    /// None.
    pub fn new() -> Self {
        Self {
            runs: RwSignal::new(BTreeMap::new()),
            others: RwSignal::new(BTreeMap::new()),
            reins: StoredValue::new_local(BTreeMap::new()),
            looking: StoredValue::new(false),
        }
    }

    /// A task's run.
    pub fn of(self, task: &str) -> Run {
        self.runs
            .with(|runs| runs.get(task).cloned().unwrap_or_default())
    }

    fn now(self, task: &str) -> Run {
        self.runs
            .with_untracked(|runs| runs.get(task).cloned().unwrap_or_default())
    }

    /// What another tab of this browser does for a task.
    pub fn elsewhere(self, task: &str) -> Option<Left> {
        self.others.with(|others| others.get(task).cloned())
    }

    fn drive<T>(self, task: &str, act: impl FnOnce(&mut Reins) -> T) -> Option<T> {
        self.reins
            .try_update_value(|all| act(all.entry(task.to_owned()).or_default()))
    }

    fn is_current(self, task: &str, turn: u32) -> bool {
        self.drive(task, |reins| reins.turn) == Some(turn)
    }

    fn feed(self, task: &str, turn: u32, input: Input) {
        if self.is_current(task, turn) {
            self.runs
                .update(|runs| runs.entry(task.to_owned()).or_default().take(input));
        }
    }

    fn drop(self, task: &str) {
        self.runs.update(|runs| {
            runs.remove(task);
        });
    }

    /// Ends the runs of tasks that are not listed, and gives them as they were.
    pub fn end_unlisted(self, listed: &[Task]) -> Vec<(String, Run)> {
        let unlisted: Vec<_> = self.runs.with_untracked(|runs| {
            let unlisted = runs
                .iter()
                .filter(|(id, _)| listed.iter().all(|task| task.id != **id));
            unlisted
                .map(|(id, run)| (id.clone(), run.clone()))
                .collect()
        });
        for (task, _) in &unlisted {
            let stop = self.drive(task, |reins| {
                // What it says later is not heard.
                reins.turn += 1;
                reins.stop.take()
            });
            if let Some(stop) = stop.flatten() {
                stop.abort();
            }
            self.drop(task);
            tabs::let_go(&memory::key(task));
        }
        let was_going_on = |run: &Run| run.busy() || run.left || run.status == Status::Delivered;
        unlisted
            .into_iter()
            .filter(|(_, run)| was_going_on(run))
            .collect()
    }

    /// The next turn, with the means to hear and to stop it.
    fn begin(self, task: &str) -> (u32, Ears) {
        let turn = self.drive(task, |reins| {
            reins.turn += 1;
            reins.wish = Wish::None;
            reins.turn
        });
        let turn = turn.unwrap_or_default();
        let heard = task.to_owned();
        let ears = Ears::new(move |event| self.feed(&heard, turn, Input::Event(event)));
        self.drive(task, |reins| reins.stop = ears.stopper());
        (turn, ears)
    }
}

async fn kept(task: &str) -> Result<Vec<light::Kept>, Failure> {
    let all = light::kept(&light::mesh().await?).await?;
    Ok(all.into_iter().filter(|kept| kept.task == task).collect())
}

/// Nothing is left to do for a task's contribution, or only what a person asks for.
fn finish(task: &str, left: Option<&Left>) {
    memory::leave(task, left);
    tabs::let_go(&memory::key(task));
}

/// Whether another report of the task is to be sent now.
#[derive(PartialEq, Eq)]
enum Next {
    Again,
    Over,
}

impl Session {
    /// Trains on the picked rows and sends the result.
    pub fn contribute(self) {
        let (Some(task), Some(chosen)) = (self.task(), self.chosen()) else {
            return;
        };
        let run = self.runs.now(&task.id);
        if run.busy() || run.left {
            return;
        }
        let (turn, ears) = self.runs.begin(&task.id);
        self.runs.feed(
            &task.id,
            turn,
            Input::Start {
                task: task.id.clone(),
            },
        );
        spawn_local(async move {
            let task = task.id;
            if !tabs::hold(&memory::key(&task)).await {
                self.runs.drop(&task);
                return self.look_around(false).await;
            }
            memory::leave(&task, Some(&Left::default()));
            let rows = chosen.rows.to_js();
            let result =
                async { light::contribute(&light::mesh().await?, &task, &rows, &ears).await };
            let result = result.await;
            if self.end(&task, turn, result).await == Next::Again {
                self.send_kept(task).await;
            }
        });
    }

    /// Stops the selected task's contribution. What is sealed stays in this browser.
    pub fn stop(self) {
        self.wish(Wish::Stop);
    }

    /// Drops the selected task's contribution.
    pub fn discard(self) {
        self.wish(Wish::Discard);
    }

    /// Sends it now.
    pub fn try_now(self) {
        self.wish(Wish::Retry);
    }

    fn wish(self, wish: Wish) {
        let Some(task) = self.task().map(|task| task.id) else {
            return;
        };
        let run = self.runs.now(&task);
        if run.busy() {
            // What comes of the stopping is seen to where the work was started.
            let stop = self.runs.drive(&task, |reins| {
                reins.wish = wish;
                reins.stop.clone()
            });
            if let Some(stop) = stop.flatten() {
                stop.abort();
            }
        } else if run.left && wish == Wish::Retry {
            let (turn, _) = self.runs.begin(&task);
            self.runs.feed(&task, turn, Input::GoOn);
            spawn_local(async move {
                if !tabs::hold(&memory::key(&task)).await {
                    self.runs.drop(&task);
                    return self.look_around(false).await;
                }
                memory::leave(&task, Some(&Left::default()));
                self.send_kept(task).await;
            });
        } else if run.left && wish == Wish::Discard {
            let (turn, _) = self.runs.begin(&task);
            spawn_local(async move {
                self.drop_kept(&task, turn).await;
                self.look_around(false).await;
            });
        }
    }

    async fn drop_kept(self, task: &str, turn: u32) {
        let dropped = async {
            let mesh = light::mesh().await?;
            for report in kept(task).await? {
                light::discard(&mesh, &report.report).await?;
            }
            Ok(())
        };
        match dropped.await {
            Ok(()) => {
                finish(task, None);
                self.runs.feed(task, turn, Input::Discarded);
            }
            Err(failure) => {
                self.runs.feed(task, turn, Input::Refused(failure));
                self.runs.feed(task, turn, Input::StillKept);
            }
        }
    }

    /// Goes on with what was left, and sees what other tabs do.
    pub fn go_on(self) {
        spawn_local(async move {
            self.look_around(true).await;
            loop {
                TimeoutFuture::new(LOOK_MS).await;
                self.look_around(false).await;
            }
        });
    }

    async fn look_around(self, first: bool) {
        // Twice at once, both could take up the same.
        if self.runs.looking.get_value() {
            return;
        }
        self.runs.looking.set_value(true);
        self.look(first).await;
        self.runs.looking.set_value(false);
    }

    async fn look(self, first: bool) {
        let held = tabs::elsewhere().await;
        let Some(left) = memory::left() else { return };
        let is_held = |task: &str| {
            let key = memory::key(task);
            held.iter().flatten().any(|name| *name == key)
        };
        let others: BTreeMap<_, _> = left
            .iter()
            .filter(|(task, _)| is_held(task))
            .map(|(task, left)| (task.clone(), left.clone()))
            .collect();
        if self.runs.others.with_untracked(|now| *now != others) {
            self.runs.others.set(others);
        }
        // Another tab has sent or dropped what was kept.
        let gone: Vec<_> = self.runs.runs.with_untracked(|runs| {
            let gone = runs
                .iter()
                .filter(|(task, run)| run.left && !left.contains_key(*task));
            gone.map(|(task, _)| task.clone()).collect()
        });
        gone.iter().for_each(|task| self.runs.drop(task));
        for (task, left) in left {
            let run = self.runs.now(&task);
            // Nothing can come of it now. It is taken up when the mesh lists the task again.
            if self.is_unlisted(&task) {
                continue;
            }
            if is_held(&task) || tabs::is_mine(&memory::key(&task)) || run.left || run.busy() {
                continue;
            }
            // Without locks nobody can tell what another tab does; only what was left at the start is taken up.
            if first || held.is_some() {
                self.take_up(task, left).await;
            }
        }
    }

    /// Goes on with what an earlier page or a tab that was closed has left.
    async fn take_up(self, task: String, left: Left) {
        self.suggest(&task);
        if left.stopped {
            let kept = kept(&task).await;
            let (turn, _) = self.runs.begin(&task);
            match kept.map(|kept| kept.into_iter().next()) {
                Ok(Some(kept)) => self.runs.feed(&task, turn, Input::Kept(kept)),
                Ok(None) => finish(&task, None),
                Err(failure) => {
                    self.runs.feed(&task, turn, Input::Refused(failure));
                    self.runs.feed(&task, turn, Input::StillKept);
                }
            }
            return;
        }
        if !tabs::hold(&memory::key(&task)).await {
            return;
        }
        match left.delivered {
            Some(delivered) => {
                let (turn, _) = self.runs.begin(&task);
                self.runs.feed(&task, turn, Input::Again(delivered.clone()));
                spawn_local(async move { self.watch(&task, turn, delivered).await });
            }
            None => spawn_local(self.send_kept(task)),
        }
    }

    async fn send_kept(self, task: String) {
        loop {
            let (turn, ears) = self.runs.begin(&task);
            let found = async {
                let next = kept(&task).await?.into_iter().next();
                Ok::<_, Failure>((light::mesh().await?, next))
            };
            let (mesh, report) = match found.await {
                Ok((mesh, Some(report))) => (mesh, report),
                Ok((_, None)) => {
                    finish(&task, None);
                    return self.runs.drop(&task);
                }
                Err(failure) => {
                    tabs::let_go(&memory::key(&task));
                    self.runs.feed(&task, turn, Input::Refused(failure));
                    return self.runs.feed(&task, turn, Input::StillKept);
                }
            };
            let id = report.report.clone();
            self.runs.feed(&task, turn, Input::Resume(report));
            let result = light::resume(&mesh, &id, &ears).await;
            if self.end(&task, turn, result).await == Next::Over {
                return;
            }
        }
    }

    async fn end(self, task: &str, turn: u32, result: Result<Delivered, Failure>) -> Next {
        if !self.runs.is_current(task, turn) {
            return Next::Over;
        }
        let kept = kept(task).await;
        let is_kept = |unknown: bool| kept.as_ref().map_or(unknown, |kept| !kept.is_empty());
        let failure = match result {
            // Only the last of several is watched until it is counted.
            Ok(_) if is_kept(false) => return Next::Again,
            Ok(delivered) => {
                let left = Left {
                    delivered: Some(delivered.clone()),
                    stopped: false,
                };
                memory::leave(task, Some(&left));
                self.runs
                    .feed(task, turn, Input::Delivered(delivered.clone()));
                self.watch(task, turn, delivered).await;
                return Next::Over;
            }
            Err(failure) => failure,
        };
        // A refused report is gone; one that merely could not be sent is still with the light node.
        let left = is_kept(self.runs.now(task).resumed);
        let wish = self
            .runs
            .drive(task, |reins| std::mem::take(&mut reins.wish));
        let stopped = failure.code == "aborted";
        match wish.filter(|_| stopped).unwrap_or_default() {
            Wish::Retry if left => return Next::Again,
            Wish::Discard if left => {
                self.drop_kept(task, turn).await;
                return Next::Over;
            }
            Wish::Stop | Wish::Discard | Wish::Retry => {
                self.runs.feed(task, turn, Input::Stopped { left });
            }
            Wish::None => {
                self.runs.feed(task, turn, Input::Refused(failure));
                if left {
                    self.runs.feed(task, turn, Input::StillKept);
                }
            }
        }
        let entry = Left {
            delivered: None,
            stopped,
        };
        finish(task, left.then_some(&entry));
        Next::Over
    }

    /// Asks what became of a delivered report until its round is over.
    async fn watch(self, task: &str, turn: u32, delivered: Delivered) {
        let mut seen = None;
        let mut asked = 0_u32;
        while self.runs.is_current(task, turn) && self.runs.now(task).status == Status::Delivered {
            if let Ok(mesh) = light::mesh().await
                && let Ok(outcome) = light::outcome(&mesh, &delivered).await
            {
                self.runs.feed(task, turn, Input::Outcome(outcome));
            }
            let stage = self.tasks.with_untracked(|tasks| match tasks {
                Loaded::Here(tasks) => tasks.iter().find(|there| there.id == task).map(Task::stage),
                Loaded::Loading | Loaded::Failed(_) => None,
            });
            asked += 1;
            if (seen != stage || asked.is_multiple_of(UNASKED))
                && let Some(task) = self.load_history(task).await
            {
                seen = Some(task.stage());
                self.runs
                    .feed(&task.id.clone(), turn, Input::Task(Box::new(task)));
            }
            TimeoutFuture::new(1000).await;
        }
        if self.runs.is_current(task, turn) {
            finish(task, None);
        }
        if self.runs.now(task).status == Status::Counted {
            self.prove(task, turn, &delivered).await;
        }
    }

    /// Asks for the ledger's receipt of a contribution that the mesh says is counted. The light node keeps it.
    async fn prove(self, task: &str, turn: u32, delivered: &Delivered) {
        for tries in 0_u32.. {
            let found = proof::ask(task, delivered.round, &delivered.report, tries).await;
            let settled = found.is_settled();
            self.runs.feed(task, turn, Input::Proof(found));
            if settled || (tries > MOST_UNSEEN && !self.runs.is_current(task, turn)) {
                return;
            }
            TimeoutFuture::new(if tries < SOON {
                PROOF_MS
            } else {
                LATE_PROOF_MS
            })
            .await;
        }
    }
}
