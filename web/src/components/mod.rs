//! What the page looks like.

mod ask;
mod draw;
mod header;
mod model;
mod pick;
mod picture;
mod preview;
mod strip;
mod tasks;

use leptos::prelude::*;

use crate::live;
use crate::session::Session;

/// The Contribute page.
pub fn page() -> impl IntoView {
    let session = Session::new();
    live::start(session);
    // A round that ends makes the selected task's history grow.
    let stage = Memo::new(move |_| session.task().map(|task| (task.id.clone(), task.stage())));
    Effect::new(move |_| {
        if let Some((id, _)) = stage.get() {
            leptos::task::spawn_local(async move {
                session.load_history(&id).await;
            });
        }
    });
    view! {
        <a class="skip" href="#contribute">"Skip to contribute"</a>
        {header::header(session)}
        <main>
            <div class="column">
                {tasks::tasks(session)}
                {pick::pick(session)}
                {strip::strip(session)}
                {ask::ask(session)}
            </div>
            <div class="column side">{model::model(session)}</div>
        </main>
        <p class="unseen" role="status" aria-live="polite">{move || session.run().told()}</p>
    }
}
