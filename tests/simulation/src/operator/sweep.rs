//! Lets go of replicas whose agent cannot.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::{ModelReplica, labels};
use afterglow_operator::steps::{self, Key};
use kube::ResourceExt as _;

use super::Step;
use crate::api::Only;
use crate::bug::Bug;
use crate::trace::Sight;
use crate::world::{Who, World};

/// Looks when something has changed, and from time to time anyway.
pub(super) const SWEEP: Duration = Duration::from_secs(15);

impl World {
    pub(super) fn sweep_now(&mut self, who: usize) {
        self.release_abandoned(who);
    }

    pub(super) fn sweep(&mut self, who: usize) {
        self.release_abandoned(who);
        self.operator_soon(who, SWEEP, Step::Sweep);
    }

    pub(super) fn release_abandoned(&mut self, who: usize) {
        if self.bug == Some(Bug::NeverSweeps) {
            return;
        }
        let Some(term) = &self.operators[who].term else {
            return;
        };
        if !term.begun {
            return;
        }
        let nodes: BTreeSet<String> = term.nodes.objects.keys().map(|key| key.name.clone()).collect();
        let abandoned: Vec<Arc<ModelReplica>> = term
            .replicas
            .objects
            .values()
            .filter(|replica| steps::is_abandoned(replica, &nodes, &term.judgement))
            .cloned()
            .collect();
        for replica in abandoned {
            let (key, only) = (Key::of(&*replica), Only::version(&*replica));
            let done = self.call(Who::Operator(who), |world| {
                let (replicas, moment) = world.api.replicas(world.now);
                replicas.update(moment, &key, &only, false, |replica| {
                    replica
                        .finalizers_mut()
                        .retain(|finalizer| finalizer != labels::REPLICA_FINALIZER);
                })
            });
            if done.is_ok() {
                self.trace.saw(Sight::Swept);
            }
            crate::note!(
                self,
                "operator-{who} lets {} go: {:?}",
                key.name,
                done.map(|_| ())
            );
        }
    }
}
