//! One replica on its way from a wish to a model that answers, and back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::gpu_node::Device;
use afterglow_crds::model_replica::{Endpoint, ModelReplica, ModelReplicaStatus, Profile};
use afterglow_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use afterglow_proto::inference::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::{Engines, Standing, Up, Using};
use super::phase::{Event, Phase, State, engine_failed};
use super::status::{View, status, trouble};
use super::{Key, Options, Reported, Statuses, package, probe};
use crate::fetch::{Failure, Fetcher, Retry, Tree};

/// How often a status tells how far a download is.
const PROGRESS: Duration = Duration::from_secs(2);
/// The probe has shown that it loads; the engine opens one session.
const LOAD: Duration = Duration::from_mins(3);
const UNLOAD: Duration = Duration::from_mins(1);
/// Schedulers hear of a deletion within this.
const HEARD: Duration = Duration::from_secs(2);
/// Requests that still come or run after so long are not waited for.
const IDLE: Duration = Duration::from_secs(30);

/// What all replicas of a node share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) fetcher: Fetcher,
    pub(super) engines: Engines,
    pub(super) devices: watch::Receiver<Vec<Device>>,
    pub(super) statuses: watch::Sender<Statuses>,
}

/// One replica.
pub(super) struct Resident {
    shared: Arc<Shared>,
    key: Key,
    replica: ModelReplica,
    /// What the engine calls it.
    name: String,
    deleted: CancellationToken,
    devices: watch::Receiver<Vec<Device>>,
    last: ModelReplicaStatus,
    tree: Option<Tree>,
    settings: String,
    profile: Option<Profile>,
    using: Option<Using>,
    up: Option<Arc<Up>>,
}

/// What an engine calls a replica's model, `NAMESPACE.NAME`: unique on every engine.
pub fn engine_name(key: &Key) -> String {
    format!("{}.{}", key.0, key.1)
}

impl Resident {
    pub(super) fn new(
        shared: Arc<Shared>,
        key: Key,
        replica: ModelReplica,
        deleted: CancellationToken,
    ) -> Self {
        Self {
            name: engine_name(&key),
            devices: shared.devices.clone(),
            // What an agent before us measured stands until we have.
            profile: replica.status.as_ref().and_then(|status| status.profile.clone()),
            last: replica.status.clone().unwrap_or_default(),
            shared,
            key,
            replica,
            deleted,
            tree: None,
            settings: String::new(),
            using: None,
            up: None,
        }
    }

    /// Lives until the engine has let go of it.
    pub(super) async fn run(mut self) {
        let mut state = State::default();
        loop {
            self.tell(&state);
            let deleted = self.deleted.clone();
            let event = match state.phase {
                Phase::Released => return,
                Phase::Draining => self.drain().await,
                _ => tokio::select! {
                    () = deleted.cancelled() => Event::Deleted,
                    event = self.work(&mut state) => event,
                },
            };
            if let Event::Failed(failure) = &event {
                tracing::warn!(replica = self.name, reason = failure.reason, "{failure}");
            }
            state = state.step(event);
        }
    }

    /// The phase's work, after the pause that its last failure asks for.
    async fn work(&mut self, state: &mut State) -> Event {
        let begun = state.phase == Phase::Ready;
        if !begun {
            match state.pause() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
            self.device(state).await;
        }
        match state.phase {
            Phase::Fetching => match self.fetch(state).await {
                Ok(()) => Event::Done,
                Err(failure) => Event::Failed(failure),
            },
            Phase::Probing => self.probe().await,
            Phase::Loading => self.load(state).await,
            _ => self.serve(state).await,
        }
    }

    fn find_device(&self) -> Option<Device> {
        let devices = self.devices.borrow();
        devices
            .iter()
            .find(|device| device.name == self.replica.spec.device)
            .cloned()
    }

    /// Whether the devices were looked for: the list is empty until then, and a device that goes stays on it as not offered.
    fn looked(&self) -> bool {
        !self.devices.borrow().is_empty()
    }

    /// Waits until the device may be used, and says what is wrong until then.
    async fn device(&mut self, state: &State) {
        loop {
            self.devices.mark_unchanged();
            let device = self.find_device();
            if trouble(&self.replica.spec.device, device.as_ref(), self.looked()).is_none() {
                self.tell(state);
                return;
            }
            self.tell(state);
            if self.devices.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    #[tracing::instrument(level = "debug", skip_all, fields(otel.kind = "consumer", replica = self.name))]
    async fn fetch(&mut self, state: &State) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let source = self.replica.spec.model.source.clone();
        let mut fetching = std::pin::pin!(shared.fetcher.fetch(&source));
        let tree = loop {
            tokio::select! {
                tree = &mut fetching => break tree?,
                () = tokio::time::sleep(PROGRESS) => self.tell(state),
            }
        };
        self.tree = Some(tree);
        Ok(())
    }

    /// The model's folder; `None` where somebody has removed it.
    fn tree(&self) -> Option<PathBuf> {
        let tree = self.tree.as_ref()?.path();
        tree.join("model.onnx").is_file().then(|| tree.to_owned())
    }

    /// As [`Self::try_on_device`], unless the files were damaged: then nothing is the model's fault.
    #[tracing::instrument(level = "debug", skip_all, fields(otel.kind = "consumer", replica = self.name))]
    async fn probe(&mut self) -> Event {
        let Some(tree) = self.tree() else {
            return Event::TreeLost;
        };
        match self.try_on_device(&tree).await {
            Ok(()) => Event::Done,
            Err(failure) => {
                let last = failure.retry == Retry::Never;
                let source = &self.replica.spec.model.source;
                if last && !self.shared.fetcher.whole(source).await {
                    return Event::TreeLost;
                }
                Event::Failed(failure)
            }
        }
    }

    async fn try_on_device(&mut self, tree: &Path) -> Result<(), Failure> {
        let device = self.find_device();
        let device =
            device.ok_or_else(|| Failure::new("DeviceUnknown", Retry::Soon, "the device is gone"))?;
        self.settings = package::settings(tree, &self.replica.spec.model, device.type_)?;
        let shared = Arc::clone(&self.shared);
        // The engine starts meanwhile.
        let using = self
            .using
            .get_or_insert_with(|| shared.engines.of(&self.replica.spec.device));
        let repository = shared.options.cache.join("run/probe").join(&device.name);
        let folder = repository.join(&self.name);
        package::place(
            &repository,
            &self.name,
            self.replica.spec.revision,
            &self.settings,
            tree,
        )
        .map_err(|e| Failure::cache(&format!("making the model's folder `{}`", folder.display()), &e))?;
        let probed = {
            let _alone = using.probing.lock().await;
            let occupant = shared.engines.occupants().enter(&device.name);
            probe::probe(&shared.options, &folder, &device, occupant).await
        };
        if let Err(error) = package::remove(&folder) {
            tracing::debug!(%error, "a probe's folder stays");
        }
        self.profile = Some(probed?);
        Ok(())
    }

    #[tracing::instrument(level = "debug", skip_all, fields(otel.kind = "consumer", replica = self.name))]
    async fn load(&mut self, state: &mut State) -> Event {
        let shared = Arc::clone(&self.shared);
        let device = self.replica.spec.device.clone();
        let using = self.using.get_or_insert_with(|| shared.engines.of(&device));
        let mut standing = using.standing();
        let up = loop {
            let now = standing.borrow_and_update().clone();
            match now {
                Standing::Up(up) => break up,
                Standing::Coming(None) => {}
                Standing::Coming(Some(why)) => {
                    // Said, not counted: the engine has pauses of its own.
                    state.failure = Some(engine_failed(&why));
                    self.tell(state);
                }
            }
            if standing.changed().await.is_err() {
                return Event::EngineDied("the engine was stopped".to_owned());
            }
        };
        let Some(tree) = self.tree() else {
            return Event::TreeLost;
        };
        // A second engine reads files that have lain there for as long as the first one served.
        let source = &self.replica.spec.model.source;
        if self.up.is_some() && !shared.fetcher.whole(source).await {
            return Event::TreeLost;
        }
        let placed = package::place(
            &up.repository,
            &self.name,
            self.replica.spec.revision,
            &self.settings,
            &tree,
        );
        if let Err(error) = placed {
            return Event::Failed(Failure::cache("making the model's folder for its engine", &error));
        }
        self.up = Some(Arc::clone(&up));
        // One of the same name may have left this engine before us.
        shared.engines.loads().admit(&self.name);
        let request = RepositoryModelLoadRequest {
            model_name: self.name.clone(),
            ..RepositoryModelLoadRequest::default()
        };
        let mut client = GrpcInferenceServiceClient::new(up.channel.clone());
        let loaded = tokio::select! {
            loaded = tokio::time::timeout(LOAD, client.repository_model_load(request)) => loaded,
            why = gone(&mut standing, up.generation) => return Event::EngineDied(why),
        };
        match loaded {
            Ok(Ok(_)) => Event::Done,
            Ok(Err(refused)) => {
                // An engine that dies breaks the call before its end is known.
                let died = tokio::time::timeout(Duration::from_secs(2), gone(&mut standing, up.generation));
                if refused.code() != tonic::Code::Unavailable
                    || refused.message().contains("cannot be served")
                {
                    Event::Failed(refusal(refused.message()))
                } else if let Ok(why) = died.await {
                    Event::EngineDied(why)
                } else {
                    Event::Failed(refusal(refused.message()))
                }
            }
            Err(_) => Event::Failed(engine_failed(&format!(
                "the engine of {device} did not load it within {LOAD:?}"
            ))),
        }
    }

    /// Until the engine is gone.
    async fn serve(&mut self, state: &State) -> Event {
        let (Some(using), Some(up)) = (&self.using, &self.up) else {
            return Event::EngineDied("the engine was never there".to_owned());
        };
        let (mut standing, generation) = (using.standing(), up.generation);
        loop {
            self.devices.mark_unchanged();
            self.tell(state);
            tokio::select! {
                why = gone(&mut standing, generation) => return Event::EngineDied(why),
                changed = self.devices.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    /// Schedulers hear of it, requests finish, the engine frees it or ends.
    async fn drain(&mut self) -> Event {
        let (Some(using), Some(up)) = (&self.using, self.up.clone()) else {
            return Event::Done;
        };
        let mut standing = using.standing();
        // Some schedulers hear of the deletion later than we: the API server tells each of us for itself.
        self.shared.engines.loads().withdraw(&self.name);
        let work = async {
            let mut loads = self.shared.engines.loads().subscribe();
            let idle = async {
                tokio::time::sleep(HEARD).await;
                let device = &self.replica.spec.device;
                let _ = loads
                    .wait_for(|loads| {
                        let models = loads.get(device).map(Vec::as_slice).unwrap_or_default();
                        let mine = models.iter().find(|model| model.name == self.name);
                        mine.is_none_or(|model| model.waiting == 0 && model.running == 0)
                    })
                    .await;
            };
            if tokio::time::timeout(IDLE, idle).await.is_err() {
                tracing::warn!(
                    replica = self.name,
                    "still busy {IDLE:?} after its deletion; unloaded all the same"
                );
            }
            let request = RepositoryModelUnloadRequest {
                model_name: self.name.clone(),
                ..RepositoryModelUnloadRequest::default()
            };
            let mut client = GrpcInferenceServiceClient::new(up.channel.clone());
            let why = match tokio::time::timeout(UNLOAD, client.repository_model_unload(request)).await {
                Ok(Err(status)) if status.code() != tonic::Code::NotFound => status.message().to_owned(),
                Ok(_) => return Event::Done,
                Err(_) => format!("no answer within {UNLOAD:?}"),
            };
            // Its memory is promised to others as soon as this replica is released: only the process's end frees it now.
            tracing::error!(
                replica = self.name,
                "not unloaded ({why}): its engine is started anew"
            );
            using.renew(up.generation);
            std::future::pending().await
        };
        let event = tokio::select! {
            event = work => event,
            // With its process everything of it is free.
            why = gone(&mut standing, up.generation) => Event::EngineDied(why),
        };
        if let Err(error) = package::remove(&up.repository.join(&self.name)) {
            tracing::debug!(%error, "a model's folder stays");
        }
        if !matches!(event, Event::Failed(_)) {
            self.shared.engines.loads().admit(&self.name);
        }
        event
    }

    /// Puts where the replica stands into the table of statuses, if that is news.
    fn tell(&mut self, state: &State) {
        let device = self.find_device();
        let endpoint = self.up.as_ref().map(|up| Endpoint {
            grpc: up.grpc.to_string(),
            http: up.http.to_string(),
            model: self.name.clone(),
        });
        let view = View {
            replica: &self.replica,
            state,
            device: device.as_ref(),
            looked: self.looked(),
            endpoint: endpoint.as_ref(),
            progress: self.shared.fetcher.progress(&self.replica.spec.model.source),
            profile: self.profile.as_ref(),
        };
        self.last = status(&view, &self.last, Time(now()));
        let reported = Reported {
            uid: self.replica.metadata.uid.clone(),
            status: self.last.clone(),
            engine_released: state.phase == Phase::Released,
        };
        self.shared.statuses.send_if_modified(|statuses| {
            let news = statuses.get(&self.key) != Some(&reported);
            if news {
                statuses.insert(self.key.clone(), reported);
            }
            news
        });
    }
}

/// Waits until the engine process of `generation` is gone; answers why.
async fn gone(standing: &mut watch::Receiver<Standing>, generation: u64) -> String {
    let other = standing
        .wait_for(|standing| !matches!(standing, Standing::Up(up) if up.generation == generation))
        .await;
    match other.as_deref() {
        Ok(Standing::Coming(Some(why))) => why.clone(),
        Ok(_) => "the engine was started anew".to_owned(),
        Err(_) => "the engine was stopped".to_owned(),
    }
}

/// To the second: what Kubernetes keeps.
pub(super) fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What an engine says when it does not load a model that passed its probe.
fn refusal(message: &str) -> Failure {
    let memory = ["allocate memory", "CL_MEM_OBJECT_ALLOCATION_FAILURE", "CL_OUT_OF"];
    if memory.iter().any(|sign| message.contains(sign)) {
        Failure::new("OutOfMemory", Retry::Slowly, message)
    } else {
        engine_failed(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::transport::Endpoint as Address;

    #[tokio::test]
    async fn a_model_that_its_engine_does_not_free_is_released_only_when_the_engine_has_ended() {
        let cache = tempfile::tempdir().unwrap();
        let options = Options::new("/nowhere".into(), cache.path().into(), [127, 0, 0, 1].into());
        let devices = watch::channel(Vec::new()).1;
        let engines = Engines::new(options.clone(), devices.clone(), CancellationToken::new());
        let nobody: std::net::SocketAddr = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap();
        let up = Arc::new(Up {
            generation: 3,
            grpc: nobody,
            http: nobody,
            metrics: nobody,
            repository: cache.path().to_owned(),
            // Nobody answers: the model cannot be unloaded.
            channel: Address::from_shared(format!("http://{nobody}"))
                .unwrap()
                .connect_lazy(),
        });
        let (using, standing, mut asked) = engines.pretend("gpu-0", &up);
        let replica = serde_json::from_value(serde_json::json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": "m", "namespace": "team"},
            "spec": {
                "cluster": "c", "nodeName": "n", "device": "gpu-0", "revision": 1, "memory": "1Gi",
                "model": {"source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap();
        let shared = Arc::new(Shared {
            fetcher: Fetcher::open(crate::fetch::Options::new(cache.path().into(), 1 << 20)).unwrap(),
            options,
            engines,
            devices,
            statuses: watch::Sender::default(),
        });
        let key = ("team".to_owned(), "m".to_owned());
        let mut resident = Resident::new(shared, key, replica, CancellationToken::new());
        (resident.using, resident.up) = (Some(using), Some(up));
        let mut draining = std::pin::pin!(resident.drain());
        tokio::select! {
            event = &mut draining => panic!("its memory is still taken: {event:?}"),
            asked = asked.wait_for(|generation| *generation == 3) => drop(asked.unwrap()),
        }
        standing.send_replace(Standing::Coming(Some("it did not free a model".to_owned())));
        assert_eq!(
            draining.await,
            Event::EngineDied("it did not free a model".to_owned())
        );
    }
}
