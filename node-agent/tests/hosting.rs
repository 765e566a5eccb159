//! A host with real engines on ONNX Runtime's CPU provider: models come, answer, survive their engine's death and go.
//!
//! `AFTERGLOW_ENGINE` names the engine's program; `make test` builds it beside the tests.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use afterglow_agent::fetch::{self, Fetcher};
use afterglow_agent::host::{self, Key, Reported, Statuses};
use afterglow_crds::condition::{self, READY};
use afterglow_crds::gpu_node::Device;
use afterglow_crds::model_replica::ModelReplica;
use afterglow_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use afterglow_proto::inference::model_infer_request::InferInputTensor;
use afterglow_proto::inference::{ModelInferRequest, ModelInferResponse};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// `y[batch, n] = −x[batch, n]`, float32: an ONNX file of 91 bytes.
const NEGATE: &[u8] = &[
    0x08, 0x08, 0x3a, 0x53, // ir_version 8, graph
    0x0a, 0x0e, 0x0a, 0x01, b'x', 0x12, 0x01, b'y', 0x1a, 0x01, b'y', 0x22, 0x03, b'N', b'e',
    b'g', // node
    0x12, 0x01, b'g', // its name
    0x5a, 0x1e, 0x0a, 0x01, b'x', 0x12, 0x19, 0x0a, 0x17, 0x08, 0x01, 0x12, 0x13, // input x, FLOAT
    0x0a, 0x0c, 0x12, 0x0a, b'b', b'a', b't', b'c', b'h', b'-', b's', b'i', b'z', b'e', // [batch-size,
    0x0a, 0x03, 0x12, 0x01, b'n', //  n]
    0x62, 0x1e, 0x0a, 0x01, b'y', 0x12, 0x19, 0x0a, 0x17, 0x08, 0x01, 0x12, 0x13, // output y, FLOAT
    0x0a, 0x0c, 0x12, 0x0a, b'b', b'a', b't', b'c', b'h', b'-', b's', b'i', b'z', b'e', //
    0x0a, 0x03, 0x12, 0x01, b'n', //
    0x42, 0x02, 0x10, 0x11, // opset 17
];

/// Everything that a test waits for comes sooner.
const EVER: Duration = Duration::from_mins(2);

fn engine() -> PathBuf {
    let said = std::env::var_os("AFTERGLOW_ENGINE").map(PathBuf::from);
    said.unwrap_or_else(|| {
        Path::new(env!("CARGO_BIN_EXE_afterglow-agent")).with_file_name("afterglow-engine")
    })
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(bytes);
    hash.iter()
        .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

struct Node {
    folder: tempfile::TempDir,
    /// Devices change as long as somebody may say so.
    _devices: watch::Sender<Vec<Device>>,
    desired: watch::Sender<Vec<ModelReplica>>,
    stop: CancellationToken,
    handle: host::Handle,
}

impl Node {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("models")).unwrap();
        let cache = folder.path().join("cache");
        let fetcher = Fetcher::open(fetch::Options {
            volumes: folder.path().to_owned(),
            ..fetch::Options::new(cache.clone(), 1 << 30)
        })
        .unwrap();
        let device: Device = serde_json::from_value(json!({
            "name": "cpu-0", "type": "CPU", "productName": "a processor", "memory": "1Gi", "selector": "cpu", "offered": true
        }))
        .unwrap();
        let devices = watch::Sender::new(vec![device]);
        let desired = watch::Sender::new(Vec::new());
        let stop = CancellationToken::new();
        let options = host::Options {
            first_port: 0,
            probe_seconds: 0.1,
            idle_engine: Duration::from_hours(1),
            ..host::Options::new(engine(), cache, IpAddr::from([127, 0, 0, 1]))
        };
        let handle = host::spawn(
            options,
            fetcher,
            devices.subscribe(),
            desired.subscribe(),
            stop.clone(),
        );
        Self {
            folder,
            _devices: devices,
            desired,
            stop,
            handle,
        }
    }

    /// A replica of what lies in the volume `models` as `file`.
    fn replica(&self, name: &str, file: &str, content: &[u8]) -> ModelReplica {
        std::fs::write(self.folder.path().join("models").join(file), content).unwrap();
        serde_json::from_value(json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": name, "namespace": "team", "uid": format!("uid-of-{name}"), "generation": 1},
            "spec": {
                "cluster": "c", "nodeName": "n", "device": "cpu-0", "revision": 3, "memory": "1Mi",
                "model": {
                    "name": "shown", "batching": {"maxBatchSize": 4},
                    "source": {"uri": format!("pvc://models/{file}"), "digest": digest(content)}
                }
            }
        }))
        .unwrap()
    }

    async fn until(&mut self, name: &str, what: &str, is: impl Fn(&Reported) -> bool) -> Reported {
        let key: Key = ("team".to_owned(), name.to_owned());
        let found = tokio::time::timeout(EVER, async {
            let statuses = self
                .handle
                .statuses
                .wait_for(|all| all.get(&key).is_some_and(&is))
                .await;
            statuses.unwrap()[&key].clone()
        });
        let found = found.await;
        found.unwrap_or_else(|_| {
            panic!(
                "{name} is not {what}: {:#?}",
                self.handle.statuses.borrow().get(&key)
            )
        })
    }

    async fn until_reason(&mut self, name: &str, reason: &str) -> Reported {
        self.until(name, reason, |reported| self::reason(reported) == reason)
            .await
    }
}

fn reason(reported: &Reported) -> &str {
    let ready = condition::find(&reported.status.conditions, READY);
    ready.map_or("", |ready| ready.reason.as_str())
}

async fn negated(reported: &Reported) -> ModelInferResponse {
    let endpoint = reported.status.endpoint.as_ref().unwrap();
    let mut client = GrpcInferenceServiceClient::connect(format!("http://{}", endpoint.grpc))
        .await
        .unwrap();
    let request = ModelInferRequest {
        model_name: endpoint.model.clone(),
        model_version: "3".into(),
        inputs: vec![InferInputTensor {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: vec![1, 2],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![
            [1.5f32, -2.0]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<u8>>()
                .into(),
        ],
        ..ModelInferRequest::default()
    };
    client.model_infer(request).await.unwrap().into_inner()
}

/// The engine's process: a child of ours whose command line names the folder.
fn engine_process(folder: &Path) -> Option<rustix::process::Pid> {
    let needle = folder.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .find_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("serve\0") && line.contains(&needle))
                .then(|| rustix::process::Pid::from_raw(id))?
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_comes_answers_outlives_its_engine_and_goes() {
    let mut node = Node::start();
    let good = node.replica("good", "neg.onnx", NEGATE);
    let broken = node.replica("broken", "broken.onnx", b"no model at all");
    let mut wrong = node.replica("wrong", "wrong.onnx", b"x");
    wrong.spec.model.source.digest = digest(b"y");
    let mut elsewhere = node.replica("elsewhere", "e.onnx", b"e");
    elsewhere.spec.device = "gpu-7".into();
    node.desired.send_replace(vec![
        good.clone(),
        broken.clone(),
        wrong.clone(),
        elsewhere.clone(),
    ]);

    let ready = node.until_reason("good", "Ready").await;
    assert!(condition::is_true(&ready.status.conditions, READY));
    let profile = ready.status.profile.as_ref().unwrap();
    assert!(
        !profile.latencies.is_empty() && profile.cpu_nodes == 1,
        "{profile:?}"
    );
    assert_eq!(ready.status.endpoint.as_ref().unwrap().model, "team.good");
    let answer = negated(&ready).await;
    assert_eq!(
        (answer.model_name.as_str(), answer.model_version.as_str()),
        ("shown", "3")
    );
    let expected: Vec<u8> = [-1.5f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(answer.raw_output_contents[0], expected);
    let load = node.handle.load.clone();
    let busy = |load: &BTreeMap<String, Vec<afterglow_proto::load::Model>>| {
        let model = load
            .get("cpu-0")
            .and_then(|models| models.iter().find(|model| model.name == "team.good"));
        model.is_some_and(|model| {
            model.ready && model.runs >= 1 && model.device == "cpu-0" && model.max_batch_size == 4
        })
    };
    tokio::time::timeout(EVER, load.clone().wait_for(busy))
        .await
        .unwrap()
        .unwrap();

    for (name, expected) in [
        ("broken", "ModelInvalid"),
        ("wrong", "DigestMismatch"),
        ("elsewhere", "DeviceUnknown"),
    ] {
        let failed = node.until_reason(name, expected).await;
        assert!(!condition::is_true(&failed.status.conditions, READY));
        assert!(!failed.engine_released && failed.status.endpoint.is_none());
    }

    // The engine dies; the model is not ready, and then it is again, in another process.
    let killed = engine_process(node.folder.path()).unwrap();
    rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
    let died = node.until_reason("good", "EngineFailed").await;
    let ready_condition = condition::find(&died.status.conditions, READY).unwrap();
    assert!(
        ready_condition.message.contains("cpu-0") && ready_condition.message.contains("signal: 9"),
        "{ready_condition:?}"
    );
    let again = node.until_reason("good", "Ready").await;
    negated(&again).await;
    let seen = node.handle.engines.borrow()["cpu-0"].clone();
    assert_eq!(seen.restarts, 1, "what dies is started again, and counted");
    assert!(seen.metrics.is_some(), "its metrics are somewhere");

    // It is deleted: drained, unloaded, released. The others never reached an engine and are released at once.
    let deleted = |mut replica: ModelReplica| {
        replica.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        replica
    };
    node.desired
        .send_replace([good, broken, wrong, elsewhere].map(deleted).to_vec());
    for name in ["good", "broken", "wrong", "elsewhere"] {
        node.until(name, "released", |reported| reported.engine_released)
            .await;
    }
    let empty = |load: &BTreeMap<String, Vec<afterglow_proto::load::Model>>| {
        let models = load.get("cpu-0").map(Vec::as_slice).unwrap_or_default();
        models.iter().all(|model| !model.ready)
    };
    tokio::time::timeout(EVER, load.clone().wait_for(empty))
        .await
        .unwrap()
        .unwrap();
    node.desired.send_replace(Vec::new());
    let mut statuses = node.handle.statuses.clone();
    let gone = statuses.wait_for(Statuses::is_empty);
    drop(tokio::time::timeout(EVER, gone).await.unwrap().unwrap());

    assert!(
        engine_process(node.folder.path()).is_some(),
        "it stays a while for the next model"
    );
    // A device that is to be lent gives its engine back at once, and says so when the process has really ended.
    let occupants = node.handle.occupants.clone();
    occupants.want_back(["cpu-0".to_owned()].into());
    tokio::time::timeout(EVER, occupants.left()).await.unwrap();
    assert!(!occupants.on("cpu-0") && engine_process(node.folder.path()).is_none());
    node.stop.cancel();
    node.handle.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_the_engines_in_order() {
    let mut node = Node::start();
    let good = node.replica("good", "neg.onnx", NEGATE);
    node.desired.send_replace(vec![good]);
    node.until_reason("good", "Ready").await;
    node.stop.cancel();
    node.handle.ended().await;
    assert!(engine_process(node.folder.path()).is_none());
}
