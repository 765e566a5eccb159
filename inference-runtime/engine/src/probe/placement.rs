//! What of a model may run on the CPU.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{Error, Placement, Result};
use crate::onnx::SHAPE_OPERATORS;
use crate::repository::PlacementRule;
use crate::session::{Device, NodePlacement, Placed};

/// The placement as clients see it.
pub(crate) fn describe(device: &Device, placed: &Placed) -> Placement {
    Placement {
        device: device.label(),
        device_nodes: placed.device_nodes,
        cpu_nodes: placed.cpu.len(),
        partitions: placed.partitions,
        cpu_operators: count(placed.cpu.iter()),
    }
}

/// Whether a placement on a device other than the CPU is allowed. `shape_nodes` names the nodes that only compute
/// shapes.
pub(crate) fn check(
    device: &Device,
    placed: &Placed,
    rule: PlacementRule,
    shape_nodes: &BTreeSet<String>,
) -> Result<()> {
    if device.is_cpu() {
        Ok(())
    } else {
        judge(&device.label(), placed, rule, shape_nodes)
    }
}

fn judge(device: &str, placed: &Placed, rule: PlacementRule, shape_nodes: &BTreeSet<String>) -> Result<()> {
    if placed.device_nodes == 0 {
        return Err(Error::unavailable(format!(
            "not one node of the model runs on {device}, all would run on the CPU: {}; `placement: cpu` in model.yaml \
             allows it, docs/operators.md lists what the device can run",
            list(&count(placed.cpu.iter()))
        )));
    }
    if rule == PlacementRule::Strict {
        let work = count(placed.cpu.iter().filter(|node| !only_shapes(node, shape_nodes)));
        if !work.is_empty() {
            return Err(Error::unavailable(format!(
                "`placement: strict`, and these nodes would run on the CPU: {}",
                list(&work)
            )));
        }
    }
    Ok(())
}

fn only_shapes(node: &NodePlacement, shape_nodes: &BTreeSet<String>) -> bool {
    // Without a name only the operator is known; those of shape arithmetic are claimed by the device when they carry
    // data.
    if node.name.is_empty() {
        SHAPE_OPERATORS.contains(&node.operator.as_str())
    } else {
        shape_nodes.contains(&node.name)
    }
}

fn count<'a>(nodes: impl Iterator<Item = &'a NodePlacement>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    nodes.for_each(|node| *counts.entry(&node.operator).or_default() += 1);
    counts
        .into_iter()
        .map(|(operator, n)| (operator.to_owned(), n))
        .collect()
}

fn list(counts: &[(String, usize)]) -> String {
    match counts {
        [] => "it has no nodes".to_owned(),
        counts => counts
            .iter()
            .map(|(operator, n)| format!("{operator} ×{n}"))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, operator: &str) -> NodePlacement {
        NodePlacement {
            name: name.into(),
            operator: operator.into(),
        }
    }

    fn placed(device_nodes: usize, cpu: Vec<NodePlacement>) -> Placed {
        Placed {
            device_nodes,
            partitions: 1,
            cpu,
        }
    }

    #[test]
    fn the_whole_model_on_the_cpu_needs_a_permission() {
        let on_cpu = placed(0, vec![node("a", "LSTM"), node("b", "LSTM")]);
        let error = judge("opencl:0 x", &on_cpu, PlacementRule::Prefer, &BTreeSet::new()).unwrap_err();
        for expected in ["LSTM ×2", "opencl:0 x", "placement: cpu"] {
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn strict_allows_arithmetic_on_shapes_and_nothing_else() {
        let shapes = BTreeSet::from(["s".to_owned()]);
        let rule = PlacementRule::Strict;
        assert!(
            judge(
                "d",
                &placed(3, vec![node("s", "Concat"), node("", "Shape")]),
                rule,
                &shapes
            )
            .is_ok()
        );
        for work in [node("t", "Concat"), node("", "LSTM")] {
            let wrong = placed(3, vec![node("s", "Concat"), work.clone()]);
            let error = judge("d", &wrong, rule, &shapes).unwrap_err();
            assert!(
                error.message.contains(&format!("{} ×1", work.operator)),
                "{error}"
            );
            assert!(judge("d", &wrong, PlacementRule::Prefer, &shapes).is_ok());
        }
    }
}
