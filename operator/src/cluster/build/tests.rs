//! Every object is well-formed for the API, and holds what it must.

use afterglow_crds::{InferenceCluster, labels};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding};
use k8s_openapi::api::resource::v1::DeviceClass;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Blueprint, Child, Kind, all};
use crate::args::{Options, Traces};
use crate::cluster::tests::{cluster, options};

const SMALL: &str = "
metadata: { name: default, uid: u-1 }
spec:
  agent: { devices: None }
  scheduler: { replicas: 1 }
";

const FULL: &str = "
metadata: { name: gold, uid: u-2 }
spec:
  agent:
    image: registry.example/agent:1
    nodeSelector: { gpus: old }
    tolerations: [{ key: gpu, operator: Exists, effect: NoSchedule }]
    devices: RenderNodes
    cache: { hostPath: /data/models, size: 100Gi }
    modelPath: /srv/models
    modelVolumes: [{ name: shared, claimName: models }]
    s3: { endpoint: 'http://minio.storage.svc:9000', region: eu-1, secretName: keys }
  scheduler:
    replicas: 3
    strategy: LeastLoaded
    service: { type: NodePort, httpNodePort: 30080, grpcNodePort: 30081 }
  defaultNamespace: team-a
  cpuFallback: Allowed
";

fn built(yaml: &str, tenants: &[&str]) -> Vec<Child> {
    let cluster: InferenceCluster = cluster(yaml);
    let options: Options = options();
    let tenants: Vec<String> = tenants.iter().map(|&tenant| tenant.to_owned()).collect();
    all(&Blueprint {
        cluster: &cluster,
        options: &options,
        tenants: &tenants,
        device_classes: true,
    })
}

fn one<'a>(children: &'a [Child], kind: Kind, name: &str) -> &'a Value {
    let found = children.iter().find(|child| {
        child.kind == kind && child.name == name && child.namespace.as_deref() != Some("team-a")
    });
    &found.unwrap_or_else(|| panic!("there is a {kind:?} {name}")).body
}

/// What the typed form loses was misspelt; what it adds was left out.
fn through<T: DeserializeOwned + Serialize>(body: &Value) -> Value {
    let typed: T = serde_json::from_value(body.clone()).unwrap_or_else(|error| panic!("{error}: {body:#}"));
    serde_json::to_value(typed).expect("it can be written")
}

#[test]
fn every_object_is_what_the_api_calls_by_its_name() {
    for yaml in [SMALL, FULL] {
        let children = built(yaml, &["team-a"]);
        for child in &children {
            let read = match child.kind {
                Kind::ServiceAccount => through::<ServiceAccount>(&child.body),
                Kind::RoleBinding => through::<RoleBinding>(&child.body),
                Kind::ClusterRoleBinding => through::<ClusterRoleBinding>(&child.body),
                Kind::NetworkPolicy => through::<NetworkPolicy>(&child.body),
                Kind::ConfigMap => through::<ConfigMap>(&child.body),
                Kind::Service => through::<Service>(&child.body),
                Kind::PodDisruptionBudget => through::<PodDisruptionBudget>(&child.body),
                Kind::DeviceClass => through::<DeviceClass>(&child.body),
                Kind::Deployment => through::<Deployment>(&child.body),
                Kind::DaemonSet => through::<DaemonSet>(&child.body),
            };
            assert_eq!(read, child.body, "{}", child.object());
        }
        let kinds: std::collections::BTreeSet<Kind> = children.iter().map(|child| child.kind).collect();
        let missing: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| !kinds.contains(kind))
            .collect();
        let wanted: &[Kind] = if yaml == SMALL {
            &[Kind::PodDisruptionBudget]
        } else {
            &[]
        };
        assert_eq!(
            missing, wanted,
            "a single scheduler has no budget, everything else is there"
        );
    }
}

#[test]
fn everything_but_the_device_class_goes_with_its_cluster_and_can_be_found_by_it() {
    for child in built(FULL, &["team-a"]) {
        let metadata = &child.body["metadata"];
        assert_eq!(
            metadata["labels"]["app.kubernetes.io/managed-by"],
            "afterglow-operator"
        );
        if child.kind == Kind::DeviceClass {
            assert_eq!(
                metadata["ownerReferences"],
                Value::Null,
                "it belongs to all clusters"
            );
        } else {
            assert_eq!(
                metadata["labels"]["afterglow.dev/cluster"],
                "gold",
                "{}",
                child.object()
            );
            assert_eq!(metadata["ownerReferences"][0]["uid"], "u-2", "{}", child.object());
        }
    }
}

#[test]
fn schedulers_leave_a_machine_that_is_gone_within_seconds() {
    let children = built(SMALL, &[]);
    let pod = &one(&children, Kind::Deployment, "afterglow-scheduler-default")["spec"]["template"]["spec"];
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let toleration = pod["tolerations"]
            .as_array()
            .and_then(|all| all.iter().find(|toleration| toleration["key"] == key));
        assert_eq!(
            toleration.map(|found| &found["tolerationSeconds"]),
            Some(&json!(15)),
            "{key}"
        );
    }
}

#[test]
fn an_agent_without_cards_is_unprivileged_and_one_with_cards_has_them() {
    let container = |yaml: &str, name: &str| {
        let children = built(yaml, &[]);
        one(&children, Kind::DaemonSet, name)["spec"]["template"]["spec"].clone()
    };
    let plain = container(SMALL, "afterglow-agent-default");
    let security = &plain["containers"][0]["securityContext"];
    assert_eq!(security["privileged"], Value::Null);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert!(!plain["volumes"].to_string().contains("/dev/dri"));

    let cards = container(FULL, "afterglow-agent-gold");
    assert_eq!(cards["containers"][0]["securityContext"]["privileged"], true);
    let mounts = cards["containers"][0]["volumeMounts"].to_string();
    assert!(mounts.contains("/dev/dri") && mounts.contains("/sys"), "{mounts}");
}

#[test]
fn a_roll_out_of_agents_takes_one_at_a_time_and_waits_until_schedulers_have_heard_that_it_is_back() {
    let children = built(FULL, &[]);
    let spec = &one(&children, Kind::DaemonSet, "afterglow-agent-gold")["spec"];
    assert_eq!(spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"], 1);
    assert_eq!(spec["minReadySeconds"], 3);
    let ready = &spec["template"]["spec"]["containers"][0]["readinessProbe"];
    assert_eq!(ready["httpGet"]["path"], "/readyz");
}

#[test]
fn the_agent_is_told_where_everything_is() {
    let children = built(FULL, &[]);
    let pod = &one(&children, Kind::DaemonSet, "afterglow-agent-gold")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["args"],
        json!([
            "run",
            "--cluster=gold",
            "--cache=/var/lib/afterglow",
            "--cache-size=100Gi",
            "--cpu-fallback=allowed",
            "--model-volumes=/models/volumes",
            "--load=0.0.0.0:9400",
            "--metrics=0.0.0.0:9401",
            "--model-path=/srv/models",
            "--model-path-mount=/models/host",
            "--s3-endpoint=http://minio.storage.svc:9000",
            "--s3-region=eu-1",
        ])
    );
    assert_eq!(
        container["image"], "registry.example/agent:1",
        "the cluster's own image wins"
    );
    assert_eq!(pod["nodeSelector"], json!({ "gpus": "old" }));
    assert_eq!(
        pod["tolerations"],
        json!([{ "key": "gpu", "operator": "Exists", "effect": "NoSchedule" }])
    );
    let env = container["env"].to_string();
    for name in [
        "NODE_NAME",
        "POD_IP",
        "POD_NAMESPACE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(env.contains(name), "{name} is not in {env}");
    }
    let mount = |path: &str| {
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        mounts
            .iter()
            .find(|mount| mount["mountPath"] == path)
            .unwrap_or_else(|| panic!("{path} is mounted"))
            .clone()
    };
    assert_eq!(mount("/models/host")["readOnly"], true);
    assert_eq!(mount("/models/volumes/shared")["readOnly"], true);
    assert_eq!(mount("/var/lib/afterglow")["readOnly"], Value::Null);
}

#[test]
fn schedulers_pass_the_restricted_pod_security_standard() {
    let children = built(SMALL, &[]);
    let deployment = one(&children, Kind::Deployment, "afterglow-scheduler-default");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["capabilities"], json!({ "drop": ["ALL"] }));
}

#[test]
fn the_schedulers_configuration_changes_no_pod() {
    let strategy = |text: &str| built(&FULL.replace("LeastLoaded", text), &[]);
    let (a, b) = (strategy("LeastLoaded"), strategy("GpuMatch"));
    let name = "afterglow-scheduler-gold";
    assert_ne!(one(&a, Kind::ConfigMap, name), one(&b, Kind::ConfigMap, name));
    assert_eq!(one(&a, Kind::Deployment, name), one(&b, Kind::Deployment, name));
    let config = one(&a, Kind::ConfigMap, name)["data"]["scheduler.yaml"]
        .as_str()
        .expect("text");
    let config: Value = serde_saphyr::from_str(config).expect("YAML");
    assert_eq!(
        config,
        json!({ "strategy": "LeastLoaded", "defaultNamespace": "team-a" })
    );
}

#[test]
fn clients_find_the_schedulers_in_their_own_namespace() {
    let children = built(FULL, &["afterglow-system", "team-a", "team-b"]);
    let services: Vec<(Option<&str>, &str, &Value)> = children
        .iter()
        .filter(|child| child.kind == Kind::Service)
        .map(|child| {
            assert_eq!(child.name, "afterglow-gold");
            let spec = &child.body["spec"];
            (
                child.namespace.as_deref(),
                spec["type"].as_str().expect("a type"),
                &spec["externalName"],
            )
        })
        .collect();
    let target = json!("afterglow-gold.afterglow-system.svc.cluster.local");
    assert_eq!(
        services,
        [
            (Some("afterglow-system"), "NodePort", &Value::Null),
            (Some("team-a"), "ExternalName", &target),
            (Some("team-b"), "ExternalName", &target),
        ],
        "in the operator's own namespace the real one keeps its name"
    );
    let ports = &one(&children, Kind::Service, "afterglow-gold")["spec"]["ports"];
    assert_eq!(
        (&ports[0]["nodePort"], &ports[1]["nodePort"]),
        (&json!(30080), &json!(30081))
    );
    let private = built(&FULL.replace("type: NodePort,", ""), &[]);
    let ports = &one(&private, Kind::Service, "afterglow-gold")["spec"]["ports"];
    assert_eq!(ports[0]["nodePort"], Value::Null, "a ClusterIP has no node ports");
}

#[test]
fn only_schedulers_reach_the_engines_and_anybody_the_metrics() {
    let children = built(SMALL, &[]);
    let ingress = &one(&children, Kind::NetworkPolicy, "afterglow-agent-default")["spec"]["ingress"];
    assert_eq!(
        ingress[0]["ports"],
        json!([{ "protocol": "TCP", "port": 9400, "endPort": 9999 }])
    );
    assert_eq!(
        ingress[0]["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"],
        "scheduler"
    );
    assert_eq!(
        ingress[1],
        json!({ "ports": [{ "protocol": "TCP", "port": 9401 }] })
    );
}

#[test]
fn the_admission_policies_know_agents_and_what_is_theirs_by_the_same_names() {
    let policies = include_str!("../../../../charts/afterglow/templates/admission.yaml");
    let scope = include_str!("../../../../charts/afterglow/templates/_scope.tpl");
    let prefix = "afterglow-agent-";
    assert!(policies.contains(&format!("system:serviceaccount:%s:{prefix}\"")));
    let accounts: Vec<String> = built(FULL, &[])
        .into_iter()
        .filter(|child| child.kind == Kind::ServiceAccount)
        .map(|child| child.name)
        .collect();
    assert_eq!(accounts, ["afterglow-agent-gold", "afterglow-scheduler-gold"]);

    let lease = labels::lease("");
    let name = "variables.stored.metadata.name";
    let node = format!("{name}.startsWith('{lease}') ? {name}.substring({})", lease.len());
    for known in [
        node,
        format!("['{}', '{}']", labels::CLUSTER, labels::NODE_DEVICES),
        format!("startsWith('{}')", labels::NODE_FAMILY_PREFIX),
        format!("object.spec.driver == '{}'", labels::DRIVER),
    ] {
        assert!(scope.contains(&known), "{known} is not in _scope.tpl");
    }
}

#[test]
fn prometheus_finds_agents_and_schedulers_where_they_say_unless_it_is_told_otherwise() {
    let cluster: InferenceCluster = cluster(SMALL);
    let mut options: Options = options();
    for (asked, ports) in [
        (true, [json!("9401"), json!("8002")]),
        (false, [Value::Null, Value::Null]),
    ] {
        options.scrape_annotations = asked;
        let children = all(&Blueprint {
            cluster: &cluster,
            options: &options,
            tenants: &[],
            device_classes: true,
        });
        let pods = [
            one(&children, Kind::DaemonSet, "afterglow-agent-default"),
            one(&children, Kind::Deployment, "afterglow-scheduler-default"),
        ];
        for (pod, port) in pods.into_iter().zip(ports) {
            let template = &pod["spec"]["template"];
            let annotations = &template["metadata"]["annotations"];
            assert_eq!(annotations["prometheus.io/port"], port);
            assert_eq!(
                annotations.is_object(),
                asked,
                "nothing, not an empty map: {annotations}"
            );
            let listens = template["spec"]["containers"][0]["ports"].to_string();
            if let Some(port) = port.as_str() {
                assert!(listens.contains(port), "{listens}");
            }
        }
    }
}

#[test]
fn schedulers_and_agents_trace_where_the_operator_does_and_otherwise_know_nothing_of_it() {
    let env = |children: &[Child], kind, name: &str| {
        one(children, kind, name)["spec"]["template"]["spec"]["containers"][0]["env"].clone()
    };
    let untraced = built(SMALL, &[]);
    assert_eq!(
        env(&untraced, Kind::Deployment, "afterglow-scheduler-default"),
        Value::Null
    );
    let agents = env(&untraced, Kind::DaemonSet, "afterglow-agent-default").to_string();
    assert!(!agents.contains("OTEL"), "{agents}");

    let cluster: InferenceCluster = cluster(SMALL);
    let mut options = options();
    options.traces = Some(Traces {
        endpoint: "http://collector:4317".to_owned(),
        sampler: Some("parentbased_traceidratio".to_owned()),
        sampler_argument: Some("0.1".to_owned()),
    });
    let traced = all(&Blueprint {
        cluster: &cluster,
        options: &options,
        tenants: &[],
        device_classes: true,
    });
    let wanted = [
        json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4317" }),
        json!({ "name": "OTEL_TRACES_SAMPLER", "value": "parentbased_traceidratio" }),
        json!({ "name": "OTEL_TRACES_SAMPLER_ARG", "value": "0.1" }),
    ];
    for (kind, name) in [
        (Kind::Deployment, "afterglow-scheduler-default"),
        (Kind::DaemonSet, "afterglow-agent-default"),
    ] {
        let env = env(&traced, kind, name);
        let env = env.as_array().expect("a list");
        assert!(env.ends_with(&wanted), "{name}: {env:?}");
    }
}
