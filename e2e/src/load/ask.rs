//! One request: sent on one of four ways, its answer compared with the standalone server's.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use afterglow_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use afterglow_proto::inference::model_infer_request::InferInputTensor;
use afterglow_proto::inference::{InferTensorContents, ModelInferRequest};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use super::ledger::{Outcome, Way};
use crate::wire;

/// A right answer that comes later than this is of no use to its client.
pub const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(1);
/// What could not be sent at all is sent on another connection, as load balancers and gRPC clients do.
const CONNECTS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(50);
const EXPLAIN: &str = "x-afterglow-explain";
const REPLICA: &str = "x-afterglow-replica";

/// What is asked, and what must come back.
#[derive(Debug, Clone)]
pub struct Question {
    /// One row of FP32 for the input `x`.
    pub row: Vec<f32>,
    /// The first output.
    pub wanted: Vec<f32>,
}

/// Where requests enter the cluster.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// `http://HOST:PORT` of REST.
    pub rest: String,
    /// `http://HOST:PORT` of gRPC.
    pub grpc: String,
}

/// Asks; clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Asker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    entrances: Vec<Door>,
    kept: reqwest::Client,
    anew: reqwest::Client,
    model: String,
    questions: Vec<Question>,
}

#[derive(Debug)]
struct Door {
    rest: String,
    grpc: Endpoint,
    channel: Channel,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) replica: Option<String>,
    pub(super) connects: u32,
}

/// Why there are no numbers.
enum Miss {
    /// There was no connection: nothing of the request was sent.
    Unconnected(String),
    /// Somebody said no, or nobody said anything any more.
    Failed { status: String, why: String },
}

type Reply = std::result::Result<(Vec<f32>, Option<String>), Miss>;

impl Asker {
    pub(super) fn new(entrances: &[Entrance], model: &str, questions: Vec<Question>) -> Result<Self> {
        let rest = || {
            reqwest::Client::builder()
                .timeout(DEADLINE)
                .connect_timeout(CONNECT)
                .no_proxy()
        };
        let door = |entrance: &Entrance| -> Result<Door> {
            let grpc = Endpoint::from_shared(entrance.grpc.clone())
                .with_context(|| format!("read the address {}", entrance.grpc))?
                .connect_timeout(CONNECT)
                .timeout(DEADLINE)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(2))
                .keep_alive_timeout(Duration::from_secs(2))
                .keep_alive_while_idle(true);
            Ok(Door {
                rest: entrance.rest.clone(),
                channel: grpc.connect_lazy(),
                grpc,
            })
        };
        Ok(Self(Arc::new(Inner {
            entrances: entrances.iter().map(door).collect::<Result<_>>()?,
            kept: rest().build().context("make a REST client")?,
            anew: rest()
                .pool_max_idle_per_host(0)
                .build()
                .context("make a REST client")?,
            model: model.to_owned(),
            questions,
        })))
    }

    /// The question of that number, asked until it was sent.
    pub(super) async fn ask(&self, number: u64, way: Way) -> Answer {
        let question = &self.0.questions[number as usize % self.0.questions.len()];
        let mut connects = 0;
        let asked = async {
            loop {
                let door = &self.0.entrances[(number as usize + connects as usize) % self.0.entrances.len()];
                connects += 1;
                match self.0.send(door, number, way, &question.row).await {
                    Err(Miss::Unconnected(_)) if connects < CONNECTS => tokio::time::sleep(BETWEEN).await,
                    other => return other,
                }
            }
        };
        let reply = tokio::time::timeout(DEADLINE, asked).await;
        let failed = |status: &str, why: String| Outcome::Failed {
            status: status.to_owned(),
            why,
        };
        let (outcome, replica) = match reply {
            Err(_) => (
                failed("", format!("no answer within {} s", DEADLINE.as_secs())),
                None,
            ),
            Ok(Err(Miss::Unconnected(why))) => (failed("", format!("no connection: {why}")), None),
            Ok(Err(Miss::Failed { status, why })) => (failed(&status, why), None),
            Ok(Ok((found, replica))) => match wire::same(&found, &question.wanted) {
                Ok(()) => (Outcome::Right, replica),
                Err(error) => (Outcome::Wrong(format!("{error:#}")), replica),
            },
        };
        Answer {
            outcome,
            replica,
            connects,
        }
    }
}

impl Inner {
    async fn send(&self, door: &Door, number: u64, way: Way, row: &[f32]) -> Reply {
        match way {
            Way::Rest => self.rest(&self.kept, door, row).await,
            Way::RestAnew => self.rest(&self.anew, door, row).await,
            Way::Grpc => self.grpc(door.channel.clone(), number, row).await,
            Way::GrpcAnew => match door.grpc.connect().await {
                Ok(channel) => self.grpc(channel, number, row).await,
                Err(error) => Err(Miss::Unconnected(chain(&error))),
            },
        }
    }

    async fn rest(&self, client: &reqwest::Client, door: &Door, row: &[f32]) -> Reply {
        let url = format!("{}/v2/models/{}/infer", door.rest, self.model);
        let request = client.post(url).header(EXPLAIN, "1").json(&json!({
            "inputs": [{"name": "x", "shape": [1, row.len()], "datatype": "FP32", "data": row}],
        }));
        let lost = |error: reqwest::Error| {
            if error.is_connect() {
                Miss::Unconnected(chain(&error))
            } else {
                failed("", chain(&error))
            }
        };
        let answer = request.send().await.map_err(lost)?;
        let status = answer.status();
        let replica = answer
            .headers()
            .get(REPLICA)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let body = answer.text().await.map_err(|error| failed("", chain(&error)))?;
        if !status.is_success() {
            return Err(failed(status.as_str(), body));
        }
        let numbers = serde_json::from_str::<Value>(&body)
            .ok()
            .and_then(|answer| serde_json::from_value(answer["outputs"][0]["data"].clone()).ok());
        // A body that is no answer is a wrong one: it compares as such.
        Ok((numbers.unwrap_or_default(), replica))
    }

    async fn grpc(&self, channel: Channel, number: u64, row: &[f32]) -> Reply {
        let mut request = tonic::Request::new(ModelInferRequest {
            model_name: self.model.clone(),
            id: number.to_string(),
            inputs: vec![InferInputTensor {
                name: "x".to_owned(),
                datatype: "FP32".to_owned(),
                shape: vec![1, row.len() as i64],
                contents: Some(InferTensorContents {
                    fp32_contents: row.to_vec(),
                    ..InferTensorContents::default()
                }),
                ..InferInputTensor::default()
            }],
            ..ModelInferRequest::default()
        });
        request
            .metadata_mut()
            .insert(EXPLAIN, tonic::metadata::MetadataValue::from_static("1"));
        let answer = GrpcInferenceServiceClient::new(channel)
            .model_infer(request)
            .await
            .map_err(|status| {
                let why = chain(&status);
                if unsent(&status) {
                    Miss::Unconnected(why)
                } else {
                    failed(&format!("{:?}", status.code()), why)
                }
            })?;
        let replica = answer
            .metadata()
            .get(REPLICA)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let answer = answer.into_inner();
        // An answer to another request is a wrong one: it compares as such.
        let own = answer.id == number.to_string() && answer.model_name == self.model;
        let raw = answer.raw_output_contents.first().filter(|_| own);
        let numbers = raw.map(|raw| {
            let words = raw.as_chunks().0.iter();
            words.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        });
        Ok((numbers.unwrap_or_default(), replica))
    }
}

fn failed(status: &str, why: String) -> Miss {
    Miss::Failed {
        status: status.to_owned(),
        why,
    }
}

/// Whether a call never left: there was no connection, or the one there was had said its farewell before. gRPC clients send
/// such a call again by themselves; this one does not.
fn unsent(status: &tonic::Status) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(status);
    while let Some(error) = cause {
        // hyper's word for a request that it hands back.
        if error.is::<tonic::ConnectError>() || error.to_string().starts_with("operation was canceled") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use axum::{Json, Router, routing::post};

    use super::*;

    /// Adds a row up, except that it refuses what begins with a 5 and miscounts what begins with a 9.
    async fn adds() -> SocketAddr {
        let answer = async |Json(request): Json<Value>| {
            let row: Vec<f32> = serde_json::from_value(request["inputs"][0]["data"].clone()).unwrap();
            let sum = match row[0] as u8 {
                5 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
                9 => 0.0,
                _ => row.iter().sum::<f32>(),
            };
            let outputs = json!({"outputs": [{"name": "y", "data": [sum]}]});
            ([(REPLICA, "default/a-1")], Json(outputs)).into_response()
        };
        let router = Router::new().route("/v2/models/{name}/infer", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// A port that nobody listens on.
    async fn nobody() -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    }

    fn entrance(rest: SocketAddr, grpc: SocketAddr) -> Entrance {
        Entrance {
            rest: format!("http://{rest}"),
            grpc: format!("http://{grpc}"),
        }
    }

    fn asker(entrances: &[Entrance]) -> Asker {
        let question = |first: f32| Question {
            row: vec![first, 1.0],
            wanted: vec![first + 1.0],
        };
        Asker::new(entrances, "sum", [1.0, 5.0, 9.0].map(question).to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_right_answer_a_refusal_and_a_wrong_answer_are_told_apart() {
        let asker = asker(&[entrance(adds().await, nobody().await)]);
        for way in [Way::Rest, Way::RestAnew] {
            let right = asker.ask(0, way).await;
            assert_eq!(
                (right.outcome, right.replica.as_deref()),
                (Outcome::Right, Some("default/a-1"))
            );
            let refused = asker.ask(1, way).await.outcome;
            assert!(
                matches!(&refused, Outcome::Failed { status, .. } if status == "503"),
                "{refused:?}"
            );
            let wrong = asker.ask(2, way).await;
            assert!(matches!(wrong.outcome, Outcome::Wrong(_)), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_tried_three_times_and_at_the_next_entrance() {
        let nowhere = entrance(nobody().await, nobody().await);
        for way in Way::ALL {
            let answer = asker(std::slice::from_ref(&nowhere)).ask(0, way).await;
            assert_eq!(answer.connects, CONNECTS, "{way}: {answer:?}");
            assert!(
                matches!(&answer.outcome, Outcome::Failed { why, .. } if why.contains("no connection")),
                "{way}: {answer:?}"
            );
        }
        let somewhere = entrance(adds().await, nobody().await);
        let answer = asker(&[nowhere, somewhere]).ask(0, Way::Rest).await;
        assert_eq!((answer.outcome, answer.connects), (Outcome::Right, 2));
    }
}
