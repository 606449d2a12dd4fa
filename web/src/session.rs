//! The page's signals, and what people can do with them.

use std::collections::BTreeMap;

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen_futures::JsFuture;
use web_sys::AbortController;

use crate::api::{self, Record, Task};
use crate::data::{Check, Chosen, Rows, Source};
use crate::drawing::{self, Labelled};
use crate::light::{self, Ears, Failure};
use crate::memory;
use crate::rows::{self, Preview};
use crate::schema::Schema;
use crate::state::{Input, Run, Status, Step};

/// Every so many seconds the task is asked for even if no event said that it has changed.
const UNASKED: u32 = 10;

type Local<T> = RwSignal<T, LocalStorage>;

/// How a list that comes over the network stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded<T> {
    Loading,
    Here(T),
    Failed(String),
}

/// Everything the page shows.
#[derive(Clone, Copy)]
pub struct Session {
    pub mesh: RwSignal<Loaded<api::Mesh>>,
    pub tasks: RwSignal<Loaded<Vec<Task>>>,
    /// Whether changes arrive by themselves.
    pub live: RwSignal<bool>,
    selected: RwSignal<Option<String>>,
    histories: RwSignal<BTreeMap<String, Vec<Record>>>,
    chosen: Local<BTreeMap<String, Chosen>>,
    /// Why the last pick was refused.
    pub refused: RwSignal<Option<String>>,
    pub run: RwSignal<Run>,
    /// Runs and checks started so far; what an old one says later is not heard.
    turn: StoredValue<u32>,
    checks: StoredValue<u32>,
    stop: Local<Option<AbortController>>,
}

impl Session {
    /// An empty page.
    pub fn new() -> Self {
        Self {
            mesh: RwSignal::new(Loaded::Loading),
            tasks: RwSignal::new(Loaded::Loading),
            live: RwSignal::new(true),
            selected: RwSignal::new(None),
            histories: RwSignal::new(BTreeMap::new()),
            chosen: RwSignal::new_local(BTreeMap::new()),
            refused: RwSignal::new(None),
            run: RwSignal::new(Run::default()),
            turn: StoredValue::new(0),
            checks: StoredValue::new(0),
            stop: RwSignal::new_local(None),
        }
    }

    /// The selected task, with its history.
    pub fn task(self) -> Option<Task> {
        let Loaded::Here(tasks) = self.tasks.get() else {
            return None;
        };
        let selected = self.selected.get();
        let mut task = tasks
            .iter()
            .find(|task| Some(&task.id) == selected.as_ref())
            .or(tasks.first())?
            .clone();
        task.history = self.histories.with(|all| all.get(&task.id).cloned());
        Some(task)
    }

    /// The tasks, newest state each.
    pub fn put_tasks(self, tasks: Vec<Task>) {
        self.tasks.set(Loaded::Here(tasks));
    }

    /// One task's newer state.
    pub fn put_task(self, task: Task) {
        self.tasks.update(|tasks| match tasks {
            Loaded::Here(tasks) => match tasks.iter_mut().find(|there| there.id == task.id) {
                Some(there) => *there = task,
                None => tasks.push(task),
            },
            // A single task must not look like the whole list.
            Loaded::Loading | Loaded::Failed(_) => {}
        });
    }

    /// Shows another task.
    pub fn select(self, id: String) {
        self.selected.set(Some(id));
        self.refused.set(None);
    }

    /// Loads one task with its history.
    pub async fn load_history(self, id: &str) -> Option<Task> {
        let task: Task = api::get(&format!("/api/v1/tasks/{id}")).await.ok()?;
        let records = task.history.clone().unwrap_or_default();
        self.histories.update(|all| {
            all.insert(task.id.clone(), records);
        });
        self.put_task(Task {
            history: None,
            ..task.clone()
        });
        Some(task)
    }

    /// The rows picked for the selected task.
    pub fn chosen(self) -> Option<Chosen> {
        let task = self.task()?;
        self.chosen.with(|all| all.get(&task.id).cloned())
    }

    /// Picks a random slice of the task's samples.
    pub fn choose_sample(self) {
        let Some((task, address)) = self
            .task()
            .and_then(|task| task.sample.clone().map(|at| (task, at)))
        else {
            return;
        };
        self.refused.set(None);
        spawn_local(async move {
            match api::text(&address).await {
                Ok(csv) => match rows::sample(&csv, js_sys::Math::random()) {
                    Some(sample) => {
                        let preview = rows::preview(&sample.text, true);
                        let source = Source::Sample { of: sample.of };
                        self.choose(
                            &task,
                            source,
                            Rows::Text(sample.text),
                            preview,
                            Some(sample.rows as u64),
                        );
                    }
                    None => self.refused.set(Some(
                        "The mesh has no sample rows for this task. Pick a CSV file.".into(),
                    )),
                },
                Err(message) => self.refused.set(Some(message)),
            }
        });
    }

    /// Picks a file, unless it is too large to be read.
    pub fn choose_file(self, file: web_sys::File) {
        let Some(task) = self.task() else { return };
        self.refused.set(rows::too_large(&file.name(), file.size()));
        if self.refused.with_untracked(Option::is_some) {
            return;
        }
        spawn_local(async move {
            let whole = file.size() <= rows::PREVIEW_BYTES;
            let start = match file.slice_with_f64_and_f64(0.0, rows::PREVIEW_BYTES) {
                Ok(start) => JsFuture::from(start.text())
                    .await
                    .ok()
                    .and_then(|text| text.as_string()),
                Err(_) => None,
            };
            let preview = rows::preview(&start.unwrap_or_default(), whole);
            let source = Source::File { name: file.name() };
            self.choose(&task, source, Rows::File(file), preview, None);
        });
    }

    /// Picks the drawings made so far.
    pub fn choose_drawings(self, schema: &Schema, pictures: Vec<Labelled>) {
        let Some(task) = self.task() else { return };
        self.refused.set(None);
        let csv = drawing::csv(schema, &pictures);
        let (preview, rows) = (rows::preview(&csv, true), pictures.len() as u64);
        self.choose(
            &task,
            Source::Drawn(pictures),
            Rows::Text(csv),
            preview,
            Some(rows),
        );
    }

    /// Forgets the rows picked for the selected task.
    pub fn unchoose(self) {
        if let Some(task) = self.task() {
            self.chosen.update(|all| {
                all.remove(&task.id);
            });
        }
    }

    fn choose(self, task: &Task, source: Source, rows: Rows, preview: Preview, known: Option<u64>) {
        let chosen = Chosen {
            source,
            rows,
            preview,
            known,
            check: Check::Running,
        };
        self.chosen.update(|all| {
            all.insert(task.id.clone(), chosen);
        });
        self.check(task.id.clone());
    }

    /// Checks the picked rows against the task, in the light node.
    pub fn check(self, task: String) {
        self.checks.update_value(|checks| *checks += 1);
        let mine = self.checks.get_value();
        let put = move |task: &str, check| {
            self.chosen.update(|all| {
                if let Some(chosen) = all.get_mut(task) {
                    chosen.check = check;
                }
            });
        };
        let Some(rows) = self
            .chosen
            .with_untracked(|all| all.get(&task).map(|chosen| chosen.rows.to_js()))
        else {
            return;
        };
        put(&task, Check::Running);
        spawn_local(async move {
            let checked = async { light::check(&light::mesh().await?, &task, &rows).await };
            let check = match checked.await {
                Ok(checked) => Check::Done(checked),
                Err(failure) => Check::Failed(failure),
            };
            if mine == self.checks.get_value() {
                put(&task, check);
            }
        });
    }

    fn feed(self, turn: u32, input: Input) {
        if turn == self.turn.get_value() {
            self.run.update(|run| run.take(input));
        }
    }

    fn next_turn(self, first: Input) -> u32 {
        self.turn.update_value(|turn| *turn += 1);
        let turn = self.turn.get_value();
        self.feed(turn, first);
        turn
    }

    fn ears(self, turn: u32) -> Ears {
        let ears = Ears::new(move |event| self.feed(turn, Input::Event(event)));
        self.stop.set(ears.stopper());
        ears
    }

    /// Trains on the picked rows and sends the result.
    pub fn contribute(self) {
        let (Some(task), Some(chosen)) = (self.task(), self.chosen()) else {
            return;
        };
        if self.run.with_untracked(Run::busy) {
            return;
        }
        memory::set_unfinished(true);
        memory::set_delivered(None);
        let turn = self.next_turn(Input::Start {
            task: task.id.clone(),
        });
        let ears = self.ears(turn);
        spawn_local(async move {
            let rows = chosen.rows.to_js();
            let result =
                async { light::contribute(&light::mesh().await?, &task.id, &rows, &ears).await };
            self.end(turn, result.await).await;
        });
    }

    /// Sends what an earlier page left, and goes on watching what it had sent.
    pub fn go_on(self) {
        if let Some(delivered) = memory::delivered() {
            self.select(delivered.task.clone());
            let turn = self.next_turn(Input::Again(delivered.clone()));
            spawn_local(self.watch(turn, delivered));
        }
        if memory::unfinished() {
            spawn_local(self.send_kept());
        }
    }

    /// Does not wait for the next try.
    pub fn try_now(self) {
        // The stopped try says that it was stopped; nobody needs to hear that.
        self.turn.update_value(|turn| *turn += 1);
        if let Some(stop) = self.stop.get_untracked() {
            stop.abort();
        }
        spawn_local(self.send_kept());
    }

    async fn send_kept(self) {
        let kept = match light::mesh().await {
            Ok(mesh) => light::kept(&mesh).await.map(|kept| (mesh, kept)),
            Err(failure) => Err(failure),
        };
        let (mesh, kept) = match kept {
            Ok(found) => found,
            Err(failure) => {
                let turn = self.next_turn(Input::Refused(failure));
                return self.feed(turn, Input::StillKept);
            }
        };
        memory::set_unfinished(!kept.is_empty());
        if kept.is_empty() && self.run.with_untracked(|run| run.busy() || run.left) {
            self.run.set(Run::default());
        }
        for report in kept {
            self.select(report.task.clone());
            let id = report.report.clone();
            let turn = self.next_turn(Input::Resume(report));
            let ears = self.ears(turn);
            let result = light::resume(&mesh, &id, &ears).await;
            if turn != self.turn.get_value() {
                return;
            }
            // The next kept report is sent at once; only the last one is watched until it is counted.
            spawn_local(self.end(turn, result));
        }
    }

    async fn end(self, turn: u32, result: Result<light::Delivered, Failure>) {
        if turn != self.turn.get_value() {
            return;
        }
        match result {
            Ok(delivered) => {
                memory::set_unfinished(false);
                memory::set_delivered(Some(&delivered));
                self.feed(turn, Input::Delivered(delivered.clone()));
                self.watch(turn, delivered).await;
            }
            Err(failure) => {
                self.feed(turn, Input::Refused(failure));
                // A refused report is gone; one that merely could not be sent is still with the light node.
                let kept = match light::mesh().await {
                    Ok(mesh) => light::kept(&mesh).await.unwrap_or_default(),
                    Err(_) => return,
                };
                memory::set_unfinished(!kept.is_empty());
                if !kept.is_empty() {
                    self.feed(turn, Input::StillKept);
                }
            }
        }
    }

    /// Asks what became of a delivered report until its round is over.
    async fn watch(self, turn: u32, delivered: light::Delivered) {
        let mut seen = None;
        let mut asked = 0_u32;
        while turn == self.turn.get_value()
            && self.run.with_untracked(|run| run.status) == Status::Delivered
        {
            if let Ok(mesh) = light::mesh().await
                && let Ok(outcome) = light::outcome(&mesh, &delivered).await
            {
                self.feed(turn, Input::Outcome(outcome));
            }
            let stage = self.tasks.with_untracked(|tasks| match tasks {
                Loaded::Here(tasks) => tasks
                    .iter()
                    .find(|task| task.id == delivered.task)
                    .map(Task::stage),
                Loaded::Loading | Loaded::Failed(_) => None,
            });
            asked += 1;
            if (seen != stage || asked.is_multiple_of(UNASKED))
                && let Some(task) = self.load_history(&delivered.task).await
            {
                seen = Some(task.stage());
                self.feed(turn, Input::Task(task));
            }
            TimeoutFuture::new(1000).await;
        }
        if turn == self.turn.get_value() {
            memory::set_delivered(None);
        }
    }

    /// Whether the run belongs to the selected task.
    pub fn run_here(self) -> bool {
        let task = self.task().map(|task| task.id);
        let here = |run: &Run| run.task.is_empty() || Some(&run.task) == task.as_ref();
        self.run.with(|run| run.status != Status::Idle && here(run))
    }

    /// Why nothing can be contributed at this moment.
    pub fn blocked(self) -> Option<String> {
        let task = self.task()?;
        if self.run.with(Run::busy) {
            let here = self.run_here();
            return Some(
                if here {
                    "Your contribution is on its way."
                } else {
                    "A contribution to another task is on its way."
                }
                .into(),
            );
        }
        if let Some(round) = self.run.with(|run| run.waits_for(&task)) {
            return Some(format!(
                "Yours is in round {round}. You can take part again once it is over."
            ));
        }
        let Some(chosen) = self.chosen() else {
            return Some("Pick some rows first.".into());
        };
        chosen.blocked().or_else(|| task.closed_because())
    }
}

/// The station people should look at.
pub fn current(run: &Run) -> Option<Step> {
    use crate::state::Mark::{Failed, Running};
    Step::ALL
        .into_iter()
        .find(|step| matches!(run.at(*step).mark, Running | Failed))
}
