//! The fleet for the metrics, out of what the operator knows anyway.

use afterglow_crds::ModelDeployment;
use kube::ResourceExt as _;

use crate::liveness::{Judgement, Liveness};
use crate::metrics::{ModelSight, Sight};
use crate::watch::World;

/// Looks at the stores as they are now.
pub(crate) fn look(world: &World, liveness: &Liveness) -> Sight {
    let judgement = liveness.now();
    let nodes = world.gpu_nodes.state();
    let nodes = nodes.iter().filter_map(|node| {
        let node = node.0.as_ref().ok()?;
        let name = node.name_any();
        let alive = alive(&judgement, &name)?;
        Some((node.spec.cluster.clone(), name, alive))
    });
    let deployments = world.deployments.state();
    let models = deployments
        .iter()
        .filter_map(|deployment| model(deployment.0.as_ref().ok()?));
    let mut sight = Sight {
        nodes: nodes.collect(),
        models: models.collect(),
    };
    // Beyond the limit of named series it must be the same ones each time.
    sight.nodes.sort();
    sight
        .models
        .sort_by(|a, b| (&a.cluster, &a.namespace, &a.model).cmp(&(&b.cluster, &b.namespace, &b.model)));
    sight
}

/// `None`: it may be starting, and nothing is known yet.
fn alive(judgement: &Judgement, node: &str) -> Option<bool> {
    let (alive, dead) = (judgement.alive.contains(node), judgement.dead.contains(node));
    (alive || dead).then_some(alive)
}

fn model(deployment: &ModelDeployment) -> Option<ModelSight> {
    if deployment.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let spec = &deployment.spec;
    Some(ModelSight {
        cluster: spec.cluster.clone(),
        namespace: deployment.namespace().unwrap_or_default(),
        model: spec.model.name.clone().unwrap_or_else(|| deployment.name_any()),
        wanted: if spec.suspend { 0 } else { spec.replicas },
        ready: deployment
            .status
            .as_ref()
            .map_or(0, |status| status.ready_replicas),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn deployment(yaml: &str) -> ModelDeployment {
        let head = "
apiVersion: afterglow.dev/v1alpha1
kind: ModelDeployment
metadata: { name: minilm, namespace: team }
";
        serde_saphyr::from_str(&format!("{head}{yaml}")).expect("it is a ModelDeployment")
    }

    #[test]
    fn a_model_goes_by_the_name_that_clients_use_and_a_suspended_one_wants_nothing() {
        let source = "source: { uri: 'https://h/m.onnx', digest: 'sha256:0' }";
        let plain = deployment(&format!(
            "spec: {{ model: {{ {source} }}, replicas: 3 }}\nstatus: {{ readyReplicas: 2 }}"
        ));
        let seen = model(&plain).expect("it is seen");
        assert_eq!((seen.model.as_str(), seen.wanted, seen.ready), ("minilm", 3, 2));
        let named = deployment(&format!(
            "spec: {{ model: {{ name: other, {source} }}, replicas: 3, suspend: true }}"
        ));
        let seen = model(&named).expect("it is seen");
        assert_eq!((seen.model.as_str(), seen.wanted, seen.ready), ("other", 0, 0));
    }

    #[test]
    fn a_node_that_nobody_has_judged_yet_is_neither_alive_nor_lost() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let judgement = Judgement {
            alive: names(&["a"]),
            dead: names(&["b"]),
        };
        assert_eq!(alive(&judgement, "a"), Some(true));
        assert_eq!(alive(&judgement, "b"), Some(false));
        assert_eq!(alive(&judgement, "c"), None);
    }
}
