//! What is left of us: in the API, and on the nodes.

use afterglow_crds::labels;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::world::{SYSTEM, World};

const PROGRAMS: [&str; 4] = [
    "afterglow-agent",
    "afterglow-engine",
    "afterglow-operator",
    "afterglow-scheduler",
];
/// The folders of the models' cache, which stays: docs/guide/sources.md.
const CACHE: [&str; 6] = ["blobs", "engine", "partial", "run", "sums", "trees"];

/// Objects of ours, and marks of ours on the objects of others.
pub(super) fn in_the_api(world: &World) -> Result<Vec<String>> {
    let kinds = world.kubectl(&["api-resources", "--verbs=list", "--output=name"])?;
    let kinds: Vec<&str> = kinds
        .lines()
        // They tell of the past and end by themselves.
        .filter(|kind| !kind.starts_with("events") && *kind != "componentstatuses")
        .collect();
    let found = world.kubectl(&[
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--ignore-not-found",
        "--output=json",
    ])?;
    let found: Value = serde_json::from_str(&found).context("read what kubectl lists")?;
    let items = found["items"].as_array().context("kubectl lists nothing")?;
    ensure!(items.len() > 50, "kubectl lists only {} objects", items.len());
    Ok(items.iter().filter_map(trace).collect())
}

/// What of an object is ours, in words.
fn trace(object: &Value) -> Option<String> {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name, namespace) = (
        text(&object["kind"]),
        text(&metadata["name"]),
        text(&metadata["namespace"]),
    );
    let shown = format!("{kind} {namespace}/{name}");
    let keys = |field: &str| -> Vec<String> {
        let fields = metadata[field].as_object();
        fields
            .map(|fields| fields.keys().cloned().collect())
            .unwrap_or_default()
    };
    if let Some(finalizers) = metadata["finalizers"].as_array()
        && finalizers.iter().any(|name| text(name).contains("afterglow.dev"))
    {
        return Some(format!("{shown} with a finalizer of ours"));
    }
    match kind.as_str() {
        // The cluster's owner made both, and labels nodes for pools of his own.
        "Namespace" => return None,
        "Node" => {
            let ours: Vec<String> = keys("labels")
                .into_iter()
                .filter(|key| labels::is_on_nodes(key))
                .collect();
            return (!ours.is_empty()).then(|| format!("{shown} with the labels {}", ours.join(", ")));
        }
        _ => {}
    }
    let everywhere = ["kube-root-ca.crt", "default"].contains(&name.as_str());
    let ours = name.contains("afterglow")
        || text(&object["apiVersion"]).starts_with("afterglow.dev/")
        || (namespace == SYSTEM && !everywhere)
        || ["labels", "annotations"]
            .iter()
            .any(|field| keys(field).iter().any(|key| key.contains("afterglow.dev")));
    ours.then_some(shown)
}

/// Processes, sockets and files of ours on every node, the models' cache apart.
pub(super) fn on_nodes(world: &World) -> Result<Vec<String>> {
    let mut left = Vec::new();
    for node in nodes(world)? {
        let running = world.provider.exec(
            &node,
            &[
                "sh",
                "-c",
                "for one in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$one; echo; done 2>/dev/null; true",
            ],
        )?;
        let programs = running.lines().filter_map(|line| {
            let program = line
                .split(' ')
                .map(|word| word.rsplit('/').next().unwrap_or(word));
            PROGRAMS
                .into_iter()
                .find(|ours| program.clone().any(|word| word == *ours))
        });
        left.extend(programs.map(|program| format!("a process {program} on {node}")));
        let files = world.provider.exec(
            &node,
            &[
                "sh",
                "-c",
                "find /var/lib/kubelet/plugins /var/lib/kubelet/plugins_registry /run/cdi /etc/cdi -path '*afterglow*' \
                 ! -type d 2>/dev/null; true",
            ],
        )?;
        left.extend(files.lines().map(|file| format!("{file} on {node}")));
    }
    Ok(left)
}

/// The nodes that still have models in their cache; fails where there is anything else.
pub(super) fn caches(world: &World) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for node in nodes(world)? {
        let listed = world
            .provider
            .exec(&node, &["sh", "-c", "ls -A /var/lib/afterglow 2>/dev/null; true"])?;
        let strange: Vec<&str> = listed.lines().filter(|name| !CACHE.contains(name)).collect();
        ensure!(strange.is_empty(), "{node} has {strange:?} in /var/lib/afterglow");
        if !listed.is_empty() {
            kept.push(node);
        }
    }
    Ok(kept)
}

fn nodes(world: &World) -> Result<Vec<String>> {
    let listed = world.kubectl(&["get", "nodes", "--output=name"])?;
    let nodes = listed.lines().filter_map(|line| line.strip_prefix("node/"));
    Ok(nodes.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_ours_is_found_by_name_kind_namespace_label_and_finalizer() {
        let object =
            |kind: &str, metadata: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        let ours = [
            object("ClusterRole", json!({"name": "afterglow-agent"})),
            object("Lease", json!({"namespace": "afterglow-system", "name": "x"})),
            object(
                "Service",
                json!({"namespace": "team", "name": "x", "labels": {"afterglow.dev/cluster": "c"}}),
            ),
            object(
                "ConfigMap",
                json!({"namespace": "team", "name": "x", "finalizers": ["afterglow.dev/engine"]}),
            ),
            object(
                "Node",
                json!({"name": "n", "labels": {"gpu.afterglow.dev/polaris": "1"}}),
            ),
        ];
        for one in &ours {
            assert!(trace(one).is_some(), "{one}");
        }
        let others = [
            object(
                "Node",
                json!({"name": "n", "labels": {"afterglow.dev/pool": "main"}}),
            ),
            object("Namespace", json!({"name": "afterglow-system"})),
            object(
                "ServiceAccount",
                json!({"namespace": "afterglow-system", "name": "default"}),
            ),
            object(
                "ConfigMap",
                json!({"namespace": "default", "name": "kube-root-ca.crt"}),
            ),
        ];
        for one in &others {
            assert_eq!(trace(one), None, "{one}");
        }
    }
}
