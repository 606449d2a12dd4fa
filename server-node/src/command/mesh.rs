//! A client of a mesh's API.

use std::time::Duration;

use defim_net::http::{HttpClient, HttpError};
use serde::{Serialize, de::DeserializeOwned};

use super::out;
use crate::{
    failure::{Failure, Outcome},
    http::{MeshView, TaskView},
};

/// A mesh, by the address of its pages.
#[derive(Debug, Clone)]
pub struct MeshClient {
    base: String,
    http: HttpClient,
}

fn failure(error: HttpError) -> Failure {
    let text = error.to_string();
    match error {
        // What TLS says to an answer without it, and HTTP to one with it.
        HttpError::Unreachable { url, why, .. }
            if url.starts_with("https:") && why.contains("InvalidContentType") =>
        {
            Failure::Unreachable(format!(
                "{url} is no https; write http:// in --mesh if the mesh has no certificate"
            ))
        }
        HttpError::Unreachable { url, why, .. }
            if url.starts_with("http:") && why.contains("invalid HTTP version") =>
        {
            Failure::Unreachable(format!("{url} is no plain http; write https:// in --mesh"))
        }
        HttpError::Unreachable { .. } => {
            Failure::Unreachable(format!("{text}; is the mesh up? `defim up` starts one"))
        }
        HttpError::Silent { .. } => Failure::Unreachable(format!(
            "{text}, although it takes connections; try again later, or look at its log"
        )),
        HttpError::Status { status, .. } if status < 500 => Failure::Input(text),
        HttpError::Status { .. } => Failure::Unreachable(format!(
            "{text}; try again later, or look at the log of the node that serves it"
        )),
        HttpError::Malformed { .. } => Failure::Input(format!(
            "{text}; check the address after --mesh, and whether both are of one version"
        )),
        HttpError::TooLarge(_) => Failure::Integrity(text),
    }
}

impl MeshClient {
    /// A client; the mesh is not contacted yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] if this is no address.
    pub fn new(base: &str) -> Outcome<Self> {
        Self::with(base, HttpClient::new())
    }

    /// A client that waits no longer than this for an answer.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn within(base: &str, timeout: Duration) -> Outcome<Self> {
        Self::with(base, HttpClient::within(timeout))
    }

    fn with(base: &str, http: Result<HttpClient, HttpError>) -> Outcome<Self> {
        let base = base.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(Failure::Usage(format!(
                "\"{base}\" is no mesh address; it looks like http://127.0.0.1:8080"
            )));
        }
        Ok(Self {
            base,
            http: http.map_err(failure)?,
        })
    }

    /// The HTTP client.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// An address the mesh gave, made absolute.
    pub fn resolve(&self, address: &str) -> String {
        if address.starts_with('/') {
            format!("{}{address}", self.base)
        } else {
            address.to_owned()
        }
    }

    /// Get JSON from the API.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        self.http
            .get_json(&format!("{}/api/v1{path}", self.base))
            .await
            .map_err(failure)
    }

    /// Get JSON from the API; nothing if the mesh has no such thing.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn get_if_there<T: DeserializeOwned>(&self, path: &str) -> Outcome<Option<T>> {
        let url = format!("{}/api/v1{path}", self.base);
        match self.http.get_json(&url).await {
            Ok(there) => Ok(Some(there)),
            Err(HttpError::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(failure(error)),
        }
    }

    /// Post JSON to the API, as admin.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        token: &str,
    ) -> Outcome<T> {
        self.http
            .post_json(&format!("{}/api/v1{path}", self.base), body, token)
            .await
            .map_err(failure)
    }

    /// The mesh's nodes.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn mesh(&self) -> Outcome<MeshView> {
        self.get("/mesh").await
    }

    /// A task with its rounds.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn task(&self, name: &str) -> Outcome<TaskView> {
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return Err(Failure::Input(format!(
                "\"{name}\" is no task name: letters, digits, \"-\", \"_\" and \".\"; `defim task list` shows all"
            )));
        }
        let task = self.get_if_there(&format!("/tasks/{name}")).await?;
        task.ok_or_else(|| {
            Failure::Input(format!(
                "there is no task \"{name}\" at {}; `defim task list` shows all",
                self.base
            ))
        })
    }

    /// Public bytes of the API; whether they are the right ones is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn bytes(&self, path: &str) -> Outcome<Vec<u8>> {
        let url = format!("{}/api/v1{path}", self.base);
        self.http
            .get_bytes(&url, defim_protocol::limits::MODEL_BYTES)
            .await
            .map_err(failure)
    }

    /// A model's bytes; their digest is for the caller to check.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn model(&self, digest: &defim_protocol::Digest) -> Outcome<Vec<u8>> {
        let url = format!("{}/api/v1/models/{digest}", self.base);
        self.http
            .get_bytes(&url, defim_protocol::limits::MODEL_BYTES)
            .await
            .map_err(failure)
    }
}

/// `defim node list`.
///
/// # Errors
///
/// [`Failure`].
pub async fn list(mesh: &str, json: bool) -> Outcome {
    let view = MeshClient::new(mesh)?.mesh().await?;
    if json {
        out::json(&view);
        return Ok(());
    }
    let row = |name: &str, role: &str, state: &str, address: &str| {
        println!("{name:<14} {role:<12} {state:<8} {address}");
    };
    row("name", "role", "state", "address");
    row(&view.aggregation.name, "aggregation", "up", mesh);
    for node in &view.nodes {
        let state = if node.reachable { "up" } else { "down" };
        row(&node.name, node.role.name(), state, &node.http);
    }
    Ok(())
}
