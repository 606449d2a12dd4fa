//! What the page looks like.

mod ask;
mod draw;
mod enrol;
mod header;
mod ledger;
mod model;
mod pick;
mod picture;
mod points;
mod preview;
mod strip;
mod tasks;

use leptos::prelude::*;

use crate::live;
use crate::route::{Page, Route, link};
use crate::session::Session;

/// All pages under one header. What they know outlives the turn from one to another.
pub fn app() -> impl IntoView {
    let (session, route) = (Session::new(), Route::follow());
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
        {header::header(session, route)}
        {move || match route.page() {
            Page::Contribute => contribute(session, route).into_any(),
            Page::Ledger => ledger::page(session).into_any(),
            Page::Lost => lost(route).into_any(),
        }}
        <p class="unseen" role="status" aria-live="polite">{move || session.run().told()}</p>
    }
}

/// The Contribute page.
fn contribute(session: Session, route: Route) -> impl IntoView {
    view! {
        <a class="skip" href="#contribute">"Skip to contribute"</a>
        <main>
            <div class="column">
                {tasks::tasks(session)}
                {enrol::enrol(session)}
                {pick::pick(session)}
                {strip::strip(session, route)}
                {ask::ask(session)}
            </div>
            <div class="column side">{model::model(session)}</div>
        </main>
    }
}

fn lost(route: Route) -> impl IntoView {
    view! {
        <main>
            <section class="card">
                <h1>"There is no such page"</h1>
                <p>"Check the address, or go to " {link(route, Page::Contribute)} "."</p>
            </section>
        </main>
    }
}
