//! The ledger: what is final, and that this browser has checked it.

mod balance;
mod blocks;
mod given;
mod rounds;
mod verified;

use leptos::prelude::*;
use leptos::task::spawn_local;

use crate::api;
use crate::ledger::{Block, merge};
use crate::light::{self, Failure};
use crate::session::{Loaded, Session};

/// How many blocks are asked for at once.
const PAGE: u64 = 20;

/// The blocks that are listed, newest first.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    listed: RwSignal<Loaded<Vec<Block>>>,
    /// Whether older ones are on their way.
    loading: RwSignal<bool>,
    /// Why the last ones did not come.
    failed: RwSignal<Option<String>>,
}

impl Blocks {
    fn new() -> Self {
        Self {
            listed: RwSignal::new(Loaded::Loading),
            loading: RwSignal::new(false),
            failed: RwSignal::new(None),
        }
    }

    /// Height of the newest.
    fn newest(self) -> Option<u64> {
        self.listed.with_untracked(|listed| match listed {
            Loaded::Here(blocks) => blocks.first().map(|block| block.height),
            Loaded::Loading | Loaded::Failed(_) => None,
        })
    }

    /// Loads the newest, or those before the oldest that is listed.
    pub(super) fn load(self, older: bool) {
        let before = self.listed.with_untracked(|listed| match listed {
            Loaded::Here(blocks) if older => blocks.last().map(|block| block.height),
            _ => None,
        });
        let from = before.map_or(String::new(), |height| format!("&before={height}"));
        let address = format!("/api/v1/ledger/blocks?limit={PAGE}{from}");
        self.loading.set(true);
        spawn_local(async move {
            let answer = api::get::<Vec<Block>>(&address).await;
            // The page may show something else by now.
            self.loading.try_set(false);
            match answer {
                Ok(more) => {
                    self.failed.try_set(None);
                    self.listed.try_update(|listed| match listed {
                        Loaded::Here(there) => merge(there, more),
                        Loaded::Loading | Loaded::Failed(_) => *listed = Loaded::Here(more),
                    });
                }
                Err(message) => {
                    self.listed.try_update(|listed| {
                        if !matches!(listed, Loaded::Here(_)) {
                            *listed = Loaded::Failed(message.clone());
                        }
                    });
                    self.failed.try_set(Some(message));
                }
            }
        });
    }
}

/// The Ledger page.
pub fn page(session: Session) -> impl IntoView {
    let keeps = Memo::new(move |_| match session.mesh.get() {
        Loaded::Here(mesh) => Some(mesh.ledger.is_some()),
        Loaded::Loading | Loaded::Failed(_) => None,
    });
    let height = Memo::new(move |_| match session.mesh.get() {
        Loaded::Here(mesh) => mesh.ledger.map(|ledger| ledger.height),
        Loaded::Loading | Loaded::Failed(_) => None,
    });
    let blocks = Blocks::new();
    // The mesh is asked for its health every few seconds, and says its height with it.
    Effect::new(move |_| {
        if height
            .get()
            .is_some_and(|height| blocks.newest().is_none_or(|newest| newest < height))
        {
            blocks.load(false);
        }
    });
    view! {
        <a class="skip" href="#blocks">"Skip to the blocks"</a>
        <main class="ledger">
            {move || match keeps.get() {
                Some(false) => none().into_any(),
                // Before the mesh has answered, the places are those of a mesh with a ledger, so that nothing moves.
                Some(true) | None => view! {
                    <div class="column">
                        {verified::verified(session, height)}
                        {blocks::blocks(blocks)}
                    </div>
                    <div class="column side">
                        {balance::balance()}
                        {rounds::rounds(session, blocks)}
                        {given::given(session)}
                    </div>
                }
                .into_any(),
            }}
        </main>
    }
}

fn none() -> impl IntoView {
    // A mesh that had one must not be able to talk its light nodes out of checking.
    let gone = RwSignal::new(None);
    spawn_local(async move {
        let status = async { light::ledger(&light::mesh().await?).await };
        let failure = status.await.err();
        gone.try_set(failure.filter(|failure| failure.code == "ledger-gone"));
    });
    let forget = move |_| {
        spawn_local(async move {
            let forgotten = async { light::forget_ledger(&light::mesh().await?).await };
            gone.try_set(forgotten.await.err());
        });
    };
    let refusal = move |failure: Failure| {
        view! {
            <div class="notice bad" role="alert" data-testid="ledger-gone">
                <p><strong>"Refused by this browser: "</strong>{failure.told()}</p>
                <button data-testid="forget" on:click=forget>"The operators confirm it: forget the ledger"</button>
            </div>
        }
    };
    view! {
        <section class="card" data-testid="no-ledger">
            <h1>"Ledger"</h1>
            <p>"This mesh keeps no ledger: its aggregation node alone says which rounds open and what is counted."</p>
            <p class="muted">"Its operators can add validation nodes; then every step of a round is agreed on by them, and checked here."</p>
            {move || gone.get().map(refusal)}
        </section>
    }
}
