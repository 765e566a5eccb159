//! The server's REST interface, as far as the command line uses it.

mod answer;

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use answer::{Embeddings, IndexEntry, Metadata, Placement, TensorMetadata};

use crate::args::Server;
use crate::hint;

/// A server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client for the server that the user named.
    pub(crate) fn new(server: &Server) -> Result<Self> {
        Self::at(&server.url, server.timeout)
    }

    /// A client for a server at an address.
    pub(crate) fn at(url: &str, timeout: Duration) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .tcp_nodelay(true)
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            base: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The server's address.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Every model version that the server knows.
    pub(crate) async fn index(&self) -> Result<Vec<IndexEntry>> {
        self.call(Method::POST, "/v2/repository/index", Some(&json!({})))
            .await
    }

    /// A model's inputs and outputs.
    pub(crate) async fn metadata(&self, model: &str) -> Result<Metadata> {
        self.call(Method::GET, &model_path(model), None).await
    }

    /// What of a model runs where.
    pub(crate) async fn placement(&self, model: &str, version: &str) -> Result<Option<Placement>> {
        let path = format!("{}/config", model_path(&format!("{model}/{version}")));
        let config: Value = self.call(Method::GET, &path, None).await?;
        Ok(Placement::from_config(&config))
    }

    /// One inference, request and answer as the protocol's JSON.
    pub(crate) async fn infer(&self, model: &str, request: &Value) -> Result<Value> {
        self.call(
            Method::POST,
            &format!("{}/infer", model_path(model)),
            Some(request),
        )
        .await
    }

    /// Embeddings of texts, in their order.
    pub(crate) async fn embed(&self, model: &str, texts: &[String]) -> Result<Embeddings> {
        let request = json!({ "model": model, "input": texts, "encoding_format": "float" });
        self.call(Method::POST, "/v1/embeddings", Some(&request)).await
    }

    /// Sends prepared bytes and waits for the whole answer; for load generation.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, String)],
        body: bytes::Bytes,
    ) -> Result<()> {
        let mut request = self.http.post(format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let body = answer.bytes().await.context("reading the answer")?;
        if status.is_success() {
            Ok(())
        } else {
            Err(refused(status, &body))
        }
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> Result<T> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let body = answer.bytes().await.context("reading the answer")?;
        if !status.is_success() {
            return Err(refused(status, &body));
        }
        serde_json::from_slice(&body)
            .with_context(|| format!("the answer of {}{path} is not what it should be", self.base))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let why = if error.is_timeout() {
            "did not answer in time"
        } else {
            "cannot be reached"
        };
        anyhow::Error::new(error).context(hint::error(
            format!("the server at {} {why}", self.base),
            "start one with `afterglow up DIR`, or name another with --url",
        ))
    }
}

/// `NAME` or `NAME/VERSION` as a path below `/v2/models`.
fn model_path(model: &str) -> String {
    match model.split_once('/') {
        Some((name, version)) => format!("/v2/models/{name}/versions/{version}"),
        None => format!("/v2/models/{model}"),
    }
}

/// The server's own words for why it refused.
fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let text = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| {
            let error = body.get("error")?;
            error
                .as_str()
                .or_else(|| error.get("message")?.as_str())
                .map(str::to_owned)
        })
        .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
    let advice = match status {
        StatusCode::NOT_FOUND => "`afterglow models` lists what this server has",
        StatusCode::SERVICE_UNAVAILABLE => {
            "the server is loading or full: try again, or see `afterglow models`"
        }
        StatusCode::BAD_REQUEST => "the model's inputs are shown by `afterglow models --output json`",
        _ => "the server's log says more",
    };
    hint::error(format!("the server answered {status}: {text}"), advice)
}
