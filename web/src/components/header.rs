//! The head of every page: the name, the other pages, and whether the mesh is there.

use leptos::prelude::*;

use crate::route::{Page, Route, link};
use crate::session::{Loaded, Session};

pub fn header(session: Session, route: Route) -> impl IntoView {
    let status = move || match session.mesh.get() {
        Loaded::Loading => ("wait", "Looking for the mesh".to_owned(), String::new()),
        Loaded::Failed(_) => (
            "bad",
            "The mesh cannot be reached".to_owned(),
            "Trying again every few seconds".to_owned(),
        ),
        Loaded::Here(mesh) => {
            let away: Vec<_> = mesh
                .nodes
                .iter()
                .filter(|n| !n.reachable)
                .map(|n| n.name.as_str())
                .collect();
            let there = mesh.nodes.len() - away.len();
            let text = format!("{there} of {} nodes reachable", mesh.nodes.len());
            if away.is_empty() {
                let live = if session.live.get() {
                    "Live"
                } else {
                    "Live updates are interrupted"
                };
                ("good", text, live.to_owned())
            } else {
                ("bad", text, format!("{} does not answer", away.join(", ")))
            }
        }
    };
    view! {
        <header class="head">
            <div class="brand">
                <svg viewBox="0 0 24 24" aria-hidden="true">
                    <path d="M12 21v-6M12 15L5 9M12 15l7-6M12 15V6" />
                    <circle cx="12" cy="4.5" r="2.5" /><circle cx="4.5" cy="7.5" r="2.5" /><circle cx="19.5" cy="7.5" r="2.5" />
                </svg>
                <div>
                    <strong>"DeFim"</strong>
                    <span>"One model, trained by many. Rows stay where they are."</span>
                </div>
            </div>
            <nav class="pages" aria-label="Pages">
                {Page::ALL.map(|page| link(route, page))}
            </nav>
            <p class="mesh" role="status" data-testid="mesh" data-state=move || status().0>
                <span class="lamp" aria-hidden="true"></span>
                <span>{move || status().1}<small>{move || status().2}</small></span>
            </p>
        </header>
    }
}
