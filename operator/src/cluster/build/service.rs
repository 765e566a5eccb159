//! Where clients find the schedulers.

use afterglow_crds::inference_cluster::ServiceType;
use serde_json::json;

use super::{Blueprint, Child, Component, Kind};

/// `afterglow-C` in the operator's namespace.
pub(crate) fn service(blueprint: &Blueprint<'_>) -> Child {
    let spec = &blueprint.cluster.spec.scheduler.service;
    let (type_, has_node_ports) = match spec.type_ {
        ServiceType::ClusterIp => ("ClusterIP", false),
        ServiceType::NodePort => ("NodePort", true),
        ServiceType::LoadBalancer => ("LoadBalancer", true),
    };
    let port = |name: &str, port: i32, protocol: &str, node_port: Option<i32>| {
        let mut entry = json!({
            "name": name,
            "port": port,
            "targetPort": name,
            "protocol": "TCP",
            "appProtocol": protocol,
        });
        if let Some(node_port) = node_port.filter(|_| has_node_ports) {
            entry["nodePort"] = json!(node_port);
        }
        entry
    };
    let rest = json!({
        "spec": {
            "type": type_,
            "selector": blueprint.selector(Component::Scheduler),
            "ports": [
                port("http", 8000, "http", spec.http_node_port),
                port("grpc", 8001, "kubernetes.io/h2c", spec.grpc_node_port),
            ],
        },
    });
    let name = blueprint.service_name();
    blueprint.child(
        Kind::Service,
        Component::Scheduler,
        Some(blueprint.namespace()),
        name,
        rest,
    )
}
