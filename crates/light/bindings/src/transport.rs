//! WebRTC uploads from the page's thread.

use defim_net::{
    browser::{BrowserEndpoint, DialError},
    upload::{Progress, Report, upload},
};
use defim_protocol::{Digest, ReportId, TaskId, wire::protocol};
use js_sys::Function;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::failure::{Failure, to_js};

#[derive(Serialize)]
struct Verdict {
    code: u16,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    sent: u64,
    total: u64,
    resumed_from: u64,
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let message = match &error {
            // What the browser says is for the console; what it means is for the person.
            DialError::RefusedByBrowser(_) => "this browser does not allow the peer-to-peer connection".to_owned(),
            other => other.to_string(),
        };
        Self::new(error.code(), message)
    }
}

/// The page's WebRTC endpoint. Make one for the life of the page.
#[wasm_bindgen]
pub struct Transport(BrowserEndpoint);

#[wasm_bindgen]
impl Transport {
    /// Start.
    ///
    /// # Errors
    ///
    /// `{code, message}` if WebRTC cannot be used at all.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Transport, JsValue> {
        Ok(Self(BrowserEndpoint::new().map_err(Failure::from)?))
    }

    /// Upload a report to the node at this WebRTC-direct address, from where it stopped before.
    ///
    /// `connected` is called once, `progress` with `{sent, total, resumedFrom}`. Gives `{code, message}`
    /// of the node's verdict; code 0 means stored.
    ///
    /// # Errors
    ///
    /// `{code, message}` if no verdict came; the same report may be sent again.
    pub async fn upload(
        &self,
        address: String,
        task: String,
        report: String,
        bytes: Vec<u8>,
        connected: Function,
        progress: Function,
    ) -> Result<JsValue, JsValue> {
        let bad = |what: &str| Failure::new("bad-address", format!("\"{what}\" is not what the mesh calls its {what}"));
        let task: TaskId = task.parse().map_err(|_| bad("task"))?;
        let id: ReportId = report.parse().map_err(|_| bad("report"))?;
        let mut stream = self.0.open(&address, protocol::UPLOAD).await.map_err(Failure::from)?;
        let _ = connected.call0(&JsValue::NULL);
        let sent = Report { task: task.0, report_id: id.0, digest: Digest::of(&bytes).0, bytes: &bytes };
        let result = upload(&mut stream, &sent, |Progress { resumed_from, sent, total }| {
            let _ = progress.call1(&JsValue::NULL, &to_js(&Sent { sent, total, resumed_from }));
        })
        .await;
        match result {
            Ok(verdict) => {
                let _ = futures::AsyncWriteExt::close(&mut stream).await;
                Ok(to_js(&Verdict { code: verdict.code, message: verdict.message }))
            }
            Err(error) => {
                self.0.close(&address).await;
                Err(Failure::new("broken", format!("the connection broke: {error}")).into())
            }
        }
    }

    /// Close the connection to the node at this address.
    pub async fn close(&self, address: String) {
        self.0.close(&address).await;
    }
}
