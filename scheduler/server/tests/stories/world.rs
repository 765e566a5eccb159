//! A scheduler with upstreams behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use afterglow_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use afterglow_scheduler::fleet::{Model, Replica, Unready};
use afterglow_scheduler::{Config, Fleet, Limits, Listeners, Options, serve};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::proxy::Proxy;
use crate::upstream::{Running, Upstream, listen};

pub(crate) struct World {
    pub(crate) upstreams: Vec<Upstream>,
    /// The way to each of them.
    pub(crate) wires: Vec<Proxy>,
    pub(crate) fleet: watch::Sender<Arc<Fleet>>,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) pages: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) served: JoinHandle<anyhow::Result<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl World {
    /// Model `m` of namespace `team` with replicas a, b, … of revisions 1, 2, …
    pub(crate) async fn new(replicas: usize) -> Self {
        Self::limited(replicas, Limits::default(), Duration::ZERO).await
    }

    pub(crate) async fn limited(replicas: usize, limits: Limits, grace: Duration) -> Self {
        let (mut upstreams, mut wires) = (Vec::new(), Vec::new());
        for place in 0..replicas {
            let name = char::from(b'a' + place as u8).to_string();
            let Running { upstream, grpc, http } = Upstream::start(&name).await;
            wires.push(Proxy::before(grpc, http).await);
            upstreams.push(upstream);
        }
        let model = Model {
            ready: wires
                .iter()
                .enumerate()
                .map(|(i, wire)| Arc::new(replica(wire, i)))
                .collect(),
            unready: Vec::new(),
        };
        let empty = Model {
            ready: Vec::new(),
            unready: vec![Unready {
                id: "team/away-1-x".into(),
                revision: Some(1),
                reason: "DigestMismatch".into(),
                message: "it is not the file".into(),
            }],
        };
        let models = [("m".to_owned(), model), ("away".to_owned(), empty)].into();
        let fleet = Fleet {
            known: true,
            models: [("team".to_owned(), models)].into(),
            ..Fleet::default()
        };
        let (fleet, fleet_in) = watch::channel(Arc::new(fleet));
        let (http, grpc, pages) = (listen().await, listen().await, listen().await);
        let addresses = [&http, &grpc, &pages].map(|listener| listener.local_addr().unwrap());
        let config = Config {
            default_namespace: "team".into(),
            ..Config::default()
        };
        let options = Options {
            listeners: Listeners {
                http,
                grpc,
                metrics: Some(pages),
            },
            cluster: "main".into(),
            namespace: "afterglow-system".into(),
            config: watch::channel(config).1,
            limits,
            grace,
            ready: None,
            metrics_of_others: None,
        };
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(options, fleet_in, stop.clone()));
        Self {
            upstreams,
            wires,
            fleet,
            http: addresses[0],
            grpc: addresses[1],
            pages: addresses[2],
            stop,
            served,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Changes model `m`.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Model)) {
        self.fleet.send_modify(|fleet| {
            let mut new = Fleet::clone(fleet);
            change(new.models.get_mut("team").unwrap().get_mut("m").unwrap());
            *fleet = Arc::new(new);
        });
    }

    /// Lets replica `place` listen nowhere.
    pub(crate) async fn unplug(&self, place: usize) {
        let (grpc, http) = (listen().await, listen().await);
        let (grpc, http) = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        self.change(|model| {
            let replica = Arc::make_mut(&mut model.ready[place]);
            (replica.grpc, replica.http) = (grpc.to_string(), http.to_string());
        });
    }

    pub(crate) async fn grpc(&self) -> GrpcInferenceServiceClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        GrpcInferenceServiceClient::new(endpoint.connect().await.unwrap())
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response<Bytes> {
        self.send("POST", self.http, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> http::Response<Bytes> {
        self.send("GET", self.http, path, &[], b"").await
    }

    pub(crate) async fn page(&self, path: &str) -> http::Response<Bytes> {
        self.send("GET", self.pages, path, &[], b"").await
    }

    async fn send(
        &self,
        method: &str,
        to: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response<Bytes> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{to}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// The same, where the answer may break off: its status, and its body or why there is none.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        body: &[u8],
    ) -> (http::StatusCode, Result<Bytes, hyper::Error>) {
        let request = http::Request::post(format!("http://{}{path}", self.http));
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        (
            parts.status,
            body.collect().await.map(http_body_util::Collected::to_bytes),
        )
    }

    /// Sends small requests until `answered` says that it is enough.
    pub(crate) async fn until(&self, what: &str, answered: impl Fn(&http::Response<Bytes>) -> bool) {
        let until = tokio::time::Instant::now() + Duration::from_mins(1);
        while !answered(&self.post("/v2/models/m/infer", &[], b"{}").await) {
            assert!(tokio::time::Instant::now() < until, "never: {what}");
        }
    }
}

fn replica(wire: &Proxy, place: usize) -> Replica {
    let name = char::from(b'a' + place as u8);
    Replica {
        id: format!("team/{name}"),
        engine_model: format!("team.{name}"),
        grpc: wire.grpc.to_string(),
        http: wire.http.to_string(),
        revision: place as i64 + 1,
        node: "n".into(),
        device: format!("gpu-{place}"),
        on_cpu: false,
        row_microseconds: 1000,
        gflops: 4000,
        upload_bytes_per_second: 0,
    }
}
