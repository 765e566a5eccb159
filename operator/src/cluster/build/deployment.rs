//! The schedulers.

use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

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
    let rest = json!({
        "spec": {
            "replicas": spec.replicas,
            "selector": { "matchLabels": selector },
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": blueprint.labels(Component::Scheduler) },
                "spec": {
                    "serviceAccountName": name,
                    // Requests may take 30 s; whoever is still being served after that is cut.
                    "terminationGracePeriodSeconds": 45,
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
                            "--http=0.0.0.0:8000",
                            "--grpc=0.0.0.0:8001",
                            "--metrics=0.0.0.0:8002",
                        ],
                        "ports": [
                            { "name": "http", "containerPort": 8000, "protocol": "TCP" },
                            { "name": "grpc", "containerPort": 8001, "protocol": "TCP" },
                            { "name": "metrics", "containerPort": 8002, "protocol": "TCP" },
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
                        "volumeMounts": [{ "name": "config", "mountPath": "/etc/afterglow", "readOnly": true }],
                    }],
                    "volumes": [{ "name": "config", "configMap": { "name": name } }],
                },
            },
        },
    });
    blueprint.child(
        Kind::Deployment,
        Component::Scheduler,
        Some(blueprint.namespace()),
        name,
        rest,
    )
}
