//! WebRTC from the page's thread.

use defim_light::{JoinedTask, Scoring};
use defim_net::{
    Failure,
    browser::BrowserEndpoint,
    score::{AskError, Asker},
    speed::{self, Direction},
    upload::{Report, UploadError, upload},
};
use defim_protocol::{Digest, ReportId, TaskId, wire::protocol};
use futures::{AsyncWriteExt as _, FutureExt as _, select};
use js_sys::{Function, Promise};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::{
    error::{Thrown, to_js},
    task::{joined, malformed},
};

impl From<Failure> for Thrown {
    fn from(failure: Failure) -> Self {
        let message = match &failure {
            // What the browser says of its own offer helps nobody who reads it.
            Failure::RefusedByBrowser(_) => {
                "this browser does not allow the peer-to-peer connection".to_owned()
            }
            Failure::System(why) => format!(
                "no WebRTC connection: {}",
                why.chars().take(200).collect::<String>()
            ),
            other => other.to_string(),
        };
        Self::new(failure.code(), message)
    }
}

impl From<UploadError> for Thrown {
    fn from(error: UploadError) -> Self {
        Self::new("broken", error.to_string())
    }
}

impl From<AskError> for Thrown {
    fn from(error: AskError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

#[derive(Serialize)]
struct Answer {
    code: u16,
    message: String,
}

/// The page's WebRTC endpoint. One for the life of the page.
#[wasm_bindgen]
pub struct Endpoint(BrowserEndpoint);

#[wasm_bindgen]
impl Endpoint {
    /// Start.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "it starts a task")]
    pub fn start() -> Endpoint {
        Self(BrowserEndpoint::new())
    }

    /// Connect to a node; an upload over the same address uses the connection.
    ///
    /// # Errors
    ///
    /// The codes of a failed dial.
    pub fn reach(&self, address: String) -> Promise {
        let endpoint = self.0.clone();
        wasm_bindgen_futures::future_to_promise(async move {
            let opened = endpoint.open(&address, protocol::UPLOAD).await;
            opened.map_err(Thrown::from)?;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// Upload a report from where the node has it: `{ code, message }`, code 0 for stored.
    /// `on_connected()` and `on_progress(resumedFrom, sent, total)` are called on the way. It is given
    /// up when `cancelled` resolves; with `true`, the connection is not to be trusted and is closed.
    ///
    /// # Errors
    ///
    /// The codes of a failed dial; `broken` for an upload that broke; `cancelled`.
    #[wasm_bindgen(js_name = uploadWebrtc)]
    #[allow(
        clippy::too_many_arguments,
        reason = "JavaScript has no named arguments"
    )]
    pub fn upload_webrtc(
        &self,
        address: String,
        task: String,
        report: String,
        bytes: Vec<u8>,
        on_connected: Function,
        on_progress: Function,
        cancelled: Promise,
    ) -> Promise {
        let endpoint = self.0.clone();
        wasm_bindgen_futures::future_to_promise(async move {
            let sent = async {
                let task: TaskId = task.parse().map_err(malformed)?;
                let report_id: ReportId = report.parse().map_err(malformed)?;
                let report = Report {
                    task: task.0,
                    report_id: report_id.0,
                    digest: Digest::of(&bytes).0,
                    bytes: &bytes,
                };
                let mut stream = endpoint.open(&address, protocol::UPLOAD).await?;
                // A listener that throws is no reason to stop the upload.
                let _ = on_connected.call0(&JsValue::NULL);
                let verdict = upload(&mut stream, &report, |at| {
                    let number = |bytes: u64| JsValue::from_f64(bytes as f64);
                    let _ = on_progress.call3(
                        &JsValue::NULL,
                        &number(at.resumed_from),
                        &number(at.sent),
                        &number(at.total),
                    );
                })
                .await?;
                Ok::<_, Thrown>(Answer {
                    code: verdict.code,
                    message: verdict.message,
                })
            };
            let (result, close) = select! {
                // A connection that failed once is not used again: the next try dials anew.
                result = Box::pin(sent).fuse() => { let failed = result.is_err(); (result, failed) },
                why = JsFuture::from(cancelled).fuse() => {
                    (Err(Thrown::new("cancelled", "given up")), why.is_ok_and(|close| close.is_truthy()))
                }
            };
            if close {
                endpoint.close(&address).await;
            }
            to_js(&result?)
        })
    }

    /// Asks a full node's model about each row, one after the other; the node sees none of them. `on_offer(model, rows)`
    /// is called with the digest of the model that answers, `on_answer(prediction)` for each row, in order. It ends
    /// early when `cancelled` resolves; with `true`, the connection is closed.
    ///
    /// # Errors
    ///
    /// The codes of a failed dial, of a task and of rows that are refused; `unknown-task`, `unsuitable-model` and `unavailable`
    /// from the node; `broken` for a stream that broke; `cancelled`.
    #[allow(
        clippy::too_many_arguments,
        reason = "JavaScript has no named arguments"
    )]
    pub fn score(
        &self,
        address: String,
        manifest: String,
        task: String,
        csv: Vec<u8>,
        on_offer: Function,
        on_answer: Function,
        cancelled: Promise,
    ) -> Promise {
        let endpoint = self.0.clone();
        wasm_bindgen_futures::future_to_promise(async move {
            let work = async {
                let task: JoinedTask = joined(&manifest, Some(task))?;
                let stream = endpoint.open(&address, protocol::SCORE).await?;
                let mut asker = Asker::begin(stream, task.task().0).await?;
                let offer = asker.offer();
                let scoring = Scoring::begin(&task, offer.feature_step, offer.score_step)?;
                let rows = scoring.read_csv(&csv)?;
                // A listener that throws is no reason to stop.
                let model = JsValue::from_str(&Digest(offer.model).to_string());
                let _ = on_offer.call2(
                    &JsValue::NULL,
                    &model,
                    &JsValue::from_f64(rows.len() as f64),
                );
                for row in rows {
                    let (question, bytes) = scoring.ask(&row, &mut rand::rng())?;
                    let prediction = scoring.open(question, &asker.ask(bytes).await?)?;
                    let prediction = to_js(&prediction)
                        .map_err(|_| Thrown::new("broken", "an answer cannot be shown"))?;
                    let _ = on_answer.call1(&JsValue::NULL, &prediction);
                }
                let _ = asker.into_inner().close().await;
                Ok::<_, Thrown>(())
            };
            let (result, close) = select! {
                result = Box::pin(work).fuse() => (result, false),
                why = JsFuture::from(cancelled).fuse() => {
                    (Err(Thrown::new("cancelled", "given up")), why.is_ok_and(|close| close.is_truthy()))
                }
            };
            if close {
                endpoint.close(&address).await;
            }
            result?;
            Ok(JsValue::UNDEFINED)
        })
    }

    /// Sends (`up`) or fetches so many bytes to or from a node that measures, such as `defim bench
    /// --network`; resolves to whether they arrived as they were.
    ///
    /// # Errors
    ///
    /// The codes of a failed dial; `broken` if the stream broke.
    pub fn measure(&self, address: String, up: bool, bytes: f64) -> Promise {
        let endpoint = self.0.clone();
        wasm_bindgen_futures::future_to_promise(async move {
            let work = async {
                let mut stream = endpoint.open(&address, speed::PROTOCOL).await?;
                let direction = if up { Direction::Up } else { Direction::Down };
                speed::measure(&mut stream, direction, bytes as u64)
                    .await
                    .map_err(|e| Thrown::new("broken", e.to_string()))
            };
            let equal: Result<bool, Thrown> = work.await;
            Ok(JsValue::from_bool(equal?))
        })
    }
}
