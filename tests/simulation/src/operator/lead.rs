//! Who leads, and for how long; and who is alive, as the leader judges it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::labels;
use afterglow_operator::steps::{self, Judgement, Key};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt as _;

use super::{Step, Term};
use crate::api::{Only, Refused};
use crate::bug::Bug;
use crate::time::of_day;
use crate::trace::Sight;
use crate::world::{Who, World};

const CAMPAIGN: Duration = Duration::from_secs(2);
const JUDGE: Duration = Duration::from_secs(1);
const LEASE: &str = "afterglow-operator";

impl World {
    pub(super) fn identity(who: usize) -> String {
        format!("operator-{who}")
    }

    pub(super) fn campaign(&mut self, who: usize) {
        let (identity, key) = (Self::identity(who), Key::within("system", LEASE));
        let ticks = self.clock.ticks(self.now);
        let stamp = of_day(self.now, self.operators[who].skew);
        let mut seen = self.operators[who].seen.take();
        let took = self.call(Who::Operator(who), |world| {
            let (leases, moment) = world.api.leases(world.now);
            let found = leases.objects.get(&key).cloned();
            let known = found.as_ref().map(|lease| said(lease));
            let Some(spec) = steps::take(known.as_ref(), &identity, &mut seen, ticks, stamp) else {
                return Ok(false);
            };
            let Some(lease) = found else {
                let mut lease = Lease::default();
                lease.metadata.name = Some(LEASE.to_owned());
                lease.metadata.namespace = Some("system".to_owned());
                lease.spec = Some(spec);
                return leases.create(moment, lease).map(|_| true);
            };
            let only = Only::version(&*lease);
            leases
                .update(moment, &key, &only, false, |lease| lease.spec = Some(spec))
                .map(|_| true)
        });
        self.operators[who].seen = seen;
        if took != Ok(true) {
            self.operator_soon(who, CAMPAIGN, Step::Campaign);
            return;
        }
        let operator = &mut self.operators[who];
        operator.life += 1;
        operator.term = Some(Term::new(ticks));
        self.trace.saw(Sight::NewLeader);
        if self
            .operators
            .iter()
            .filter(|operator| operator.term.is_some())
            .count()
            > 1
        {
            self.trace.saw(Sight::TwoLeaders);
        }
        crate::note!(self, "operator-{who} leads");
        self.pauses(who);
        self.read_soon(Who::Operator(who));
    }

    pub(super) fn renew(&mut self, who: usize) {
        let (identity, key) = (Self::identity(who), Key::within("system", LEASE));
        let stamp = of_day(self.now, self.operators[who].skew);
        let renewed = self.call(Who::Operator(who), |world| {
            let (leases, moment) = world.api.leases(world.now);
            let Some(lease) = leases.objects.get(&key).cloned() else {
                return Ok(false);
            };
            let Some(new) = steps::renew(&said(&lease), &identity, stamp) else {
                return Ok(false);
            };
            let only = Only::version(&*lease);
            leases
                .update(moment, &key, &only, false, |lease| lease.spec = Some(new))
                .map(|_| true)
        });
        let ticks = self.clock.ticks(self.now);
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        match renewed {
            Ok(true) => {
                term.lead.renewed(ticks);
                self.pauses(who);
            }
            Ok(false) => self.resign(who),
            Err(refused) => {
                // An answer that does not come is waited for.
                let silent = refused == Refused::Silence;
                let took = if silent {
                    term.lead.patience(ticks)
                } else {
                    Duration::ZERO
                };
                term.lead.failed();
                self.operator_soon(who, took, Step::NotRenewed);
            }
        }
    }

    /// A renewal has failed: the leader tries again, or must stop.
    pub(super) fn not_renewed(&mut self, who: usize) {
        let ticks = self.clock.ticks(self.now);
        let is_over = |term: &Term| term.lead.is_over(ticks);
        if self.operators[who].term.as_ref().is_some_and(is_over) {
            self.resign(who);
        } else {
            self.pauses(who);
        }
    }

    fn pauses(&mut self, who: usize) {
        let Some(term) = &self.operators[who].term else {
            return;
        };
        let pause = term.lead.pause();
        self.operator_soon(who, pause, Step::Renew);
    }

    fn resign(&mut self, who: usize) {
        crate::note!(self, "operator-{who} leads no more");
        let operator = &mut self.operators[who];
        operator.life += 1;
        operator.term = None;
        self.operator_soon(who, CAMPAIGN, Step::Campaign);
    }

    /// The stores are full: the work of the term begins.
    pub(super) fn begin_term(&mut self, who: usize) {
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        let full = term.deployments.filled && term.replicas.filled && term.nodes.filled && term.leases.filled;
        if term.begun || !full {
            return;
        }
        term.begun = true;
        self.judge(who);
        self.ask_all(who);
        // What was asked for while the stores were filled waits already.
        self.operator_soon(who, Duration::ZERO, Step::Work);
        self.operator_soon(who, super::sweep::SWEEP, Step::Sweep);
    }

    pub(super) fn judge(&mut self, who: usize) {
        let (now, ticks) = (self.now, self.clock.ticks(self.now));
        let bug = self.bug;
        let skew = self.operators[who].skew;
        let told = self
            .reaches_the_api(Who::Operator(who))
            .then(|| renewals(self.api.leases.objects.values()));
        let Some(term) = &mut self.operators[who].term else {
            return;
        };
        let leases = renewals(term.leases.objects.values());
        let mut nodes: BTreeSet<String> = term.nodes.objects.keys().map(|key| key.name.clone()).collect();
        nodes.extend(
            term.replicas
                .objects
                .values()
                .map(|replica| replica.spec.node_name.clone()),
        );
        term.observer.see(&leases, &nodes, ticks);
        let dead = term.judgement.dead.clone();
        if term.observer.doubts(&dead, ticks) {
            // It is asked for directly: past the watch, not past an API server that is away.
            term.observer.hear(told.as_ref(), &dead, ticks);
        }
        let mut judgement = term.observer.judge(&dead, ticks);
        if bug == Some(Bug::BelievesLeases) {
            judgement = Judgement::default();
            let limit = of_day(now, skew).as_second() - 30;
            for node in nodes.iter().chain(leases.keys()) {
                let renewed = leases.get(node).cloned().flatten();
                let alive = renewed.is_some_and(|renewed| renewed.0.as_second() > limit);
                let side = if alive {
                    &mut judgement.alive
                } else {
                    &mut judgement.dead
                };
                side.insert(node.clone());
            }
        }
        let changed = *term.judgement != judgement;
        if changed {
            let before = std::mem::replace(&mut term.judgement, Arc::new(judgement));
            let after = term.judgement.clone();
            for node in after.dead.difference(&before.dead) {
                self.trace.saw(Sight::NodeDeath);
                crate::note!(self, "operator-{who} takes {node} for dead");
            }
            for node in before.dead.difference(&after.dead) {
                self.trace.saw(Sight::NodeReturn);
                crate::note!(self, "operator-{who} sees {node} again");
            }
            self.ask_all(who);
            self.sweep_now(who);
        }
        self.operator_soon(who, JUDGE, Step::Judge);
    }
}

fn said(lease: &Lease) -> LeaseSpec {
    lease.spec.clone().unwrap_or_default()
}

/// When each node's lease was renewed, by the node's name.
fn renewals<'a>(leases: impl Iterator<Item = &'a Arc<Lease>>) -> HashMap<String, Option<MicroTime>> {
    leases
        .filter_map(|lease| {
            let node = lease.name_any().strip_prefix(&labels::lease(""))?.to_owned();
            Some((node, lease.spec.as_ref().and_then(|spec| spec.renew_time.clone())))
        })
        .collect()
}
