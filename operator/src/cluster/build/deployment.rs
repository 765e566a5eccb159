//! The schedulers.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind, traces};

/// Where the scheduler shows its metrics.
const METRICS: u16 = 8002;
/// Nobody on the node; the image has no user of its own.
const USER: i64 = 65532;

/// The schedulers' Deployment.
pub(crate) fn scheduler(blueprint: &Blueprint<'_>) -> Child {
    let spec = &blueprint.cluster.spec.scheduler;
    let name = blueprint.name(Component::Scheduler);
    let selector = blueprint.selector(Component::Scheduler);
    let image = spec.image.as_ref().unwrap_or(&blueprint.options.scheduler_image);
    // Kubernetes would leave them on a machine that is gone for five minutes.
    let tolerations = ["not-ready", "unreachable"].map(|state| {
        let key = format!("node.kubernetes.io/{state}");
        json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 15 })
    });
    let mut rest = json!({
        "spec": {
            "replicas": spec.replicas,
            "selector": { "matchLabels": selector },
            // So long kube-proxy may need until it sends requests to a new scheduler: the next old one goes only then.
            "minReadySeconds": 3,
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": blueprint.pod_metadata(Component::Scheduler, METRICS),
                "spec": {
                    "serviceAccountName": name,
                    // 5 s until everybody has heard of the end, 1 s for those who come late, 60 s that a request may take, and some.
                    "terminationGracePeriodSeconds": 75,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "tolerations": tolerations,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": { "matchLabels": selector },
                    }],
                    "containers": [{
                        "name": "scheduler",
                        "image": image,
                        "imagePullPolicy": blueprint.options.image_pull_policy.as_str(),
                        "args": [
                            "run",
                            format!("--cluster={}", blueprint.cluster_name()),
                            format!("--namespace={}", blueprint.namespace()),
                            "--config=/etc/afterglow/scheduler.yaml",
                            "--keep=/var/lib/afterglow/fleet.json",
                            "--http=0.0.0.0:8000",
                            "--grpc=0.0.0.0:8001",
                            format!("--metrics=0.0.0.0:{METRICS}"),
                        ],
                        "ports": [
                            { "name": "http", "containerPort": 8000, "protocol": "TCP" },
                            { "name": "grpc", "containerPort": 8001, "protocol": "TCP" },
                            { "name": "metrics", "containerPort": METRICS, "protocol": "TCP" },
                        ],
                        "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } },
                        "livenessProbe": {
                            "httpGet": { "path": "/healthz", "port": "metrics" },
                            "periodSeconds": 10,
                            "timeoutSeconds": 5,
                        },
                        "readinessProbe": {
                            "httpGet": { "path": "/readyz", "port": "metrics" },
                            "periodSeconds": 2,
                            "timeoutSeconds": 5,
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "capabilities": { "drop": ["ALL"] },
                            "readOnlyRootFilesystem": true,
                        },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        // A folder, not a file: only so do changes arrive in a running pod.
                        "volumeMounts": [
                            { "name": "config", "mountPath": "/etc/afterglow", "readOnly": true },
                            { "name": "view", "mountPath": "/var/lib/afterglow" },
                        ],
                    }],
                    "volumes": [
                        { "name": "config", "configMap": { "name": name } },
                        // For a scheduler that is started again in its pod while the API server is away.
                        { "name": "view", "emptyDir": { "sizeLimit": "128Mi" } },
                    ],
                },
            },
        },
    });
    // Empty lists are not kept by the API server, and would differ for ever.
    let env = traces::env(blueprint);
    if !env.is_empty() {
        rest["spec"]["template"]["spec"]["containers"][0]["env"] = json!(env);
    }
    blueprint.child(
        Kind::Deployment,
        Component::Scheduler,
        Some(blueprint.namespace()),
        name,
        rest,
    )
}
