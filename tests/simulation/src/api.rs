//! The API server, as much of it as we lean on: a revision per object and in all, plain creates, updates with preconditions,
//! status beside spec, finalizers, and a log of changes that watches read and that is forgotten from time to time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use afterglow_operator::steps::Key;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as Stamp;
use kube::Resource;

use crate::time::{Time, to_second};

/// What our kinds have in common here.
pub trait Object: Resource<DynamicType = ()> + Clone + PartialEq {}

impl<K: Resource<DynamicType = ()> + Clone + PartialEq> Object for K {}

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct Api {
    /// Of the last change.
    pub revision: u64,
    made: u64,
    /// What people want served.
    pub deployments: Kind<ModelDeployment>,
    /// Where it is served.
    pub replicas: Kind<ModelReplica>,
    /// What nodes have.
    pub nodes: Kind<GpuNode>,
    /// Signs of life, and who leads.
    pub leases: Kind<Lease>,
}

/// The objects of a kind and what became of them.
#[derive(Debug)]
pub struct Kind<K> {
    /// As they are.
    pub objects: BTreeMap<Key, Arc<K>>,
    log: VecDeque<Entry<K>>,
    /// Of changes up to this revision nothing is known any more.
    compacted: u64,
    /// Of its last change.
    pub last: u64,
}

#[derive(Debug)]
struct Entry<K> {
    revision: u64,
    at: Time,
    change: Change<K>,
}

/// A change as a watch tells it.
#[derive(Debug, Clone)]
pub enum Change<K> {
    /// It is new, or another.
    Applied(Arc<K>),
    /// It is gone; as it was last.
    Deleted(Arc<K>),
}

/// What a write insists on.
#[derive(Debug, Clone, Default)]
pub struct Only {
    /// This very object.
    pub uid: Option<String>,
    /// In this very version.
    pub version: Option<String>,
}

impl Only {
    /// The object that was seen, in any version.
    pub fn object<K: Object>(seen: &K) -> Self {
        Self {
            uid: seen.meta().uid.clone(),
            version: None,
        }
    }

    /// The object as it was seen.
    pub fn version<K: Object>(seen: &K) -> Self {
        Self {
            version: seen.meta().resource_version.clone(),
            ..Self::object(seen)
        }
    }
}

/// Why a call did nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No answer.
    Silence,
    /// 404.
    NotFound,
    /// 409: somebody else was faster, or the name is taken.
    Conflict,
    /// 429 or 503: not now.
    Busy,
}

/// When something is written, and by which counters.
#[derive(Debug)]
pub struct Moment<'a> {
    revision: &'a mut u64,
    made: &'a mut u64,
    now: Time,
}

impl Api {
    /// Splits the server into a kind and what a write to it needs.
    pub fn replicas(&mut self, now: Time) -> (&mut Kind<ModelReplica>, Moment<'_>) {
        let Self {
            revision,
            made,
            replicas,
            ..
        } = self;
        (replicas, Moment { revision, made, now })
    }

    /// As [`Api::replicas`].
    pub fn deployments(&mut self, now: Time) -> (&mut Kind<ModelDeployment>, Moment<'_>) {
        let Self {
            revision,
            made,
            deployments,
            ..
        } = self;
        (deployments, Moment { revision, made, now })
    }

    /// As [`Api::replicas`].
    pub fn nodes(&mut self, now: Time) -> (&mut Kind<GpuNode>, Moment<'_>) {
        let Self {
            revision,
            made,
            nodes,
            ..
        } = self;
        (nodes, Moment { revision, made, now })
    }

    /// As [`Api::replicas`].
    pub fn leases(&mut self, now: Time) -> (&mut Kind<Lease>, Moment<'_>) {
        let Self {
            revision,
            made,
            leases,
            ..
        } = self;
        (leases, Moment { revision, made, now })
    }

    /// Forgets all changes: who has not read them must read the list anew.
    pub fn compact(&mut self) {
        let revision = self.revision;
        self.deployments.compact(revision);
        self.replicas.compact(revision);
        self.nodes.compact(revision);
        self.leases.compact(revision);
    }
}

impl<K> Default for Kind<K> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            log: VecDeque::new(),
            compacted: 0,
            last: 0,
        }
    }
}

impl<K: Object> Kind<K> {
    /// A plain create: a name that is taken is a conflict.
    pub fn create(&mut self, mut moment: Moment<'_>, mut object: K) -> Result<Arc<K>, Refused> {
        let key = Key::of(&object);
        if self.objects.contains_key(&key) {
            return Err(Refused::Conflict);
        }
        *moment.made += 1;
        let meta = object.meta_mut();
        meta.uid = Some(format!("uid-{}", moment.made));
        meta.generation = Some(1);
        meta.creation_timestamp = Some(Stamp(to_second(moment.now, 0)));
        meta.deletion_timestamp = None;
        Ok(self.store(&mut moment, key, object))
    }

    /// Changes an object; a change that changes nothing is none. `of_spec` makes a new generation.
    pub fn update(
        &mut self,
        mut moment: Moment<'_>,
        key: &Key,
        only: &Only,
        of_spec: bool,
        change: impl FnOnce(&mut K),
    ) -> Result<Arc<K>, Refused> {
        let old = self.find(key, only)?;
        let mut new = K::clone(&old);
        change(&mut new);
        if new == *old {
            return Ok(old);
        }
        if of_spec {
            new.meta_mut().generation = old.meta().generation.map(|generation| generation + 1);
        }
        let ends = new.meta().deletion_timestamp.is_some() && finalizers(&new) == 0;
        if ends {
            self.remove(&mut moment, key, new);
            return Ok(old);
        }
        Ok(self.store(&mut moment, key.clone(), new))
    }

    /// Deletes an object, or marks it while finalizers hold it.
    pub fn delete(&mut self, mut moment: Moment<'_>, key: &Key, only: &Only) -> Result<(), Refused> {
        let old = self.find(key, only)?;
        let mut new = K::clone(&old);
        if finalizers(&new) == 0 {
            self.remove(&mut moment, key, new);
        } else if new.meta().deletion_timestamp.is_none() {
            let meta = new.meta_mut();
            meta.deletion_timestamp = Some(Stamp(to_second(moment.now, 0)));
            meta.generation = meta.generation.map(|generation| generation + 1);
            self.store(&mut moment, key.clone(), new);
        }
        Ok(())
    }

    /// What a watch that has read up to `since` is told of what happened until `until`, and up to where it has read then; `None`:
    /// too much was forgotten (410).
    pub fn changes(&self, since: u64, until: Time) -> Option<(Vec<Change<K>>, u64)> {
        if since < self.compacted {
            return None;
        }
        let first = self.log.partition_point(|entry| entry.revision <= since);
        let news: Vec<&Entry<K>> = self
            .log
            .range(first..)
            .take_while(|entry| entry.at <= until)
            .collect();
        let read = news.last().map_or(since, |entry| entry.revision);
        Some((news.into_iter().map(|entry| entry.change.clone()).collect(), read))
    }

    fn find(&self, key: &Key, only: &Only) -> Result<Arc<K>, Refused> {
        let old = self.objects.get(key).ok_or(Refused::NotFound)?;
        let meta = old.meta();
        let same_object = only.uid.is_none() || only.uid == meta.uid;
        let same_version = only.version.is_none() || only.version == meta.resource_version;
        if same_object && same_version {
            Ok(old.clone())
        } else {
            Err(Refused::Conflict)
        }
    }

    fn store(&mut self, moment: &mut Moment<'_>, key: Key, mut object: K) -> Arc<K> {
        *moment.revision += 1;
        object.meta_mut().resource_version = Some(moment.revision.to_string());
        let object = Arc::new(object);
        self.objects.insert(key, object.clone());
        self.note(moment, Change::Applied(object.clone()));
        object
    }

    fn remove(&mut self, moment: &mut Moment<'_>, key: &Key, mut object: K) {
        *moment.revision += 1;
        object.meta_mut().resource_version = Some(moment.revision.to_string());
        self.objects.remove(key);
        self.note(moment, Change::Deleted(Arc::new(object)));
    }

    fn note(&mut self, moment: &Moment<'_>, change: Change<K>) {
        self.last = *moment.revision;
        self.log.push_back(Entry {
            revision: *moment.revision,
            at: moment.now,
            change,
        });
    }

    fn compact(&mut self, revision: u64) {
        self.log.clear();
        self.compacted = revision;
    }
}

fn finalizers<K: Object>(object: &K) -> usize {
    object.meta().finalizers.as_ref().map_or(0, Vec::len)
}
