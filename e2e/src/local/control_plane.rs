//! API server, controller manager and scheduler, in a network namespace of their own.

use anyhow::Result;
use serde_json::json;

use super::network::{CONTROL_PLANE, CONTROL_PLANE_ADDRESS};
use super::process::{self, Ends};
use super::state::State;
use crate::tools::Tools;

pub(super) fn start_api_server(tools: &Tools, state: &State, ends: Ends) -> Result<()> {
    state.write("cfg/audit.yaml", include_str!("audit.yaml"))?;
    let pki = state.path("pki");
    let flags = [
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--bind-address={CONTROL_PLANE_ADDRESS}"),
        // Were it loopback, the `kubernetes` Service would have no endpoint.
        format!("--advertise-address={CONTROL_PLANE_ADDRESS}"),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
        format!("--kubelet-client-key={pki}/kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-key-file={pki}/sa.pub"),
        format!("--service-account-signing-key-file={pki}/sa.key"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--token-auth-file={}", state.path("cfg/tokens.csv")),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--proxy-client-cert-file={pki}/front-proxy-client.crt"),
        format!("--proxy-client-key-file={pki}/front-proxy-client.key"),
        format!("--requestheader-client-ca-file={pki}/ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        // Webhooks are called at their endpoints: there is no kube-proxy beside the API server.
        "--enable-aggregator-routing=true".to_owned(),
        "--profiling=false".to_owned(),
        format!("--audit-policy-file={}", state.path("cfg/audit.yaml")),
        format!("--audit-log-path={}", state.path("log/audit.log")),
    ];
    component(tools, state, ends, "kube-apiserver", &flags)
}

pub(super) fn start_controllers(tools: &Tools, state: &State, ends: Ends) -> Result<()> {
    let pki = state.path("pki");
    let kubeconfig = state.path("cfg/kcm.kubeconfig");
    let flags = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        format!("--service-account-private-key-file={pki}/sa.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        "--use-service-account-credentials=true".to_owned(),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        "--allocate-node-cidrs=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        "--profiling=false".to_owned(),
        "--kube-api-qps=1000".to_owned(),
        "--kube-api-burst=2000".to_owned(),
    ];
    component(tools, state, ends, "kube-controller-manager", &flags)?;

    let kubeconfig = state.path("cfg/sched.kubeconfig");
    let config = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": false},
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 1000, "burst": 2000},
    });
    state.write("cfg/sched.yaml", &config.to_string())?;
    let flags = [
        format!("--config={}", state.path("cfg/sched.yaml")),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".to_owned(),
    ];
    component(tools, state, ends, "kube-scheduler", &flags)
}

fn component(tools: &Tools, state: &State, ends: Ends, name: &str, flags: &[String]) -> Result<()> {
    let net = format!("--net=/run/netns/{CONTROL_PLANE}");
    let program = tools.program(name);
    let call: Vec<&str> = ["nsenter", &net, &program]
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    process::start(tools, state, name, ends, &call).map(drop)
}
