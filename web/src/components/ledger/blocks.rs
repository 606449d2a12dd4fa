//! The newest blocks.

use leptos::prelude::*;

use super::Blocks;
use crate::format::{count, grouped};
use crate::ledger::{Block, names};
use crate::session::Loaded;

pub fn blocks(blocks: Blocks) -> impl IntoView {
    let heights = move || {
        blocks.listed.with(|listed| match listed {
            Loaded::Here(blocks) => blocks.clone(),
            Loaded::Loading | Loaded::Failed(_) => Vec::new(),
        })
    };
    let oldest = move || heights().last().map(|block| block.height);
    view! {
        <section class="card" aria-labelledby="blocks-title" id="blocks" tabindex="-1">
            <h2 id="blocks-title">"Blocks"</h2>
            <p class="muted">"As the mesh lists them, newest first."</p>
            {move || blocks.listed.with(state)}
            <ol class="blocks" data-testid="blocks">
                <For each=heights key=|block| (block.height, block.digest.clone(), block.signers.len()) let:block>
                    {line(&block)}
                </For>
            </ol>
            {move || blocks.failed.get().map(|message| view! {
                <div class="notice warn" role="status" data-testid="blocks-failed">
                    <p>{message}</p>
                    <button on:click=move |_| blocks.load(false)>"Try again"</button>
                </div>
            })}
            {move || oldest().is_some_and(|height| height > 1).then(|| view! {
                <p class="row again">
                    <button data-testid="older" disabled=move || blocks.loading.get() on:click=move |_| blocks.load(true)>"Older blocks"</button>
                </p>
            })}
        </section>
    }
}

fn state(listed: &Loaded<Vec<Block>>) -> Option<AnyView> {
    match listed {
        Loaded::Loading => Some(view! { <p class="empty">"Loading the blocks…"</p> }.into_any()),
        Loaded::Here(blocks) if blocks.is_empty() => Some(
            view! { <p class="empty" data-testid="blocks-empty">"There is no block yet. The first one comes when somebody sends a transaction."</p> }
                .into_any(),
        ),
        Loaded::Here(_) | Loaded::Failed(_) => None,
    }
}

fn line(block: &Block) -> impl IntoView + use<> {
    let date = js_sys::Date::new(&block.timestamp_ms.into());
    let (day, time) = (
        String::from(date.to_locale_date_string("en-GB", &wasm_bindgen::JsValue::UNDEFINED)),
        String::from(date.to_locale_time_string("en-GB")),
    );
    let iso = String::from(date.to_iso_string());
    let txs = block.txs.iter().map(|tx| {
        view! { <li data-kind=tx.kind.clone()>{tx.text.clone()}</li> }
    });
    let (txs, number) = (txs.collect_view(), block.txs.len() as u64);
    let signed = match block.signers.len() {
        0 => String::new(),
        _ => format!("signed by {}", names(&block.signers)),
    };
    view! {
        <li data-testid="block" data-height=block.height.to_string()>
            <p class="line">
                <strong>{format!("Block {}", grouped(block.height))}</strong>
                <span class="note">{if number == 0 { "no transactions".into() } else { count(number, "transaction") }}</span>
                <time class="figures muted" datetime=iso title=day>{time}</time>
            </p>
            <ul>{txs}</ul>
            <p class="muted">{signed}</p>
        </li>
    }
}
