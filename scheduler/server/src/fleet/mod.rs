//! What there is to pick from: models, their replicas, and where load reports come from.
//!
//! Three kinds are watched. A `ModelDeployment` says that a model exists in its namespace, and in its condition why nobody may be
//! there to answer. A `ModelReplica` says, once it is Ready, where an engine answers for it. A `GpuNode` says how fast its devices
//! are and where its agent streams load.
//!
//! ```text
//! ModelDeployment ──▶ Model ◀── ModelReplica ──▶ device of a GpuNode ──▶ address of its load stream
//! namespace, name            endpoint, revision   measured speed
//! ```
//!
//! [`watch`](mod@watch) keeps the last view when the API server goes away, `kept` even over a restart; [`from_objects`] makes a view,
//! anew from everything each time, and is pure. Readers hold a `watch::Receiver` of it.

mod kept;
mod objects;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use objects::from_objects;
#[cfg(test)]
pub(crate) use objects::tests as objects_for_tests;
pub use watch::watch;

/// Every model that the cluster knows, by namespace and the name that clients use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// Whether this is all: before the first complete view nobody can say that a model is not there.
    pub known: bool,
    /// By namespace, then name.
    pub models: BTreeMap<String, BTreeMap<String, Model>>,
    /// Where nodes stream their load, by node.
    pub load: BTreeMap<String, String>,
}

impl Fleet {
    /// A model by namespace and name.
    pub fn model(&self, namespace: &str, name: &str) -> Option<&Model> {
        self.models.get(namespace)?.get(name)
    }

    /// The models of a namespace.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = (&String, &Model)> {
        self.models.get(namespace).into_iter().flatten()
    }

    /// Every replica that can answer.
    pub fn replicas(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.models
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|model| &model.ready)
    }
}

/// A model that somebody deployed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// Replicas that can answer.
    pub ready: Vec<Arc<Replica>>,
    /// Replicas that cannot, and what is said about the model as a whole while it has none.
    pub unready: Vec<Unready>,
}

impl Model {
    /// Revisions that exist, ready or not; ascending, each once.
    pub fn revisions(&self) -> Vec<i64> {
        let mut revisions: Vec<i64> = self.ready.iter().map(|replica| replica.revision).collect();
        revisions.extend(self.unready.iter().filter_map(|replica| replica.revision));
        revisions.sort_unstable();
        revisions.dedup();
        revisions
    }

    /// Why nobody answers, in a sentence; `revision` narrows it down.
    pub fn because(&self, revision: Option<i64>) -> String {
        let mut reasons: Vec<String> = self
            .unready
            .iter()
            .filter(|unready| {
                revision.is_none() || unready.revision.is_none() || unready.revision == revision
            })
            .map(Unready::sentence)
            .collect();
        reasons.dedup();
        if reasons.is_empty() {
            return "it has no replicas".to_owned();
        }
        reasons.truncate(3);
        reasons.join("; ")
    }
}

/// A replica that can answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Replica {
    /// `NAMESPACE/NAME` of the `ModelReplica`.
    pub id: String,
    /// What its engine calls the model.
    pub engine_model: String,
    /// `IP:PORT` of gRPC.
    pub grpc: String,
    /// `IP:PORT` of REST.
    pub http: String,
    /// The model's version on the wire.
    pub revision: i64,
    /// Node it runs on.
    pub node: String,
    /// Device it runs on.
    pub device: String,
    /// Whether that is a processor.
    pub on_cpu: bool,
    /// Microseconds of one row as the probe measured it; 0 = unknown.
    pub row_microseconds: u64,
    /// GFLOP/s of the device as measured; 0 = unknown.
    pub gflops: u64,
    /// Bytes per second to the device as measured; 0 = unknown.
    pub upload_bytes_per_second: u64,
}

/// A replica that cannot answer, or a deployment that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// `NAMESPACE/NAME`.
    pub id: String,
    /// Of a replica; a deployment has none.
    pub revision: Option<i64>,
    /// The reason of its condition, for programs.
    pub reason: String,
    /// The condition's message, for people.
    pub message: String,
}

impl Unready {
    fn sentence(&self) -> String {
        let Self {
            id, reason, message, ..
        } = self;
        if message.is_empty() {
            format!("{id}: {reason}")
        } else {
            format!("{id}: {reason}: {message}")
        }
    }
}
