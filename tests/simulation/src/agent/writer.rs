//! What an agent writes about its replicas.

use std::time::Duration;

use afterglow_agent::host;
use afterglow_agent::replicas::{Due, Written, due};
use afterglow_crds::{ModelReplica, labels};
use afterglow_operator::steps::Key;

use super::Step;
use crate::api::{Only, Refused};
use crate::trace::Sight;
use crate::world::{Who, World};

/// After a write that failed.
const AGAIN: Duration = Duration::from_secs(3);

impl World {
    /// Something may be due to be written.
    pub(crate) fn writes_soon(&mut self, node: usize) {
        let wait = self.random.milliseconds(1, 20);
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        if !agent.is_writing {
            agent.is_writing = true;
            self.agent_soon(node, wait, Step::Write);
        }
    }

    /// Writes what is due of one replica, and comes back for the next.
    pub(super) fn agent_writes(&mut self, node: usize) {
        let Some(agent) = &mut self.machines[node].agent else {
            return;
        };
        agent.is_writing = false;
        agent.written.retain(|key, _| agent.statuses.contains_key(key));
        let next = agent.desired.iter().find_map(|replica| {
            let key = host::key(replica);
            let reported = agent.statuses.get(&key)?;
            match due(replica, reported, agent.written.get(&key)) {
                Due::Nothing => None,
                due => Some((key, replica.clone(), due)),
            }
        });
        let Some((key, replica, due)) = next else { return };
        let done = match due {
            Due::Nothing => Ok(()),
            Due::Release(_) => self.agent_releases(node, &replica),
            Due::Status(known) => self.agent_reports(node, &key, &replica, known),
        };
        if done.is_ok() {
            self.writes_soon(node);
        } else if let Some(agent) = &mut self.machines[node].agent {
            agent.is_writing = true;
            self.agent_soon(node, AGAIN, Step::Write);
        }
    }

    pub(super) fn agent_releases(&mut self, node: usize, replica: &ModelReplica) -> Result<(), Refused> {
        let key = Key::of(replica);
        let only = Only::version(replica);
        let done = self.call(Who::Agent(node), |world| {
            let (replicas, moment) = world.api.replicas(world.now);
            let done = replicas.update(moment, &key, &only, false, |replica| {
                let finalizers = replica.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != labels::REPLICA_FINALIZER);
            });
            if done.is_ok() {
                world.check_release(node, replica);
            }
            done
        });
        crate::note!(
            self,
            "agent of node-{node} lets {} go: {:?}",
            key.name,
            done.as_ref().map(|_| ())
        );
        // Until its watch shows what it did, the same write is due: the real one waits for the watch, too.
        if matches!(done, Ok(_) | Err(Refused::NotFound | Refused::Conflict))
            && let Some(agent) = &mut self.machines[node].agent
        {
            agent
                .desired
                .retain(|known| known.metadata.uid != replica.metadata.uid);
        }
        match done {
            Err(Refused::Conflict) => {
                self.trace.saw(Sight::Conflict);
                Ok(())
            }
            Ok(_) | Err(Refused::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn agent_reports(
        &mut self,
        node: usize,
        key: &host::Key,
        replica: &ModelReplica,
        known: Written,
    ) -> Result<(), Refused> {
        let name = Key::of(replica);
        let only = Only::object(replica);
        let status = known.1.clone();
        let ready = status
            .conditions
            .first()
            .map(|ready| ready.reason.clone())
            .unwrap_or_default();
        let done = self.call(Who::Agent(node), |world| {
            let (replicas, moment) = world.api.replicas(world.now);
            replicas.update(moment, &name, &only, false, |replica| {
                replica.status = Some(status);
            })
        });
        crate::note!(
            self,
            "agent of node-{node} says {}: {ready}: {:?}",
            name.name,
            done.as_ref().map(|_| ())
        );
        match done {
            Ok(_) | Err(Refused::NotFound | Refused::Conflict) => {
                if let Some(agent) = &mut self.machines[node].agent {
                    agent.written.insert(key.clone(), known);
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}
