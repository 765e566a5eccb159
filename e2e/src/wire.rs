//! What clients say to a server: embeddings over REST, tensors over gRPC. The same calls go to a scheduler and to a
//! standalone server.

use std::time::Duration;

use afterglow_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use afterglow_proto::inference::model_infer_request::InferInputTensor;
use afterglow_proto::inference::{InferTensorContents, ModelInferRequest};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

/// Longer than any answer may take; a lost request fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// A REST client that opens connections as most programs do.
pub fn rest() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(PATIENCE)
        .connect_timeout(Duration::from_secs(5))
        .no_proxy()
        .build()
        .context("make a REST client")
}

/// `POST /v1/embeddings` of one text; a namespace, where one is asked for, is named in the header.
pub async fn embed(
    rest: &reqwest::Client,
    base: &str,
    namespace: Option<&str>,
    model: &str,
    text: &str,
) -> Result<Vec<f32>> {
    let mut request = rest
        .post(format!("{base}/v1/embeddings"))
        .json(&json!({"model": model, "input": [text], "encoding_format": "float"}));
    if let Some(namespace) = namespace {
        request = request.header("x-afterglow-namespace", namespace);
    }
    let answer = request.send().await.context("ask for an embedding")?;
    let status = answer.status();
    let body = answer.text().await.context("read the embedding")?;
    ensure!(status.is_success(), "{status}: {body}");
    let answer: Value = serde_json::from_str(&body).context("read the embedding's JSON")?;
    ensure!(
        answer["model"] == model,
        "the answer says that {} gave it, not {model}",
        answer["model"]
    );
    vector(&answer["data"][0]["embedding"])
}

/// `POST /v2/models/NAME/infer` with one FP32 row; its first output.
pub async fn infer(
    rest: &reqwest::Client,
    base: &str,
    namespace: Option<&str>,
    model: &str,
    row: &[f32],
) -> Result<Vec<f32>> {
    let mut request = rest.post(format!("{base}/v2/models/{model}/infer")).json(&json!({
        "inputs": [{"name": "x", "shape": [1, row.len()], "datatype": "FP32", "data": row}],
    }));
    if let Some(namespace) = namespace {
        request = request.header("x-afterglow-namespace", namespace);
    }
    let answer = request.send().await.context("ask for an inference")?;
    let status = answer.status();
    let body = answer.text().await.context("read the inference")?;
    ensure!(status.is_success(), "{status}: {body}");
    let answer: Value = serde_json::from_str(&body).context("read the inference's JSON")?;
    vector(&answer["outputs"][0]["data"])
}

/// Names of the models that a client of the namespace sees.
pub async fn index(rest: &reqwest::Client, base: &str, namespace: Option<&str>) -> Result<Vec<String>> {
    let mut request = rest.post(format!("{base}/v2/repository/index")).json(&json!({}));
    if let Some(namespace) = namespace {
        request = request.header("x-afterglow-namespace", namespace);
    }
    let answer = request.send().await.context("ask for the index")?;
    let status = answer.status();
    let body = answer.text().await.context("read the index")?;
    ensure!(status.is_success(), "{status}: {body}");
    let entries: Vec<Value> = serde_json::from_str(&body).context("read the index's JSON")?;
    Ok(entries
        .iter()
        .filter_map(|entry| entry["name"].as_str().map(str::to_owned))
        .collect())
}

/// A gRPC channel, made when it is first used.
pub fn grpc(address: &str) -> Result<GrpcInferenceServiceClient<Channel>> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .with_context(|| format!("read the address {address}"))?
        .connect_timeout(Duration::from_secs(5))
        .timeout(PATIENCE);
    Ok(GrpcInferenceServiceClient::new(endpoint.connect_lazy()))
}

/// `ModelInfer` of token numbers; the first output's numbers.
pub async fn infer_tokens(
    grpc: &mut GrpcInferenceServiceClient<Channel>,
    model: &str,
    tokens: &[i64],
) -> Result<Vec<f32>> {
    let tensor = |name: &str, numbers: Vec<i64>| InferInputTensor {
        name: name.to_owned(),
        datatype: "INT64".to_owned(),
        shape: vec![1, numbers.len() as i64],
        contents: Some(InferTensorContents {
            int64_contents: numbers,
            ..InferTensorContents::default()
        }),
        ..InferInputTensor::default()
    };
    let request = ModelInferRequest {
        model_name: model.to_owned(),
        id: "e2e".to_owned(),
        inputs: vec![
            tensor("input_ids", tokens.to_vec()),
            tensor("attention_mask", vec![1; tokens.len()]),
            tensor("token_type_ids", vec![0; tokens.len()]),
        ],
        ..ModelInferRequest::default()
    };
    let answer = grpc
        .model_infer(request)
        .await
        .context("ask for an inference over gRPC")?
        .into_inner();
    ensure!(
        answer.model_name == model && answer.id == "e2e",
        "the answer is of {} with id {:?}",
        answer.model_name,
        answer.id
    );
    let Some(raw) = answer.raw_output_contents.first() else {
        bail!("the answer has no raw output")
    };
    Ok(raw
        .as_chunks()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect())
}

/// Fails unless two answers are the same within 1e-5 of the largest number.
pub fn same(found: &[f32], wanted: &[f32]) -> Result<()> {
    ensure!(
        found.len() == wanted.len() && !wanted.is_empty(),
        "{} numbers instead of {}",
        found.len(),
        wanted.len()
    );
    let largest = wanted.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    let close = |(found, wanted): (&f32, &f32)| (found - wanted).abs() <= 1e-5 * largest; // not so for NaN
    ensure!(
        found.iter().zip(wanted).all(close),
        "the answer is not the standalone one: it begins {:?}, not {:?}",
        &found[..found.len().min(4)],
        &wanted[..wanted.len().min(4)]
    );
    Ok(())
}

fn vector(numbers: &Value) -> Result<Vec<f32>> {
    numbers
        .as_array()
        .context("the answer holds no numbers")?
        .iter()
        .map(|number| {
            number
                .as_f64()
                .map(|number| number as f32)
                .with_context(|| format!("{number} is no number"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_same_only_within_the_tolerance_and_with_the_same_length() {
        assert!(same(&[1.0, -0.5], &[1.0, -0.500_001]).is_ok());
        assert!(same(&[1.0, -0.5], &[1.0, -0.501]).is_err());
        assert!(same(&[1.0], &[1.0, 2.0]).is_err());
        assert!(same(&[], &[]).is_err());
        assert!(same(&[f32::NAN], &[1.0]).is_err());
    }
}
