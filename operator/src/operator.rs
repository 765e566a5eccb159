//! The whole of it: become the leader, fill the stores, run both controllers, stop when the lead is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::{FutureExt as _, StreamExt as _};
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::Options;
use crate::call::{self, call};
use crate::cluster;
use crate::cluster::build::Kind;
use crate::cluster::contest::Contests;
use crate::deployment::{self, Progress};
use crate::expectations::Expectations;
use crate::first_cluster;
use crate::leader::Candidate;
use crate::liveness::Liveness;
use crate::metrics::Metrics;
use crate::pace::Pace;
use crate::queue::{Key, Queue};
use crate::serve::{self, Readiness};
use crate::sight;
use crate::sweep;
use crate::watch::{Queues, World};

/// How many objects of a kind are worked on at once.
const CONCURRENCY: u16 = 4;
/// How long the first lists may take. A leader that cannot fill its stores is none: another may fare better.
const FILL: Duration = Duration::from_mins(1);
/// A term that lasted this long was a good one, whatever ended it.
const GOOD_TERM: Duration = Duration::from_mins(5);

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `/metrics` and the health checks could not be served.
    #[error("cannot serve metrics and health on {address}")]
    Serve {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What every reconcile needs.
pub(crate) struct Context {
    /// For writes.
    pub(crate) client: Client,
    /// What the operator was told.
    pub(crate) options: Options,
    /// What it knows.
    pub(crate) world: World,
    /// Whose agent is alive.
    pub(crate) liveness: Liveness,
    /// Replicas that the watch has not shown yet.
    pub(crate) expectations: Expectations,
    /// Since when deployments wait for something to get further.
    pub(crate) progress: Progress,
    /// What of the clusters' objects was written, and who had changed it.
    pub(crate) contests: Contests,
    /// Held while a deployment is planned: no two plans see the same free memory.
    pub(crate) planning: Mutex<()>,
    /// Counters.
    pub(crate) metrics: Metrics,
    /// Who publishes Kubernetes Events.
    reporter: Reporter,
    /// Failures in a row.
    pace: Pace,
    /// Clusters of other operators that were told of in this term.
    pub(crate) left_alone: Mutex<BTreeSet<String>>,
}

impl Context {
    /// What a term begins with: the world, and nothing done yet.
    pub(crate) fn new(
        client: Client,
        options: Options,
        world: World,
        liveness: Liveness,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter {
            controller: "afterglow-operator".to_owned(),
            instance: Some(options.identity.clone()),
        };
        Self {
            client,
            options,
            world,
            liveness,
            expectations: Expectations::default(),
            progress: Progress::default(),
            contests: Contests::default(),
            planning: Mutex::new(()),
            metrics,
            reporter,
            pace: Pace::default(),
            left_alone: Mutex::default(),
        }
    }

    /// Publishes a Kubernetes Event, and says whether it did. It is a courtesy: what cannot be told is logged and nothing else.
    pub(crate) async fn tell<K>(
        &self,
        about: &K,
        kind: EventType,
        reason: &str,
        action: &str,
        note: String,
    ) -> bool
    where
        K: Resource<DynamicType = ()>,
    {
        // The API refuses longer ones.
        let note: String = note.chars().take(1000).collect();
        tracing::info!(
            kind = %K::kind(&()),
            namespace = about.namespace(),
            name = about.name_any(),
            reason,
            note
        );
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note),
            action: action.to_owned(),
            secondary: None,
        };
        let reference = about.object_ref(&());
        // A recorder of its own: a shared one counts events with the same reason as one and keeps the first one's note, and
        // what happened where stands in the note. Events come with changes only, so there are few to count.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        let publish = recorder.publish(&event, &reference);
        let object = format!("Event about {} {}", K::kind(&()), about.name_any());
        let published = call(&self.metrics, "create", object, publish).await;
        if let Err(error) = &published {
            tracing::warn!(%error, "an event was not published");
        }
        published.is_ok()
    }
}

/// Runs the operator until `shutdown`. Several may run: one works, the others wait.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let metrics = Metrics::new();
    let ready = Readiness::default();
    // Boxed: the whole operator is in it.
    let mut lead = Box::pin(lead(client, &options, &metrics, &ready, &shutdown));
    let Some(address) = options.metrics else {
        lead.await;
        return Ok(());
    };
    let serve = serve::serve(address, metrics.clone(), ready.clone(), shutdown.clone());
    tokio::select! {
        () = &mut lead => Ok(()),
        result = serve => match result {
            // It ends with the shutdown, a moment before the lead is handed on.
            Ok(()) => {
                lead.await;
                Ok(())
            }
            Err(source) => Err(Error::Serve { address, source }),
        },
    }
}

/// Leads again and again, until `shutdown`.
async fn lead(
    client: Client,
    options: &Options,
    metrics: &Metrics,
    ready: &Readiness,
    shutdown: &CancellationToken,
) {
    let candidate = Candidate::new(
        client.clone(),
        &options.namespace,
        &options.identity,
        options.deployment.as_deref(),
        metrics.clone(),
        ready.clone(),
    );
    let pace = Pace::default();
    let term = Key::cluster("term");
    while candidate.wait(shutdown).await {
        let started = Instant::now();
        tracing::info!(identity = options.identity, "this operator leads");
        metrics.leads(true);
        // All that the term starts ends with it: the next one begins with what the API server says then.
        let mut tasks = JoinSet::new();
        let has_failed = tokio::select! {
            () = candidate.hold() => false,
            () = work(&client, options, metrics, ready, &mut tasks) => true,
            () = shutdown.cancelled() => false,
        };
        tasks.shutdown().await;
        metrics.sees(None);
        metrics.leads(false);
        if shutdown.is_cancelled() {
            candidate.release().await;
            return;
        }
        if !has_failed || started.elapsed() >= GOOD_TERM {
            pace.worked(&term);
        }
        if has_failed {
            // What ended this term may end the next one as well: not at once, and another operator may fare better.
            ready.set(false);
            candidate.release().await;
            let wait = pace.failed(term.clone(), None);
            tracing::warn!(
                again_in_seconds = wait.as_secs(),
                "this operator stops leading for a while"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

/// One term as the leader. Returns only when a task of it has ended, which none should, or the stores could not be filled.
async fn work(
    client: &Client,
    options: &Options,
    metrics: &Metrics,
    ready: &Readiness,
    tasks: &mut JoinSet<()>,
) {
    let queues = Queues::default();
    let filling = async {
        let kinds = kinds(client, metrics).await;
        let world = World::start(client, &options.namespace, &kinds, &queues, metrics, tasks);
        world.ready().await;
        world
    };
    let Ok(world) = tokio::time::timeout(FILL, filling).await else {
        tracing::error!(
            "the API server has not listed everything within {} s; the log says what it refused",
            FILL.as_secs()
        );
        return;
    };
    ready.set(true);
    let leases = Api::namespaced(client.clone(), &options.namespace);
    let liveness = Liveness::start(world.clone(), queues.clone(), leases, metrics.clone(), tasks);
    let seen = (world.clone(), liveness.clone());
    metrics.sees(Some(Arc::new(move || sight::look(&seen.0, &seen.1))));
    let context = Arc::new(Context::new(
        client.clone(),
        options.clone(),
        world.clone(),
        liveness,
        metrics.clone(),
    ));
    world.ask_all(&queues);
    tasks.spawn(control(
        "InferenceCluster",
        context.clone(),
        world.clusters.clone(),
        queues.clusters.clone(),
        cluster::reconcile,
        |error: &cluster::Error| (error.step(), error.retry_after()),
    ));
    tasks.spawn(control(
        "ModelDeployment",
        context.clone(),
        world.deployments.clone(),
        queues.deployments.clone(),
        deployment::reconcile,
        |error: &deployment::Error| (error.step(), error.retry_after()),
    ));
    if let Some(file) = &options.cluster_file {
        tasks.spawn(first_cluster::run(context.clone(), file.clone()));
    }
    tasks.spawn(sweep::run(context, queues.sweep.clone()));
    if let Some(Err(error)) = tasks.join_next().await
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the operator panicked; all of them start anew");
    }
}

/// The kinds that this API server has: `resource.k8s.io/v1` came with 1.34.
async fn kinds(client: &Client, metrics: &Metrics) -> Vec<Kind> {
    loop {
        let groups = client.list_api_group_resources("resource.k8s.io/v1");
        match call::call_opt(metrics, "get", "API group resource.k8s.io/v1", groups).await {
            Ok(found) => {
                let has_classes = found.is_some();
                return Kind::ALL
                    .into_iter()
                    .filter(|&kind| kind != Kind::DeviceClass || has_classes)
                    .collect();
            }
            Err(error) => {
                tracing::warn!(%error, "the API server's kinds could not be read; it is tried again");
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        }
    }
}

/// Runs a reconciler over a queue.
async fn control<K, F, E>(
    kind: &'static str,
    context: Arc<Context>,
    store: Store<K>,
    queue: Queue,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Send + 'static,
    judge: impl Fn(&E) -> (&'static str, Option<Duration>) + Clone + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Action, E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let judge_failure = judge.clone();
    let reconcile = move |object: Arc<K>, context: Arc<Context>| {
        let judge = judge.clone();
        let key = Key::of(&*object);
        let turn = reconcile(object, context.clone());
        async move {
            let started = Instant::now();
            let result = turn.await;
            let outcome = match &result {
                Ok(_) => "ok",
                Err(error) => judge(error).0,
            };
            context.metrics.reconciled(kind, outcome, started.elapsed());
            if result.is_ok() {
                context.pace.worked(&key);
            }
            result
        }
        .boxed()
    };
    let failed = move |object: Arc<K>, error: &E, context: Arc<Context>| {
        let wait = context.pace.failed(Key::of(&*object), judge_failure(error).1);
        tracing::warn!(
            kind,
            namespace = object.namespace(),
            name = object.name_any(),
            %error,
            again_in_seconds = wait.as_secs(),
            "reconcile failed"
        );
        Action::requeue(wait)
    };
    controller::applier(
        reconcile,
        failed,
        context,
        store,
        queue.requests::<K>(),
        // Without kube's debounce, which begins anew with every event: the queue gathers them.
        controller::Config::default().concurrency(CONCURRENCY),
    )
    // Each failure is told above; an object that is gone before its turn is none.
    .for_each(|_| std::future::ready(()))
    .await;
}
