//! Between our processes and the API server: calls, and watches that tell of changes a moment later, or much later.

use std::time::Duration;

use super::{Event, Phase, Watched, Who, World};
use crate::api::{Api, Kind, Object, Refused};
use crate::bug::Bug;
use crate::cache::{Cache, News};
use crate::note;
use crate::time::Time;
use crate::trace::Sight;

impl World {
    pub(crate) fn reaches_the_api(&self, who: Who) -> bool {
        !self.active.api_away
            && match who {
                Who::Operator(index) => !self.operators[index].cut,
                Who::Agent(node) => self.machines[node].powered && !self.machines[node].cut,
                Who::Scheduler(index) => !self.schedulers[index].cut,
            }
    }

    /// A call of one of our processes to the API server, with all that can happen to it.
    pub fn call<T>(
        &mut self,
        who: Who,
        what: impl FnOnce(&mut Self) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        if !self.reaches_the_api(who) {
            return Err(Refused::Silence);
        }
        if self.active.throttled && self.random.chance(33) {
            return Err(Refused::Busy);
        }
        let (before, leases) = (self.api.revision, self.api.leases.last);
        let result = self.people(what);
        let is_lease = self.api.leases.last != leases;
        if self.api.revision != before && !is_lease {
            self.writes += 1;
            self.last_write = self.now;
            match self.phase {
                Phase::Storm => {}
                Phase::Calm => self.late_writes += 1,
                Phase::Rest => {
                    self.violate(format!("{who:?} writes although everything is at rest"));
                }
            }
        }
        if self.active.lost_answers && result.is_ok() && self.random.chance(25) {
            self.trace.saw(Sight::AnswerLost);
            return Err(Refused::Silence);
        }
        result
    }

    /// A call that always gets through: people's, and Kubernetes' own.
    pub fn people<T>(&mut self, what: impl FnOnce(&mut Self) -> T) -> T {
        let last = |api: &Api| {
            [
                api.deployments.last,
                api.replicas.last,
                api.nodes.last,
                api.leases.last,
            ]
        };
        let before = last(&self.api);
        let result = what(self);
        let after = last(&self.api);
        let kinds = [
            Watched::Deployments,
            Watched::Replicas,
            Watched::Nodes,
            Watched::Leases,
        ];
        for (place, kind) in kinds.into_iter().enumerate() {
            if before[place] != after[place] {
                for who in self.readers(kind) {
                    let wait = self.random.milliseconds(2, 30) + self.lag(who);
                    self.reads(who, kind, wait);
                }
            }
        }
        result
    }

    pub(super) fn readers(&self, kind: Watched) -> Vec<Who> {
        let operators = (0..self.operators.len())
            .filter(|who| self.operators[*who].term.is_some())
            .map(Who::Operator);
        let agents = (0..self.machines.len())
            .filter(|node| self.machines[*node].agent.is_some())
            .map(Who::Agent);
        let schedulers = (0..self.schedulers.len())
            .filter(|who| self.schedulers[*who].runs)
            .map(Who::Scheduler);
        match kind {
            Watched::Leases => operators.collect(),
            Watched::Deployments => operators.chain(schedulers).collect(),
            Watched::Replicas | Watched::Nodes => operators.chain(agents).chain(schedulers).collect(),
        }
    }

    pub(super) fn lag(&self, who: Who) -> Duration {
        match who {
            Who::Operator(index) => self.operators[index].lag,
            Who::Agent(node) => self.machines[node].lag,
            Who::Scheduler(index) => self.schedulers[index].lag,
        }
    }

    /// A process has just started its watches: each reads its list.
    pub fn read_soon(&mut self, who: Who) {
        for kind in [
            Watched::Deployments,
            Watched::Replicas,
            Watched::Nodes,
            Watched::Leases,
        ] {
            if self.readers(kind).contains(&who) {
                let wait = self.random.milliseconds(5, 200);
                self.reads(who, kind, wait);
            }
        }
    }

    pub(super) fn reads(&mut self, who: Who, kind: Watched, wait: Duration) {
        if self.pending.insert((who, kind)) {
            self.after(wait, Event::Read(who, kind));
        }
    }

    pub(super) fn read(&mut self, who: Who, kind: Watched) {
        if !self.readers(kind).contains(&who) {
            return;
        }
        if !self.reaches_the_api(who) {
            // The watch is made anew, a little later each time.
            let wait = self.random.milliseconds(500, 10_000);
            self.reads(who, kind, wait);
            return;
        }
        let lag = self.lag(who);
        let mut reader = Reader {
            until: self.now.saturating_sub(lag),
            revision: self.api.revision,
            merges: self.bug == Some(Bug::MergesLists) && matches!(who, Who::Operator(_)),
            expired: false,
            is_behind: false,
        };
        let api = &self.api;
        match (who, kind) {
            (Who::Operator(index), _) => {
                let Some(term) = &mut self.operators[index].term else {
                    return;
                };
                match kind {
                    Watched::Deployments => {
                        let news = reader.read(&mut term.deployments, &api.deployments);
                        self.operator_hears_of_deployments(index, &news);
                    }
                    Watched::Replicas => {
                        let news = reader.read(&mut term.replicas, &api.replicas);
                        self.operator_hears_of_replicas(index, &news);
                    }
                    Watched::Nodes => {
                        let news = reader.read(&mut term.nodes, &api.nodes);
                        if !news.is_empty() {
                            self.operator_hears_of_nodes(index);
                        }
                    }
                    Watched::Leases => {
                        reader.read(&mut term.leases, &api.leases);
                        self.operator_hears_of_leases(index);
                    }
                }
            }
            (Who::Agent(node), _) => {
                let Some(agent) = &mut self.machines[node].agent else {
                    return;
                };
                if kind == Watched::Replicas {
                    let news = reader.read(&mut agent.replicas, &api.replicas);
                    self.agent_hears_of_replicas(node, news);
                } else {
                    let news = reader.read(&mut agent.nodes, &api.nodes);
                    self.agent_hears_of_nodes(node, &news);
                }
            }
            (Who::Scheduler(index), _) => {
                let scheduler = &mut self.schedulers[index];
                match kind {
                    Watched::Deployments => {
                        reader.read(&mut scheduler.deployments, &api.deployments);
                    }
                    Watched::Replicas => {
                        reader.read(&mut scheduler.replicas, &api.replicas);
                    }
                    _ => {
                        reader.read(&mut scheduler.nodes, &api.nodes);
                    }
                }
                self.scheduler_hears(index);
            }
        }
        if reader.expired {
            self.trace.saw(Sight::Relist);
            note!(self, "{who:?} must read {kind:?} anew");
            let wait = self.random.milliseconds(500, 3000);
            self.reads(who, kind, wait);
        } else if reader.is_behind {
            self.trace.saw(Sight::StaleWatch);
            let wait = Duration::from_millis(500);
            self.reads(who, kind, wait);
        }
    }
}

/// One look at a watch.
struct Reader {
    until: Time,
    revision: u64,
    merges: bool,
    expired: bool,
    is_behind: bool,
}

impl Reader {
    fn read<K: Object>(&mut self, cache: &mut Cache<K>, kind: &Kind<K>) -> Vec<News<K>> {
        let read = cache.read(kind, self.revision, self.until, self.merges);
        self.expired = read.expired;
        self.is_behind = !read.expired && cache.is_behind(kind);
        read.news
    }
}
