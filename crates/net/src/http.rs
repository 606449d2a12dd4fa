//! The HTTPS client of native nodes.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header::CONTENT_TYPE};
use serde::{Serialize, de::DeserializeOwned};

const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const JSON_BYTES: usize = 16 * 1024 * 1024;

/// A request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why there is no answer.
        why: String,
        /// Whether there was a connection, over which something may have gone.
        connected: bool,
    },
    /// A connection, and then nothing.
    #[error("{url} does not answer within {after_s} s")]
    Silent {
        /// What was asked.
        url: String,
        /// How long it was waited for, in seconds.
        after_s: u64,
    },
    /// An answer that says no.
    #[error("{url} answers {status}: {body}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The first of the answer's body.
        body: String,
    },
    /// Longer than allowed.
    #[error("the answer of {0} is longer than allowed")]
    TooLarge(String),
    /// Not what was asked for.
    #[error("the answer of {url} cannot be used: {why}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong.
        why: String,
    },
}

impl HttpError {
    /// Whether nothing that was to be sent can have arrived: there was no connection, or an answer that says no.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unreachable {
                connected: false,
                ..
            } | Self::Status { .. }
        )
    }
}

/// A full node's answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAnswer {
    /// HTTP status.
    pub status: u16,
    /// The public reason, if it refuses.
    pub code: Option<String>,
}

/// The client.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    timeout: Duration,
}

impl HttpClient {
    /// A client with deadlines.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if the system's TLS cannot be set up.
    pub fn new() -> Result<Self, HttpError> {
        Self::within(TIMEOUT)
    }

    /// A client that waits no longer than this for a whole answer.
    ///
    /// # Errors
    ///
    /// [`HttpError`] if the system's TLS cannot be set up.
    pub fn within(timeout: Duration) -> Result<Self, HttpError> {
        let timeout = timeout.min(TIMEOUT);
        Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .build()
            .map(|client| Self { client, timeout })
            .map_err(|e| HttpError::Unreachable {
                url: "the network".into(),
                why: e.to_string(),
                connected: false,
            })
    }

    fn lost(&self, url: &str, error: &reqwest::Error) -> HttpError {
        match error.is_timeout() && !error.is_connect() {
            true => HttpError::Silent {
                url: url.to_owned(),
                after_s: self.timeout.as_secs(),
            },
            false => unreachable(url, error),
        }
    }

    async fn read(
        &self,
        url: &str,
        mut response: Response,
        max: usize,
    ) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.lost(url, &e))? {
            if body.len() + chunk.len() > max {
                return Err(HttpError::TooLarge(url.to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn good(&self, url: &str, response: Response) -> Result<Response, HttpError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self
            .read(url, response, 64 * 1024)
            .await
            .unwrap_or_default();
        let body = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|value| {
                value
                    .get("message")
                    .and_then(|m| m.as_str())
                    .map(str::to_owned)
            })
            .unwrap_or_else(|| match (is_page(&body), body.is_empty()) {
                (true, _) => "a page, which no mesh's API gives".into(),
                (_, true) => "it does not say why".into(),
                _ => String::from_utf8_lossy(&body).chars().take(300).collect(),
            });
        Err(HttpError::Status {
            url: url.to_owned(),
            status: status.as_u16(),
            body,
        })
    }

    /// Get bytes, at most `max`.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn get_bytes(&self, url: &str, max: usize) -> Result<Vec<u8>, HttpError> {
        let sent = self.client.get(url).send().await;
        let response = sent.map_err(|e| self.lost(url, &e))?;
        self.read(url, self.good(url, response).await?, max).await
    }

    /// Get JSON.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, HttpError> {
        parsed(url, &self.get_bytes(url, JSON_BYTES).await?)
    }

    /// Post JSON with a bearer token.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        url: &str,
        body: &B,
        token: &str,
    ) -> Result<T, HttpError> {
        let request = self.client.post(url).bearer_auth(token).json(body);
        let response = request.send().await.map_err(|e| self.lost(url, &e))?;
        let response = self.good(url, response).await?;
        parsed(url, &self.read(url, response, JSON_BYTES).await?)
    }

    /// Post bytes; the answer is JSON.
    ///
    /// # Errors
    ///
    /// [`HttpError`].
    pub async fn post_bytes<T: DeserializeOwned>(
        &self,
        url: &str,
        bytes: Vec<u8>,
    ) -> Result<T, HttpError> {
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(bytes);
        let response = request.send().await.map_err(|e| self.lost(url, &e))?;
        let response = self.good(url, response).await?;
        parsed(url, &self.read(url, response, JSON_BYTES).await?)
    }

    /// Upload a report as DAP-09 does: `PUT {base}/tasks/{task}/reports`, with the media type of its number of shares.
    ///
    /// # Errors
    ///
    /// [`HttpError::Unreachable`]; a refusal is an answer.
    pub async fn put_report(
        &self,
        base: &str,
        task: &str,
        media_type: &'static str,
        bytes: Vec<u8>,
    ) -> Result<PutAnswer, HttpError> {
        let url = format!("{}/tasks/{task}/reports", base.trim_end_matches('/'));
        let request = self
            .client
            .put(&url)
            .header(CONTENT_TYPE, media_type)
            .body(bytes);
        let response = request.send().await.map_err(|e| self.lost(&url, &e))?;
        let status = response.status();
        let body = self.read(&url, response, 64 * 1024).await?;
        let code = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|value| {
                value
                    .get("code")
                    .and_then(|c| c.as_str())
                    .map(str::to_owned)
            });
        if status.is_server_error()
            || (status != StatusCode::PAYLOAD_TOO_LARGE && !status.is_success() && code.is_none())
        {
            let body = String::from_utf8_lossy(&body).chars().take(300).collect();
            return Err(HttpError::Status {
                url,
                status: status.as_u16(),
                body,
            });
        }
        Ok(PutAnswer {
            status: status.as_u16(),
            code,
        })
    }
}

/// Whether these bytes are made for a browser.
fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

fn parsed<T: DeserializeOwned>(url: &str, body: &[u8]) -> Result<T, HttpError> {
    serde_json::from_slice(body).map_err(|e| HttpError::Malformed {
        url: url.to_owned(),
        why: match is_page(body) {
            true => "it is a page, which no mesh's API gives".into(),
            false => format!("it is not what a mesh's API gives ({e})"),
        },
    })
}

fn unreachable(url: &str, error: &reqwest::Error) -> HttpError {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        why = inner.to_string();
        source = inner.source();
    }
    HttpError::Unreachable {
        url: url.to_owned(),
        why,
        connected: !error.is_connect(),
    }
}
