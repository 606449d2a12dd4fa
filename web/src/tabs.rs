//! Which tab of this browser works for a task: the browser's own locks, which it takes back from a tab that is
//! closed or crashes.

use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen(inline_js = r#"
const mine = new Map();
const ending = new Map();

export function isMine(name) {
    return mine.has(name);
}

export async function hold(name) {
    await ending.get(name);
    if (mine.has(name)) return true;
    if (!navigator.locks) {
        mine.set(name, () => {});
        return true;
    }
    return new Promise((resolve) => {
        const over = navigator.locks.request(name, { ifAvailable: true }, (lock) => {
            if (lock === null) return resolve(false);
            return new Promise((done) => {
                mine.set(name, () => {
                    done();
                    ending.set(name, over);
                });
                resolve(true);
            });
        }).catch(() => resolve(false));
    });
}

export function letGo(name) {
    mine.get(name)?.();
    mine.delete(name);
}

export async function elsewhere() {
    if (!navigator.locks) return null;
    const { held } = await navigator.locks.query();
    return held.map(({ name }) => name).filter((name) => !mine.has(name));
}
"#)]
extern "C" {
    #[wasm_bindgen(js_name = isMine)]
    fn is_mine_js(name: &str) -> bool;
    #[wasm_bindgen(js_name = hold)]
    fn hold_js(name: &str) -> js_sys::Promise;
    #[wasm_bindgen(js_name = letGo)]
    fn let_go_js(name: &str);
    #[wasm_bindgen(js_name = elsewhere)]
    fn elsewhere_js() -> js_sys::Promise;
}

/// Whether this tab has the lock.
pub fn is_mine(name: &str) -> bool {
    is_mine_js(name)
}

/// Takes the lock, unless another tab has it. Without locks (a page that was not loaded over HTTPS) every
/// tab gets it.
pub async fn hold(name: &str) -> bool {
    let got = JsFuture::from(hold_js(name)).await;
    got.is_ok_and(|got| got.is_truthy())
}

/// Gives the lock back.
pub fn let_go(name: &str) {
    let_go_js(name);
}

/// The locks that other tabs have; `None` where there are none.
pub async fn elsewhere() -> Option<Vec<String>> {
    let names = JsFuture::from(elsewhere_js()).await.ok()?;
    serde_wasm_bindgen::from_value(names).ok()?
}
