//! What the page looks like.

mod ask;
mod draw;
mod header;
mod ledger;
mod model;
mod pick;
mod picture;
mod preview;
mod strip;
mod tasks;

use leptos::prelude::*;
use leptos_router::components::{A, Route, Router, Routes};
use leptos_router::path;

use crate::live;
use crate::session::Session;

/// All pages under one header. What they know outlives the turn from one to another.
pub fn app() -> impl IntoView {
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
        <Router>
            {header::header(session)}
            <Routes fallback=lost>
                <Route path=path!("/") view=move || contribute(session) />
                <Route path=path!("/ledger") view=move || ledger::page(session) />
            </Routes>
        </Router>
        <p class="unseen" role="status" aria-live="polite">{move || session.run().told()}</p>
    }
}

/// The Contribute page.
fn contribute(session: Session) -> impl IntoView {
    document().set_title("Contribute · DeFim");
    view! {
        // The router would turn to it without moving the keyboard's place.
        <a class="skip" href="#contribute" rel="external">"Skip to contribute"</a>
        <main>
            <div class="column">
                {tasks::tasks(session)}
                {pick::pick(session)}
                {strip::strip(session)}
                {ask::ask(session)}
            </div>
            <div class="column side">{model::model(session)}</div>
        </main>
    }
}

fn lost() -> impl IntoView {
    document().set_title("Not found · DeFim");
    view! {
        <main>
            <section class="card">
                <h1>"There is no such page"</h1>
                <p>"Check the address, or go to " <A href="/">"Contribute"</A> "."</p>
            </section>
        </main>
    }
}
