//! Which page is shown: what the address says, without loading anything anew.
//!
//! `leptos_router` would do the same for 48 kB more to download, compressed, which is an eighth of what a page may weigh.

use leptos::ev::{MouseEvent, popstate};
use leptos::prelude::*;
use wasm_bindgen::JsValue;

/// The pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Contribute,
    Ledger,
    /// An address that is none of theirs.
    Lost,
}

impl Page {
    /// Those that the header leads to.
    pub const ALL: [Self; 2] = [Self::Contribute, Self::Ledger];

    /// The page at a path.
    pub fn at(path: &str) -> Self {
        let path = match path.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        let mut all = Self::ALL.into_iter();
        all.find(|page| page.path() == path).unwrap_or(Self::Lost)
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Contribute | Self::Lost => "/",
            Self::Ledger => "/ledger",
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Contribute => "Contribute",
            Self::Ledger => "Ledger",
            Self::Lost => "Not found",
        }
    }
}

/// The page that is shown.
#[derive(Clone, Copy)]
pub struct Route(RwSignal<Page>);

impl Route {
    /// The page at the browser's address, from now on with the person's way back and forth.
    pub fn follow() -> Self {
        let here = || Page::at(&window().location().pathname().unwrap_or_default());
        let shown = RwSignal::new(here());
        let listener = window_event_listener(popstate, move |_| shown.set(here()));
        on_cleanup(move || listener.remove());
        Effect::new(move |_| document().set_title(&format!("{} · DeFim", shown.get().name())));
        Self(shown)
    }

    /// The page.
    pub fn page(self) -> Page {
        self.0.get()
    }

    fn go(self, page: Page) {
        let moved = window()
            .history()
            .and_then(|history| history.push_state_with_url(&JsValue::NULL, "", Some(page.path())));
        match moved {
            Ok(()) => {
                self.0.set(page);
                window().scroll_to_with_x_and_y(0.0, 0.0);
            }
            // Some browsers refuse when there were very many: then it is loaded.
            Err(_) => drop(window().location().set_href(page.path())),
        }
    }
}

/// A link to a page.
pub fn link(route: Route, page: Page) -> impl IntoView {
    let click = move |event: MouseEvent| {
        // Whoever wants it in another tab or window gets it there.
        let elsewhere =
            event.ctrl_key() || event.meta_key() || event.shift_key() || event.alt_key();
        if event.button() == 0 && !elsewhere {
            event.prevent_default();
            route.go(page);
        }
    };
    let current = move || (route.page() == page).then_some("page");
    view! { <a href=page.path() aria-current=current on:click=click>{page.name()}</a> }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_page_is_at_its_own_address_and_no_other() {
        for page in Page::ALL {
            assert_eq!(Page::at(page.path()), page);
        }
        assert_eq!(Page::at("/ledger/"), Page::Ledger);
        for path in ["/ledgers", "/Ledger", "/ledger/5", "/index"] {
            assert_eq!(Page::at(path), Page::Lost, "{path}");
        }
    }
}
