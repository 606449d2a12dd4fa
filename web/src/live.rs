//! What keeps the page current: the list of tasks, the mesh's health, and events.

use gloo_timers::future::TimeoutFuture;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::Closure;
use web_sys::{EventSource, MessageEvent};

use crate::api::{self, Task};
use crate::session::{Loaded, Session};

const HEALTH_EVERY_MS: u32 = 5_000;
const LISTEN_AGAIN_MS: u32 = 3_000;

/// Starts everything.
pub fn start(session: Session) {
    load_tasks(session);
    spawn_local(async move {
        loop {
            watch_health(session).await;
            TimeoutFuture::new(HEALTH_EVERY_MS).await;
        }
    });
    listen(session);
    session.go_on();
    session.follow_enrolments();
}

/// Loads the list of tasks.
pub fn load_tasks(session: Session) {
    spawn_local(async move {
        match api::get::<Vec<Task>>("/api/v1/tasks").await {
            Ok(tasks) => {
                session.outdated.set(false);
                session.put_tasks(tasks);
            }
            // What is there is better than nothing; the header says that it is not current.
            Err(message) => {
                session.outdated.set(true);
                session.tasks.update(|tasks| {
                    if !matches!(tasks, Loaded::Here(_)) {
                        *tasks = Loaded::Failed(message);
                    }
                });
            }
        }
    });
}

async fn watch_health(session: Session) {
    match api::get("/api/v1/mesh").await {
        Ok(mesh) => {
            session.mesh.set(Loaded::Here(mesh));
            let waits = session.tasks.with_untracked(
                |tasks| matches!(tasks, Loaded::Here(tasks) if tasks.iter().any(Task::waits_for_ledger)),
            );
            if waits || session.outdated.get_untracked() {
                load_tasks(session);
            }
        }
        Err(message) => session.mesh.set(Loaded::Failed(message)),
    }
}

fn listen(session: Session) {
    let Ok(source) = EventSource::new("/api/v1/events") else {
        session.live.set(false);
        return;
    };
    let on_task = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        let text = event.data().as_string().unwrap_or_default();
        let task = js_sys::JSON::parse(&text)
            .ok()
            .and_then(|value| serde_wasm_bindgen::from_value(value).ok());
        if let Some(task) = task {
            session.put_task(task);
        }
    });
    let on_open = Closure::<dyn FnMut()>::new(move || {
        session.live.set(true);
        // Events add and change tasks; that one is gone only the list says.
        load_tasks(session);
    });
    let closed = source.clone();
    let on_error = Closure::<dyn FnMut()>::new(move || {
        session.live.set(false);
        // The browser connects again by itself, except after an answer that is no stream of events.
        if closed.ready_state() == EventSource::CLOSED {
            spawn_local(async move {
                TimeoutFuture::new(LISTEN_AGAIN_MS).await;
                listen(session);
            });
        }
    });
    // Only fails where the element is no target of events.
    let _ =
        source.add_event_listener_with_callback("task", on_task.into_js_value().unchecked_ref());
    source.set_onopen(Some(on_open.into_js_value().unchecked_ref()));
    source.set_onerror(Some(on_error.into_js_value().unchecked_ref()));
}
