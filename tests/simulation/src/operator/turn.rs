//! A deployment's turn: what is planned is decided by the operator's own code; here it is carried out, write by write, and between any
//! two the process may end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use afterglow_crds::condition::{self, READY};
use afterglow_crds::{GpuNode, ModelDeployment, ModelReplica};
use afterglow_operator::steps::{self, Facts, Key, Machine, Plan, Seen, Wanted};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use super::Step;
use crate::api::{Only, Refused};
use crate::bug::Bug;
use crate::time::of_day;
use crate::trace::Sight;
use crate::world::{Who, World};

/// Turns that are under way at once.
const CONCURRENCY: usize = 4;
/// Everything is looked at again after this long.
const RESYNC: Duration = Duration::from_mins(5);
/// How long a call waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// One deployment's turn: what was planned, and how far it is.
#[derive(Debug)]
pub(super) struct Turn {
    facts: Facts,
    plan: Plan<Wanted>,
    pub(super) writes: VecDeque<Write>,
    pub(super) made: Vec<ModelReplica>,
    because: Vec<String>,
    errors: Vec<String>,
    failed: bool,
}

#[derive(Debug)]
pub(super) enum Write {
    Delete(ModelReplica),
    Create(ModelReplica, String),
}

impl World {
    pub(super) fn work(&mut self, who: usize) {
        let clock = self.clock;
        let now = self.now;
        let machines: BTreeMap<String, Machine> = self.kubernetes_nodes();
        let cluster = self.cluster.clone();
        let bug = self.bug;
        loop {
            let Some(term) = &mut self.operators[who].term else {
                return;
            };
            if !term.begun || term.running.len() >= CONCURRENCY {
                return;
            }
            // One turn at a time for one deployment.
            let Some(place) = term.queue.iter().position(|key| !term.running.contains_key(key)) else {
                return;
            };
            let Some(key) = term.queue.remove(place) else {
                return;
            };
            let Some(deployment) = term.deployments.objects.get(&key).cloned() else {
                continue;
            };
            if deployment.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let mut replicas: Vec<ModelReplica> = term
                .replicas
                .objects
                .values()
                .map(|replica| ModelReplica::clone(replica))
                .collect();
            if bug != Some(Bug::ForgetsWhatItMade) {
                term.expectations.complete_at(&mut replicas, clock.instant(now));
            }
            if bug == Some(Bug::ForgetsTheLeaving) {
                let own = deployment.uid().unwrap_or_default();
                replicas.retain(|replica| {
                    replica.metadata.deletion_timestamp.is_none()
                        || replica.owner_references().iter().any(|owner| owner.uid == own)
                });
            }
            let deployments: Vec<&ModelDeployment> = term
                .deployments
                .objects
                .values()
                .map(|deployment| &**deployment)
                .collect();
            let seen = Seen {
                cluster: Some(cluster.clone()),
                namespace_labels: BTreeMap::new(),
                replicas,
                gpu_nodes: term
                    .nodes
                    .objects
                    .values()
                    .map(|node| GpuNode::clone(node))
                    .collect(),
                nodes: machines.clone(),
                judgement: term.judgement.clone(),
                unreadable: steps::Unreadable::default(),
            };
            let facts = steps::facts(&deployment, &deployments, seen);
            let plan = steps::plan(&facts, steps::check(&facts));
            term.expectations.expect_at(&plan.create, clock.instant(now));
            let writes = plan
                .delete
                .iter()
                .cloned()
                .map(Write::Delete)
                .chain(
                    plan.create
                        .iter()
                        .cloned()
                        .zip(plan.because.iter().cloned())
                        .map(|(replica, because)| Write::Create(replica, because)),
                )
                .collect();
            if plan.unplaced.is_some() {
                self.trace.saw(Sight::NoDeviceFits);
            }
            let errors = plan.errors.clone();
            if let Err(why) = crate::check::plan_keeps_serving(&facts, &plan) {
                self.violate(why);
            }
            let turn = Turn {
                facts,
                plan,
                writes,
                made: Vec::new(),
                because: Vec::new(),
                errors,
                failed: false,
            };
            if let Some(term) = &mut self.operators[who].term {
                term.running.insert(key.clone(), turn);
            }
            let wait = self.random.milliseconds(1, 10);
            self.operator_soon(who, wait, Step::Write(key));
        }
    }

    pub(super) fn write(&mut self, who: usize, key: &Key) {
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        let Some(turn) = term.running.get_mut(key) else {
            return;
        };
        let Some(write) = turn.writes.pop_front() else {
            self.report(who, key);
            return;
        };
        let error = match write {
            Write::Delete(replica) => self.operator_deletes(who, &replica).err(),
            Write::Create(replica, because) => self.operator_creates(who, key, &replica, because).err(),
        };
        if let Some(error) = error {
            if error == Refused::Conflict {
                self.trace.saw(Sight::Conflict);
            }
            let Some(term) = &mut self.operators[who].term else {
                return;
            };
            let Some(turn) = term.running.get_mut(key) else {
                return;
            };
            turn.failed = true;
            if error != Refused::Conflict {
                turn.errors.push(format!("{error:?}"));
            }
        }
        if let Some(left) = &mut self.operators[who].dies_after {
            if *left == 0 {
                self.crash_operator(who);
                return;
            }
            *left -= 1;
        }
        let wait = if error == Some(Refused::Silence) {
            PATIENCE
        } else {
            self.random.milliseconds(2, 15)
        };
        self.operator_soon(who, wait, Step::Write(key.clone()));
    }

    pub(super) fn operator_deletes(&mut self, who: usize, replica: &ModelReplica) -> Result<(), Refused> {
        let only = Only::version(replica);
        let key = Key::of(replica);
        let done = self.call(Who::Operator(who), |world| {
            let judged = world
                .api
                .replicas
                .objects
                .get(&key)
                .map(|found| found.uid() == replica.uid());
            let (replicas, moment) = world.api.replicas(world.now);
            let done = replicas.delete(moment, &key, &only);
            if done.is_ok() && judged == Some(false) {
                world.violate(format!(
                    "a deletion of {} strikes another object of that name",
                    key.name
                ));
            }
            done
        });
        crate::note!(self, "operator-{who} deletes {}: {done:?}", key.name);
        match done {
            Err(Refused::NotFound) => Ok(()),
            other => other,
        }
    }

    pub(super) fn operator_creates(
        &mut self,
        who: usize,
        key: &Key,
        replica: &ModelReplica,
        because: String,
    ) -> Result<(), Refused> {
        let made = self.call(Who::Operator(who), |world| {
            let (replicas, moment) = world.api.replicas(world.now);
            replicas.create(moment, replica.clone())
        });
        crate::note!(
            self,
            "operator-{who} makes {} on {}/{}: {:?}",
            replica.name_any(),
            replica.spec.node_name,
            replica.spec.device,
            made.as_ref().map(|_| ())
        );
        let instant = self.clock.instant(self.now);
        if made.is_ok() && replica.spec.revision > 1 {
            self.trace.saw(Sight::NewRevision);
        }
        let Some(term) = &mut self.operators[who].term else {
            return Ok(());
        };
        match made {
            Ok(made) => {
                term.expectations.expect_at(std::slice::from_ref(&*made), instant);
                if let Some(turn) = term.running.get_mut(key) {
                    turn.made.push(ModelReplica::clone(&made));
                    turn.because.push(because);
                }
                Ok(())
            }
            Err(error) => {
                // Without an answer it may have been made: then the watch shows it.
                if error != Refused::Silence {
                    term.expectations.forget(replica);
                }
                Err(error)
            }
        }
    }

    pub(super) fn report(&mut self, who: usize, key: &Key) {
        let stamp = of_day(self.now, self.operators[who].skew);
        let instant = self.clock.instant(self.now);
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        let Some(turn) = term.running.remove(key) else {
            return;
        };
        let applied = turn.plan.applied(turn.made, turn.because, turn.errors);
        let mut waited = term.progress.waited_at(&turn.facts, &applied, instant);
        if self.bug == Some(Bug::BelievesConditions) {
            waited = since_it_stopped(&turn.facts.deployment, stamp);
        }
        let (status, again) = steps::status(&turn.facts, &applied, waited, stamp);
        let mut failed = turn.failed;
        if turn.facts.deployment.status.as_ref() != Some(&status) {
            let only = Only::object(&turn.facts.deployment);
            let written = self.call(Who::Operator(who), |world| {
                let (deployments, moment) = world.api.deployments(world.now);
                let status = status.clone();
                deployments.update(moment, key, &only, false, |deployment| {
                    deployment.status = Some(status);
                })
            });
            let reason = status
                .conditions
                .first()
                .map_or("", |ready| ready.reason.as_str());
            crate::note!(
                self,
                "operator-{who} reports {}: {} of {} ready, {reason}: {:?}",
                key.name,
                status.ready_replicas,
                status.replicas,
                written.as_ref().map(|_| ())
            );
            failed |= !matches!(written, Ok(_) | Err(Refused::NotFound));
            if crate::check::is_late(&status) {
                self.trace.saw(Sight::Late);
            }
        }
        if failed && self.bug == Some(Bug::GivesUp) {
            return;
        }
        let now = self.now;
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        let wait = if failed {
            term.pace.failed(key.clone(), None)
        } else {
            term.pace.worked(key);
            again.unwrap_or(RESYNC).min(RESYNC)
        };
        let at = now + wait;
        let earliest = term.timers.get(key).is_none_or(|known| at < *known);
        if earliest {
            term.timers.insert(key.clone(), at);
            self.operator_soon(who, wait, Step::Again(key.clone()));
        }
        self.work(who);
    }
}

/// How long ago a deployment stopped being ready, by the times in its status.
fn since_it_stopped(deployment: &ModelDeployment, now: Timestamp) -> Duration {
    let status = deployment.status.as_ref();
    let ready = status.and_then(|status| condition::find(&status.conditions, READY));
    let stopped = ready.filter(|ready| ready.status == "False");
    stopped.map_or(Duration::ZERO, |ready| {
        let seconds = now.as_second() - ready.last_transition_time.0.as_second();
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    })
}
