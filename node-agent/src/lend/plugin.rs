//! The kubelet's side: it asks who we are on one socket and, before a pod with a claim starts, for the device on another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use afterglow_crds::gpu_node::Device;
use afterglow_crds::labels::DRIVER;
use afterglow_proto::dra::dra_plugin_server::{DraPlugin, DraPluginServer};
use afterglow_proto::dra::{
    self, Claim, NodePrepareResourceResponse, NodePrepareResourcesRequest, NodePrepareResourcesResponse,
    NodeUnprepareResourceResponse, NodeUnprepareResourcesRequest, NodeUnprepareResourcesResponse,
};
use afterglow_proto::registration::registration_server::{Registration, RegistrationServer};
use afterglow_proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use anyhow::Context as _;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::{Api, Client};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::claims::allocated;
use super::{Ledger, State, cdi};
use crate::kube::find;

/// Where the kubelet looks for plugins, and where the runtime reads what it is to put into containers.
#[derive(Debug, Clone)]
pub struct Sockets {
    /// The kubelet's folder.
    pub kubelet: PathBuf,
    /// CDI's folder.
    pub cdi: PathBuf,
}

impl Sockets {
    /// The kubelet takes any name. It dials this socket with its path, percent-encoded, as `:authority`, and Rust's HTTP/2
    /// refuses that: `%` may not be in a host. What stands before an `@` is no host.
    fn registration(&self) -> PathBuf {
        self.kubelet
            .join("plugins_registry")
            .join(format!("{DRIVER}@reg.sock"))
    }

    fn plugin(&self) -> PathBuf {
        self.kubelet.join("plugins").join(DRIVER).join("dra.sock")
    }
}

/// Serves the kubelet until it is told to stop.
pub async fn serve(
    client: Client,
    node: String,
    sockets: Sockets,
    ledger: Arc<Ledger>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let (plugin, registration) = (sockets.plugin(), sockets.registration());
    // The plugin first: a kubelet that hears of it calls it at once.
    let plugin_listener = listen(&plugin)?;
    let registration_listener = listen(&registration)?;
    let desk = Desk {
        client,
        node,
        cdi: sockets.cdi,
        ledger: Arc::clone(&ledger),
    };
    let card = Card {
        endpoint: plugin.display().to_string(),
        ledger: Arc::clone(&ledger),
    };
    let stop = || shutdown.clone().cancelled_owned();
    let served = tokio::try_join!(
        Server::builder()
            .add_service(DraPluginServer::new(desk))
            .serve_with_incoming_shutdown(UnixListenerStream::new(plugin_listener), stop()),
        Server::builder()
            .add_service(RegistrationServer::new(card))
            .serve_with_incoming_shutdown(UnixListenerStream::new(registration_listener), stop()),
    );
    ledger.set_registered(false);
    // The kubelet forgets a plugin whose socket goes away.
    let _ = std::fs::remove_file(&registration);
    served.context("serving the kubelet's DRA calls")?;
    Ok(())
}

fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    // What lies there is a former agent's.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old {}", socket.display()));
        }
        _ => {}
    }
    UnixListener::bind(socket).with_context(|| {
        format!(
            "listening on {}: mount the kubelet's plugins and plugins_registry folders into the agent's pod",
            socket.display()
        )
    })
}

/// Says who we are.
struct Card {
    endpoint: String,
    ledger: Arc<Ledger>,
}

#[tonic::async_trait]
impl Registration for Card {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "DRAPlugin".to_owned(),
            name: DRIVER.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["v1.DRAPlugin".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            tracing::info!(driver = DRIVER, "the kubelet has taken the DRA plugin");
        } else {
            tracing::error!(driver = DRIVER, error = %status.error, "the kubelet has refused the DRA plugin");
        }
        self.ledger.set_registered(status.plugin_registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

/// Hands devices over.
struct Desk {
    client: Client,
    node: String,
    cdi: PathBuf,
    ledger: Arc<Ledger>,
}

#[tonic::async_trait]
impl DraPlugin for Desk {
    async fn node_prepare_resources(
        &self,
        request: Request<NodePrepareResourcesRequest>,
    ) -> Result<Response<NodePrepareResourcesResponse>, Status> {
        let mut answers = BTreeMap::new();
        for claim in request.into_inner().claims {
            let answer = match self.prepare(&claim).await {
                Ok(devices) => NodePrepareResourceResponse {
                    devices,
                    error: String::new(),
                },
                Err(error) => {
                    tracing::warn!(claim = %format!("{}/{}", claim.namespace, claim.name), %error, "not handed over");
                    NodePrepareResourceResponse {
                        devices: Vec::new(),
                        error,
                    }
                }
            };
            answers.insert(claim.uid, answer);
        }
        Ok(Response::new(NodePrepareResourcesResponse { claims: answers }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<NodeUnprepareResourcesRequest>,
    ) -> Result<Response<NodeUnprepareResourcesResponse>, Status> {
        let answer = |claim: Claim| {
            let error = match cdi::remove(&self.cdi, &claim.uid) {
                Ok(()) => String::new(),
                Err(error) => format!("removing the CDI file of claim {}: {error}", claim.uid),
            };
            tracing::info!(claim = %format!("{}/{}", claim.namespace, claim.name), error, "taken back");
            (claim.uid, NodeUnprepareResourceResponse { error })
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(NodeUnprepareResourcesResponse { claims }))
    }
}

impl Desk {
    async fn prepare(&self, asked: &Claim) -> Result<Vec<dra::Device>, String> {
        let path = format!("{}/{}", asked.namespace, asked.name);
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &asked.namespace);
        let claim = find(format!("read ResourceClaim {path}"), claims.get(&asked.name))
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("there is no ResourceClaim {path} any more"))?;
        let devices = hand_over(&claim, &asked.uid, &self.node, &self.ledger, &self.cdi)?;
        cdi::write(&self.cdi, &asked.uid, &devices).map_err(|error| {
            format!(
                "writing the CDI file of claim {path} into {}: {error}",
                self.cdi.display()
            )
        })?;
        let names: Vec<&str> = devices.iter().map(|(_, device)| device.name.as_str()).collect();
        tracing::info!(claim = %path, devices = names.join(","), "handed over");
        Ok(devices
            .into_iter()
            .map(|(request, device)| dra::Device {
                request_names: vec![request],
                pool_name: self.node.clone(),
                cdi_device_ids: vec![cdi::id(&asked.uid, &device.name)],
                device_name: device.name,
                ..dra::Device::default()
            })
            .collect())
    }
}

/// The devices that a claim may have, by request; or why not.
fn hand_over(
    claim: &ResourceClaim,
    uid: &str,
    node: &str,
    ledger: &Ledger,
    folder: &Path,
) -> Result<Vec<(String, Device)>, String> {
    let path = format!(
        "{}/{}",
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        claim.metadata.name.as_deref().unwrap_or_default()
    );
    if claim.metadata.uid.as_deref() != Some(uid) {
        return Err(format!(
            "ResourceClaim {path} is another one by now: its UID is not {uid}"
        ));
    }
    let allocated = allocated(claim, node);
    if allocated.is_empty() {
        return Err(format!(
            "ResourceClaim {path} has no device of {DRIVER} on node {node}"
        ));
    }
    let mut devices = Vec::new();
    for result in allocated {
        let name = &result.device;
        let entry = ledger
            .entry(name)
            .ok_or_else(|| format!("node {node} has no device {name}"))?;
        if matches!(entry.state, State::Serving | State::Draining) {
            return Err(format!(
                "device {name} of node {node} serves models: name it in spec.lend of GpuNode {node} first"
            ));
        }
        if ledger.has_engine(name) {
            return Err(format!(
                "an engine still ends on device {name} of node {node}; the kubelet asks again"
            ));
        }
        if let Some(other) = cdi::holder(folder, name, uid) {
            return Err(format!(
                "device {name} of node {node} is in the hands of claim {other}"
            ));
        }
        devices.push((result.request, entry.device));
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use afterglow_proto::dra::dra_plugin_client::DraPluginClient;
    use afterglow_proto::registration::registration_client::RegistrationClient;
    use axum::http::{Request as HttpRequest, Response as HttpResponse, StatusCode, Uri};
    use hyper_util::rt::TokioIo;
    use kube::client::Body;
    use tokio::net::UnixStream;
    use tonic::transport::{Channel, Endpoint};

    use super::super::claims::tests::claim;
    use super::*;

    fn ledger(state: State) -> Ledger {
        let ledger = Ledger::default();
        let device = Device {
            name: "gpu-a".into(),
            ..Device::default()
        };
        ledger.record(&[device], &BTreeMap::from([("gpu-a".to_owned(), state)]));
        ledger
    }

    /// An API server that knows one claim.
    fn api_server(claim: &ResourceClaim) -> Client {
        let path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c";
        let known = serde_json::to_vec(claim).unwrap();
        let missing =
            br#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
        let service = tower::service_fn(move |request: HttpRequest<Body>| {
            let (status, body) = if request.uri().path() == path {
                (StatusCode::OK, known.clone())
            } else {
                (StatusCode::NOT_FOUND, missing.to_vec())
            };
            let response = HttpResponse::builder()
                .status(status)
                .body(Body::from(body))
                .unwrap();
            async { Ok::<_, std::convert::Infallible>(response) }
        });
        Client::new(service, "default")
    }

    /// As the kubelet dials for registration: with the socket's path as `:authority`.
    fn registration_origin(socket: &Path) -> Uri {
        let authority = socket.display().to_string().replace('/', "%2F");
        format!("http://{authority}").parse().unwrap()
    }

    async fn dial(socket: PathBuf, origin: Uri) -> Channel {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let endpoint = Endpoint::from_static("http://kubelet").origin(origin.clone());
            match endpoint.connect_with_connector(connector.clone()).await {
                Ok(channel) => return channel,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error:?}"),
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_kubelet_registers_the_plugin_and_gets_a_device_prepared_and_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let sockets = Sockets {
            kubelet: folder.path().join("kubelet"),
            cdi: folder.path().join("cdi"),
        };
        std::fs::create_dir_all(sockets.registration().parent().unwrap()).unwrap();
        std::fs::write(sockets.registration(), "left behind by a former agent").unwrap();
        let known = claim("c", "uid-1", &[(DRIVER, "rig", "gpu-a", "one")]);
        let ledger = Arc::new(ledger(State::Lendable));
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(
            api_server(&known),
            "rig".into(),
            sockets.clone(),
            Arc::clone(&ledger),
            stop.clone(),
        ));

        let socket = sockets.registration();
        let origin = registration_origin(&socket);
        let mut registration = RegistrationClient::new(dial(socket, origin).await);
        let info = registration.get_info(InfoRequest {}).await.unwrap().into_inner();
        assert_eq!((info.r#type.as_str(), info.name.as_str()), ("DRAPlugin", DRIVER));
        assert_eq!(info.supported_versions, ["v1.DRAPlugin"]);
        assert!(!ledger.registered());
        let status = RegistrationStatus {
            plugin_registered: true,
            error: String::new(),
        };
        registration.notify_registration_status(status).await.unwrap();
        assert!(ledger.registered());

        let mut plugin =
            DraPluginClient::new(dial(info.endpoint.into(), Uri::from_static("http://localhost")).await);
        let asked = |name: &str, uid: &str| Claim {
            namespace: "default".into(),
            name: name.into(),
            uid: uid.into(),
        };
        let claims = vec![asked("c", "uid-1"), asked("gone", "uid-2")];
        for _ in 0..2 {
            let request = NodePrepareResourcesRequest {
                claims: claims.clone(),
            };
            let answers = plugin
                .node_prepare_resources(request)
                .await
                .unwrap()
                .into_inner()
                .claims;
            let [device] = &answers["uid-1"].devices[..] else {
                panic!("{answers:?}");
            };
            assert_eq!(
                (device.pool_name.as_str(), device.device_name.as_str()),
                ("rig", "gpu-a")
            );
            assert_eq!(device.cdi_device_ids, ["afterglow.dev/gpu=uid-1-gpu-a"]);
            assert!(
                answers["uid-2"].error.contains("no ResourceClaim default/gone"),
                "{answers:?}"
            );
        }
        assert_eq!(std::fs::read_dir(&sockets.cdi).unwrap().count(), 1);

        for _ in 0..2 {
            let request = NodeUnprepareResourcesRequest {
                claims: claims.clone(),
            };
            let answers = plugin
                .node_unprepare_resources(request)
                .await
                .unwrap()
                .into_inner()
                .claims;
            assert_eq!(answers.len(), 2, "every claim is answered");
            assert!(
                answers.values().all(|answer| answer.error.is_empty()),
                "{answers:?}"
            );
        }
        assert_eq!(std::fs::read_dir(&sockets.cdi).unwrap().count(), 0);

        drop((registration, plugin));
        stop.cancel();
        serving.await.unwrap().unwrap();
        assert!(
            !sockets.registration().exists(),
            "the kubelet is told by the socket going away"
        );
        assert!(!ledger.registered());
    }

    #[test]
    fn only_a_device_that_serves_no_models_and_nobody_holds_is_handed_over() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = claim("c", "uid-1", &[(DRIVER, "rig", "gpu-a", "one")]);
        let ask =
            |claim: &ResourceClaim, uid, state| hand_over(claim, uid, "rig", &ledger(state), folder.path());
        for state in [State::Serving, State::Draining] {
            let error = ask(&wanted, "uid-1", state).unwrap_err();
            assert!(
                error.contains("serves models") && error.contains("spec.lend"),
                "{error}"
            );
        }
        for state in [State::Lendable, State::Lent, State::Reclaiming] {
            let devices = ask(&wanted, "uid-1", state).unwrap();
            assert_eq!(
                (devices[0].0.as_str(), devices[0].1.name.as_str()),
                ("one", "gpu-a")
            );
        }
        let devices = ask(&wanted, "uid-1", State::Lent).unwrap();
        cdi::write(folder.path(), "uid-1", &devices).unwrap();
        assert!(
            ask(&wanted, "uid-1", State::Lent).is_ok(),
            "asked twice, answered twice"
        );
        let second = claim("d", "uid-2", &[(DRIVER, "rig", "gpu-a", "one")]);
        assert!(ask(&second, "uid-2", State::Lent).unwrap_err().contains("uid-1"));
    }

    #[test]
    fn a_device_on_which_an_engine_still_ends_is_not_handed_over_yet() {
        let folder = tempfile::tempdir().unwrap();
        let claim = claim("c", "uid-1", &[(DRIVER, "rig", "gpu-a", "one")]);
        let ledger = ledger(State::Lendable);
        let engines = tokio::sync::watch::Sender::new(BTreeMap::from([("gpu-a".to_owned(), 1)]));
        ledger.watch_engines(engines.subscribe());
        let ask = || hand_over(&claim, "uid-1", "rig", &ledger, folder.path());
        let refused = ask().unwrap_err();
        assert!(
            refused.contains("an engine still ends on device gpu-a"),
            "{refused}"
        );
        engines.send_modify(|engines| {
            engines.insert("gpu-a".to_owned(), 0);
        });
        assert_eq!(ask().unwrap().len(), 1);
    }

    #[test]
    fn a_claim_that_is_not_what_the_kubelet_thinks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ask =
            |claim: &ResourceClaim| hand_over(claim, "uid-1", "rig", &ledger(State::Lendable), folder.path());
        let reborn = claim("c", "uid-9", &[(DRIVER, "rig", "gpu-a", "one")]);
        assert!(ask(&reborn).unwrap_err().contains("another one"));
        let elsewhere = claim("c", "uid-1", &[(DRIVER, "rig-2", "gpu-a", "one")]);
        assert!(ask(&elsewhere).unwrap_err().contains("no device"));
        let unknown = claim("c", "uid-1", &[(DRIVER, "rig", "gpu-z", "one")]);
        assert!(ask(&unknown).unwrap_err().contains("gpu-z"));
    }
}
