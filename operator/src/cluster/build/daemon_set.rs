//! The agents: one pod on each node.

use afterglow_crds::inference_cluster::{CpuFallback, DeviceAccess};
use serde_json::{Value, json};

use super::{Blueprint, Child, Component, Kind, traces};

/// Where the agent shows its metrics, and those of its engines.
const METRICS: u16 = 9401;
/// Where the cache is in the pod.
const CACHE: &str = "/var/lib/afterglow";
/// Where `spec.agent.modelPath` is in the pod.
const HOST_MODELS: &str = "/models/host";
/// Where `spec.agent.modelVolumes` are in the pod.
const VOLUMES: &str = "/models/volumes";

/// The agents' DaemonSet.
pub(crate) fn agent(blueprint: &Blueprint<'_>) -> Child {
    let spec = &blueprint.cluster.spec.agent;
    let name = blueprint.name(Component::Agent);
    let selector = blueprint.selector(Component::Agent);
    let (volumes, mounts) = volumes(blueprint);
    let image = spec.image.as_ref().unwrap_or(&blueprint.options.agent_image);
    let mut pod = json!({
        "serviceAccountName": name,
        "terminationGracePeriodSeconds": 60,
        "containers": [{
            "name": "agent",
            "image": image,
            "imagePullPolicy": blueprint.options.image_pull_policy.as_str(),
            "args": args(blueprint),
            "env": env(blueprint),
            "ports": [
                { "name": "load", "containerPort": 9400, "protocol": "TCP" },
                { "name": "metrics", "containerPort": METRICS, "protocol": "TCP" },
            ],
            // What the agent itself needs; what its engines take depends on the models, so there is no limit.
            "resources": { "requests": { "cpu": "100m", "memory": "256Mi" } },
            "livenessProbe": {
                "httpGet": { "path": "/healthz", "port": "metrics" },
                "periodSeconds": 10,
                "timeoutSeconds": 5,
                "failureThreshold": 6,
            },
            "readinessProbe": {
                "httpGet": { "path": "/readyz", "port": "metrics" },
                "periodSeconds": 2,
                "timeoutSeconds": 5,
            },
            "securityContext": security(spec.devices),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    });
    if !spec.node_selector.is_empty() {
        pod["nodeSelector"] = json!(spec.node_selector);
    }
    if !spec.tolerations.is_empty() {
        pod["tolerations"] = json!(spec.tolerations);
    }
    let rest = json!({
        "spec": {
            "selector": { "matchLabels": selector },
            // An agent is ready when the models that it served before answer again. So long schedulers may need until they have
            // heard of it and reached its engines: the next agent goes only then.
            "minReadySeconds": 3,
            "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "template": {
                "metadata": blueprint.pod_metadata(Component::Agent, METRICS),
                "spec": pod,
            },
        },
    });
    blueprint.child(
        Kind::DaemonSet,
        Component::Agent,
        Some(blueprint.namespace()),
        name,
        rest,
    )
}

fn args(blueprint: &Blueprint<'_>) -> Vec<String> {
    let spec = &blueprint.cluster.spec;
    let fallback = match spec.cpu_fallback {
        CpuFallback::Forbidden => "forbidden",
        CpuFallback::Allowed => "allowed",
    };
    let mut args = vec![
        "run".to_owned(),
        format!("--cluster={}", blueprint.cluster_name()),
        format!("--cache={CACHE}"),
        format!("--cache-size={}", spec.agent.cache.size.0),
        format!("--cpu-fallback={fallback}"),
        format!("--model-volumes={VOLUMES}"),
        "--load=0.0.0.0:9400".to_owned(),
        format!("--metrics=0.0.0.0:{METRICS}"),
    ];
    if let Some(path) = &spec.agent.model_path {
        args.push(format!("--model-path={path}"));
        args.push(format!("--model-path-mount={HOST_MODELS}"));
    }
    if let Some(s3) = &spec.agent.s3 {
        if let Some(endpoint) = &s3.endpoint {
            args.push(format!("--s3-endpoint={endpoint}"));
        }
        args.push(format!("--s3-region={}", s3.region));
    }
    args
}

fn env(blueprint: &Blueprint<'_>) -> Vec<Value> {
    let field =
        |name: &str, path: &str| json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } });
    let mut env = vec![
        field("NODE_NAME", "spec.nodeName"),
        field("POD_IP", "status.podIP"),
        field("POD_NAMESPACE", "metadata.namespace"),
        // The root file system is read-only.
        json!({ "name": "HOME", "value": "/tmp" }),
    ];
    let secret = blueprint
        .cluster
        .spec
        .agent
        .s3
        .as_ref()
        .and_then(|s3| s3.secret_name.as_ref());
    if let Some(secret) = secret {
        for (name, key) in [
            ("AWS_ACCESS_KEY_ID", "accessKeyId"),
            ("AWS_SECRET_ACCESS_KEY", "secretAccessKey"),
        ] {
            env.push(
                json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": secret, "key": key } } }),
            );
        }
    }
    env.extend(traces::env(blueprint));
    env
}

/// The agent runs as uid 0 either way: the cache, and the sockets' folders, are folders of the node that belong to root.
fn security(devices: DeviceAccess) -> Value {
    match devices {
        // The one reason for a privileged container: a device node that no device plugin handed out can be opened in no
        // other way, and a plugin that handed the cards to this pod would have none left to offer.
        DeviceAccess::RenderNodes => json!({
            "privileged": true,
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
        }),
        DeviceAccess::None => json!({
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
            "runAsUser": 0,
            "seccompProfile": { "type": "RuntimeDefault" },
        }),
    }
}

/// Volumes and their mounts.
fn volumes(blueprint: &Blueprint<'_>) -> (Vec<Value>, Vec<Value>) {
    let spec = &blueprint.cluster.spec.agent;
    let mut volumes = vec![json!({ "name": "tmp", "emptyDir": {} })];
    let mut mounts = vec![json!({ "name": "tmp", "mountPath": "/tmp" })];
    let mut host = |name: &str, path: &str, type_: &str, mount: &str, read_only: bool| {
        let mut source = json!({ "path": path });
        if !type_.is_empty() {
            source["type"] = json!(type_);
        }
        volumes.push(json!({ "name": name, "hostPath": source }));
        let mut target = json!({ "name": name, "mountPath": mount });
        if read_only {
            target["readOnly"] = json!(true);
        }
        mounts.push(target);
    };
    host("cache", &spec.cache.host_path, "DirectoryOrCreate", CACHE, false);
    // The kubelet's side of dynamic resource allocation: the plugin's own socket, where it registers, and the devices'
    // descriptions for the container runtime.
    let plugin = format!("/var/lib/kubelet/plugins/{}", afterglow_crds::labels::DRIVER);
    host("plugin", &plugin, "DirectoryOrCreate", &plugin, false);
    let registry = "/var/lib/kubelet/plugins_registry";
    host("registry", registry, "DirectoryOrCreate", registry, false);
    host("cdi", "/var/run/cdi", "DirectoryOrCreate", "/var/run/cdi", false);
    if let Some(path) = &spec.model_path {
        host("models", path, "Directory", HOST_MODELS, true);
    }
    if spec.devices == DeviceAccess::RenderNodes {
        // Unchecked: a node without a card has no /dev/dri, and its agent shall say so instead of not starting.
        host("dri", "/dev/dri", "", "/dev/dri", true);
        host("sys", "/sys", "", "/sys", true);
    }
    for (index, volume) in spec.model_volumes.iter().enumerate() {
        let name = format!("volume-{index}");
        let claim = json!({ "claimName": volume.claim_name, "readOnly": true });
        volumes.push(json!({ "name": name, "persistentVolumeClaim": claim }));
        let path = format!("{VOLUMES}/{}", volume.name);
        mounts.push(json!({ "name": name, "mountPath": path, "readOnly": true }));
    }
    (volumes, mounts)
}
