//! The page's signals, and what people can do with them.

use std::collections::BTreeMap;

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::api::{self, Record, Task};
use crate::data::{self, Check, Chosen, Rows, Source};
use crate::drawing::{self, Labelled};
use crate::enrolment::Enrolments;
use crate::light::{self, Scores};
use crate::memory::Left;
use crate::rows::{self, Preview};
use crate::runs::Runs;
use crate::schema::Schema;
use crate::state::{Run, Step};

type Local<T> = RwSignal<T, LocalStorage>;

/// How a list that comes over the network stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Loaded<T> {
    Loading,
    Here(T),
    Failed(String),
}

/// How a question to a model stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    Waiting,
    /// With what the rows' own label column says.
    Answered(Scores, Vec<String>),
    Failed(String),
}

/// Everything the page shows.
#[derive(Clone, Copy)]
pub struct Session {
    pub mesh: RwSignal<Loaded<api::Mesh>>,
    pub tasks: RwSignal<Loaded<Vec<Task>>>,
    /// Whether changes arrive by themselves.
    pub live: RwSignal<bool>,
    /// Whether the list may be an old one: it could not be loaded when it should have been.
    pub outdated: RwSignal<bool>,
    /// What became of contributions whose tasks the mesh lists no longer, by task.
    pub gone: RwSignal<BTreeMap<String, String>>,
    selected: RwSignal<Option<String>>,
    histories: RwSignal<BTreeMap<String, Vec<Record>>>,
    chosen: Local<BTreeMap<String, Chosen>>,
    /// Why the last pick was refused.
    pub refused: RwSignal<Option<String>>,
    /// What a model was asked last, and the task it is of.
    asked: RwSignal<Option<(String, Asked)>>,
    /// Where this browser takes part.
    pub enrolments: Enrolments,
    /// Contributions on their way.
    pub runs: Runs,
    /// Checks started so far, by task; what an old one says later is not heard.
    checks: StoredValue<BTreeMap<String, u32>>,
}

impl Session {
    /// An empty page.
    pub fn new() -> Self {
        Self {
            mesh: RwSignal::new(Loaded::Loading),
            tasks: RwSignal::new(Loaded::Loading),
            live: RwSignal::new(true),
            outdated: RwSignal::new(false),
            gone: RwSignal::new(BTreeMap::new()),
            selected: RwSignal::new(None),
            histories: RwSignal::new(BTreeMap::new()),
            chosen: RwSignal::new_local(BTreeMap::new()),
            refused: RwSignal::new(None),
            asked: RwSignal::new(None),
            enrolments: Enrolments::new(),
            runs: Runs::new(),
            checks: StoredValue::new(BTreeMap::new()),
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

    /// The tasks, newest state each. What was begun for a task that is not among them is ended.
    pub fn put_tasks(self, tasks: Vec<Task>) {
        let title = |id: &str| {
            self.tasks.with_untracked(|before| match before {
                Loaded::Here(before) => before
                    .iter()
                    .find(|task| task.id == id)
                    .map(|task| task.title.clone()),
                Loaded::Loading | Loaded::Failed(_) => None,
            })
        };
        let ended = self.runs.end_unlisted(&tasks);
        let mut gone = self.gone.get_untracked();
        gone.retain(|id, _| tasks.iter().all(|task| task.id != *id));
        for (id, run) in ended {
            let title = title(&id);
            let told = run.gone_told(title.as_deref());
            gone.insert(id, told);
        }
        self.gone.set(gone);
        self.tasks.set(Loaded::Here(tasks));
    }

    /// Whether the mesh does not list a task, as far as is known.
    pub fn is_unlisted(self, id: &str) -> bool {
        self.tasks.with_untracked(|tasks| match tasks {
            Loaded::Here(tasks) => tasks.iter().all(|task| task.id != id),
            Loaded::Loading | Loaded::Failed(_) => false,
        })
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

    /// Shows a task unless the person has turned to one already.
    pub fn suggest(self, id: &str) {
        let untouched = self.selected.with_untracked(Option::is_none)
            && self.chosen.with_untracked(BTreeMap::is_empty);
        if untouched {
            self.select(id.to_owned());
        }
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
            let (start, whole) = data::start_of(&file).await;
            let preview = rows::preview(&start, whole);
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
        let begun = self.checks.try_update_value(|checks| {
            let begun = checks.entry(task.clone()).or_default();
            *begun += 1;
            *begun
        });
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
            let newest = self.checks.with_value(|checks| checks.get(&task).copied());
            if newest == begun {
                put(&task, check);
            }
        });
    }

    /// Asks the selected task's model about the first of the picked rows.
    pub fn ask(self, label: String) {
        let (Some(task), Some(chosen)) = (self.task(), self.chosen()) else {
            return;
        };
        let id = task.id;
        let put = {
            let id = id.clone();
            move |answer| self.asked.set(Some((id.clone(), answer)))
        };
        put(Asked::Waiting);
        spawn_local(async move {
            let (start, whole) = match &chosen.rows {
                Rows::Text(text) => (text.clone(), true),
                Rows::File(file) => data::start_of(file).await,
            };
            let answer = match rows::first(&start, whole, &label) {
                None => Asked::Failed("There is no whole row to ask about.".into()),
                Some(first) => {
                    let asking =
                        async { light::score(&light::mesh().await?, &id, &first.text).await };
                    match asking.await {
                        Ok(scores) => Asked::Answered(scores, first.known),
                        Err(failure) => Asked::Failed(failure.told()),
                    }
                }
            };
            put(answer);
        });
    }

    /// What the selected task's model was asked last.
    pub fn asked(self) -> Option<Asked> {
        let task = self.task()?;
        let asked = self.asked.get().filter(|(id, _)| *id == task.id);
        asked.map(|(_, asked)| asked)
    }

    /// Why nothing can be asked at this moment.
    pub fn cannot_ask(self) -> Option<String> {
        let task = self.task()?;
        if task.model == "mlp" {
            return Some(
                "This model has a hidden layer. Only linear models answer encrypted.".into(),
            );
        }
        if task.rounds_done == 0 {
            return Some("The model has learnt nothing yet. Ask after the first round.".into());
        }
        if self.asked() == Some(Asked::Waiting) {
            return Some("The answers are on their way.".into());
        }
        match self.chosen() {
            None => Some("Pick some rows first.".into()),
            Some(chosen) => chosen.unreadable(),
        }
    }

    /// The selected task's run, as this tab knows it.
    pub fn run(self) -> Run {
        match self.task() {
            Some(task) if self.runs.elsewhere(&task.id).is_none() => self.runs.of(&task.id),
            _ => Run::default(),
        }
    }

    /// What another tab of this browser does for the selected task.
    pub fn elsewhere(self) -> Option<Left> {
        self.runs.elsewhere(&self.task()?.id)
    }

    /// Why nothing can be contributed at this moment.
    pub fn blocked(self) -> Option<String> {
        let task = self.task()?;
        if self.elsewhere().is_some() {
            return Some("Another tab of this browser takes part in this task.".into());
        }
        let run = self.run();
        if run.busy() {
            return Some("Your contribution is on its way.".into());
        }
        if run.left {
            return Some("A contribution is kept here. Send it or discard it first.".into());
        }
        if let Some(round) = run.waits_for(&task) {
            return Some(format!(
                "Yours is in round {round}. You can take part again once it is over."
            ));
        }
        if let Some(because) = self.not_enrolled(&task) {
            return Some(because);
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
