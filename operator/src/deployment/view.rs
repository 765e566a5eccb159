//! What counts of a deployment's facts and plan, counted once.

use afterglow_crds::ModelReplica;
use afterglow_crds::condition::{self, PROGRESSING};
use kube::ResourceExt as _;

use super::failure::{self, State};
use super::fleet;
use super::gather::Facts;
use super::plan::{Applied, Plan};
use crate::cluster::AGENTS_STARTING;

/// What counts.
pub(super) struct View<'a> {
    pub(super) facts: &'a Facts,
    pub(super) plan: &'a Plan<Applied>,
    /// All that exist, those just made included.
    pub(super) replicas: Vec<&'a ModelReplica>,
    /// Of any revision, how many serve.
    pub(super) ready: usize,
    /// Of the newest.
    pub(super) ready_newest: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(facts: &'a Facts, plan: &'a Plan<Applied>) -> Self {
        let made = plan
            .create
            .iter()
            .filter(|new| !facts.own.iter().any(|old| old.name_any() == new.name_any()));
        let replicas: Vec<&ModelReplica> = facts.own.iter().chain(made).collect();
        let mut view = Self {
            facts,
            plan,
            replicas,
            ready: 0,
            ready_newest: 0,
        };
        view.ready = view
            .replicas
            .iter()
            .filter(|replica| view.serves(replica))
            .count();
        view.ready_newest = view.newest().filter(|replica| view.serves(replica)).count();
        view
    }

    /// Those of the newest revision.
    pub(super) fn newest(&self) -> impl Iterator<Item = &'a ModelReplica> {
        self.replicas
            .iter()
            .copied()
            .filter(|replica| replica.spec.revision == self.plan.revision.number)
    }

    pub(super) fn serves(&self, replica: &ModelReplica) -> bool {
        replica.metadata.deletion_timestamp.is_none()
            && failure::state(replica) == State::Ready
            && !fleet::is_lost(self.facts, replica)
    }

    /// Whether something is wished that is not there yet, and not refused either.
    pub(super) fn is_behind(&self) -> bool {
        let plan = self.plan;
        let is_wished = plan.refusal.is_none() && !self.facts.deployment.spec.suspend && plan.target > 0;
        is_wished && (self.ready_newest < plan.target as usize || !plan.errors.is_empty())
    }

    /// Whether the cluster's agents are being started.
    pub(super) fn agents_are_starting(&self) -> bool {
        let Some(cluster) = &self.facts.cluster else {
            return false;
        };
        let conditions = cluster
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.conditions);
        match condition::find(conditions, PROGRESSING) {
            Some(progressing) => progressing.status == "True" && progressing.reason == AGENTS_STARTING,
            // Nobody has looked yet: right after it was made.
            None => true,
        }
    }
}
