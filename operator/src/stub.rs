//! An operator whose API server is a function of the call, and whose stores are filled by hand: for tests.

use std::sync::{Arc, Mutex};

use afterglow_crds::{InferenceCluster, ModelDeployment};
use axum::http::{Request, Response};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::client::Body;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::Event;
use kube::{Client, Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::args::Options;
use crate::cluster::claim::OPERATED_FROM;
use crate::deployment::Facts;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::operator::Context;
use crate::watch::World;

/// What the API server answers: code and body, or nothing.
pub(crate) type Answer = Option<(u16, Value)>;

/// The operator in `afterglow-system`.
pub(crate) struct Stub {
    pub(crate) context: Arc<Context>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    /// One that knows what is in `facts`; `answer` gets the verb and the path.
    pub(crate) fn knowing(facts: &Facts, answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let cluster = facts.cluster.clone().map(|mut cluster| {
            cluster
                .annotations_mut()
                .insert(OPERATED_FROM.to_owned(), "afterglow-system".to_owned());
            DeserializeGuard(Ok(cluster))
        });
        Self::with_cluster(facts, cluster, answer)
    }

    /// The same with another cluster, or with none.
    pub(crate) fn with_cluster(
        facts: &Facts,
        cluster: Option<DeserializeGuard<InferenceCluster>>,
        answer: impl Fn(&str) -> Answer + Send + 'static,
    ) -> Self {
        let node =
            |name: &String| -> DeserializeGuard<Node> { read(json!({ "metadata": { "name": name } })) };
        let namespace =
            |name: &str| -> DeserializeGuard<Namespace> { read(json!({ "metadata": { "name": name } })) };
        let world = World {
            namespace: "afterglow-system".into(),
            clusters: filled(cluster),
            deployments: filled([DeserializeGuard(Ok(facts.deployment.clone()))]),
            replicas: filled(facts.all.iter().cloned().map(Ok).map(DeserializeGuard)),
            gpu_nodes: filled(facts.gpu_nodes.iter().cloned().map(Ok).map(DeserializeGuard)),
            nodes: filled(facts.nodes.keys().map(node)),
            namespaces: filled(["afterglow-system", "elsewhere", "team"].map(namespace)),
            leases: filled([]),
            children: Arc::default(),
            told: Arc::default(),
        };
        let calls: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = calls.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let call = format!("{} {}", request.method(), request.uri().path());
            let answer = answer(&call);
            heard.lock().unwrap().push(call);
            std::future::ready(match answer {
                Some((code, body)) => Ok(Response::builder()
                    .status(code)
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap()),
                None => Err(std::io::Error::other("the connection broke")),
            })
        });
        let context = Context::new(
            Client::new(service, "default"),
            options(),
            world,
            Liveness::fixed((*facts.judgement).clone()),
            Metrics::new(),
        );
        Self {
            context: Arc::new(context),
            calls,
        }
    }

    /// The calls so far that have this in them.
    pub(crate) fn calls(&self, with: &str) -> Vec<String> {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|call| call.contains(with)).cloned().collect()
    }
}

/// A refusal as the API server puts it.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands where an answer may be missing"
)]
pub(crate) fn refusal(code: u16) -> Answer {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "x", "message": "no" });
    Some((code, status))
}

/// The deployment of `facts`, as the controller hands it over.
pub(crate) fn asked(facts: &Facts) -> Arc<DeserializeGuard<ModelDeployment>> {
    Arc::new(DeserializeGuard(Ok(facts.deployment.clone())))
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn filled<K>(objects: impl IntoIterator<Item = DeserializeGuard<K>>) -> Store<DeserializeGuard<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut writer = Writer::new(());
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    writer.as_reader()
}

/// What the operator is told by the shortest command line.
pub(crate) fn options() -> Options {
    use clap::Parser as _;
    let args = crate::args::Args::parse_from([
        "afterglow-operator",
        "run",
        "--namespace=afterglow-system",
        "--agent-image=agent:dev",
        "--scheduler-image=scheduler:dev",
        "--identity=me",
    ]);
    let crate::args::Command::Run(run) = args.command;
    Options::from(run)
}
