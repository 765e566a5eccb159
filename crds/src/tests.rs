//! Every kind renders into a definition that a cluster takes and a reader understands, and the examples are what they say.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::condition::{self, State};
use crate::gpu_node::GpuNodeSpec;
use crate::inference_cluster::InferenceClusterSpec;
use crate::model_deployment::ModelDeploymentSpec;
use crate::{GpuNode, InferenceCluster, ModelDeployment, ModelReplica, all};

/// Kubernetes' own types, whose fields are documented by Kubernetes.
const FOREIGN: [&str; 3] = ["tolerations", "namespaceSelector", "conditions"];

fn schema(definition: &CustomResourceDefinition) -> Value {
    let schema = definition.spec.versions[0].schema.as_ref().unwrap();
    serde_json::to_value(schema.open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Calls `visit` with the path and schema of every property, those of Kubernetes' own types excepted.
fn properties(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        visit(&path, name, property);
        if !FOREIGN.contains(&name.as_str()) {
            properties(property, &path, visit);
            properties(&property["items"], &format!("{path}[]"), visit);
        }
    }
}

/// The rules' messages of a schema, at any depth.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "x-kubernetes-validations" {
                    for rule in value.as_array().unwrap() {
                        let message = rule["message"]
                            .as_str()
                            .expect("a rule without a sentence helps nobody");
                        found.insert(message.to_owned());
                    }
                } else {
                    messages(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| messages(value, found)),
        _ => {}
    }
}

#[test]
fn every_kind_renders_and_survives_yaml() {
    let kinds: Vec<String> = all()
        .iter()
        .map(|definition| definition.spec.names.kind.clone())
        .collect();
    assert_eq!(
        kinds,
        ["InferenceCluster", "ModelDeployment", "ModelReplica", "GpuNode"]
    );
    for definition in all() {
        let text = serde_saphyr::to_string(&definition).unwrap();
        let back: CustomResourceDefinition = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, definition, "{}", definition.spec.names.kind);
    }
}

#[test]
fn every_property_is_described_and_in_lower_camel_case() {
    for definition in all() {
        let kind = &definition.spec.names.kind;
        let root = schema(&definition);
        assert!(
            !root["description"].as_str().unwrap().contains("Auto-generated"),
            "{kind}"
        );
        properties(&root, kind, &mut |path, name, property| {
            let described = property["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(described, "{path} has no description");
            let camel = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|each| each.is_ascii_alphanumeric());
            assert!(camel, "{path} is not in lowerCamelCase");
        });
    }
}

#[test]
fn every_kind_has_a_status_subresource_and_its_columns_show_something() {
    for definition in all() {
        let version = &definition.spec.versions[0];
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        let mut known = BTreeSet::from([".metadata.creationTimestamp".to_owned()]);
        properties(&schema(&definition), "", &mut |path, _, _| {
            known.insert(path.to_owned());
        });
        for column in version.additional_printer_columns.iter().flatten() {
            let path = column.json_path.split('[').next().unwrap();
            assert!(
                known.contains(path),
                "{}: {}",
                definition.spec.names.kind,
                column.json_path
            );
        }
    }
}

#[test]
fn lists_that_are_maps_require_their_keys() {
    for definition in all() {
        properties(&schema(&definition), "", &mut |path, _, property| {
            for key in property["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten()
            {
                let required = property["items"]["required"].as_array().unwrap();
                assert!(required.contains(key), "{path}: {key} may be absent");
            }
        });
    }
}

#[test]
fn text_lists_and_maps_that_people_write_are_bounded() {
    for definition in all() {
        properties(
            &schema(&definition)["properties"]["spec"],
            "",
            &mut |path, name, property| {
                if FOREIGN.contains(&name) || property.get("enum").is_some() {
                    return;
                }
                let bound = match property["type"].as_str() {
                    Some("string") => "maxLength",
                    Some("array") => "maxItems",
                    Some("object") if property.get("additionalProperties").is_some() => "maxProperties",
                    _ => return,
                };
                assert!(property.get(bound).is_some(), "{path} has no {bound}");
            },
        );
    }
}

#[test]
fn defaults_in_the_schema_are_those_of_the_types() {
    let spec = |definition: CustomResourceDefinition| schema(&definition)["properties"]["spec"].clone();
    let filled = |schema: &Value| {
        let defaults = schema["properties"].as_object().unwrap().iter();
        Value::Object(
            defaults
                .filter_map(|(name, property)| Some((name.clone(), property.get("default")?.clone())))
                .collect(),
        )
    };
    let [cluster, deployment, _, node] = all().try_into().unwrap();
    let from_nothing: InferenceClusterSpec = serde_json::from_value(json!({})).unwrap();
    let from_schema: InferenceClusterSpec = serde_json::from_value(filled(&spec(cluster))).unwrap();
    assert_eq!(from_nothing, from_schema);

    let model = json!({"source": {"uri": "file:///m.onnx", "digest": ""}});
    let from_nothing: ModelDeploymentSpec = serde_json::from_value(json!({"model": model})).unwrap();
    let mut defaults = filled(&spec(deployment));
    defaults["model"] = model;
    let from_schema: ModelDeploymentSpec = serde_json::from_value(defaults).unwrap();
    assert_eq!(from_nothing, from_schema);
    assert_eq!(from_nothing.replicas, 1);

    let from_schema: GpuNodeSpec = serde_json::from_value(filled(&spec(node))).unwrap();
    assert_eq!(from_schema, GpuNodeSpec::default());
}

#[test]
fn the_examples_are_what_they_say_with_no_field_left_over() {
    fn same<T: serde::de::DeserializeOwned + serde::Serialize>(text: &str) {
        let written: Value = serde_saphyr::from_str(text).unwrap();
        let typed: T = serde_saphyr::from_str(text).unwrap();
        assert!(covers(&serde_json::to_value(&typed).unwrap(), &written), "{text}");
    }
    same::<InferenceCluster>(include_str!("../examples/inferencecluster.yaml"));
    same::<ModelDeployment>(include_str!("../examples/modeldeployment.yaml"));
    same::<GpuNode>(include_str!("../examples/gpunode.yaml"));
}

/// Whether everything that was written was understood: what is `false` or empty may be left out again.
fn covers(typed: &Value, written: &Value) -> bool {
    match (typed, written) {
        (Value::Object(typed), Value::Object(written)) => written
            .iter()
            .all(|(key, value)| typed.get(key).is_some_and(|typed| covers(typed, value))),
        _ => typed == written,
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusals {
    objects: BTreeMap<String, Value>,
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    why: String,
    kind: String,
    #[serde(default)]
    change: bool,
    refused: Value,
    accepted: Value,
    message: String,
}

#[test]
fn every_rule_has_an_object_that_breaks_it() {
    let table: Refusals = serde_saphyr::from_str(include_str!("../examples/refused.yaml")).unwrap();
    for case in &table.cases {
        assert!(
            table.objects.contains_key(&case.kind),
            "{}: no object of its kind",
            case.why
        );
        assert_ne!(case.refused, case.accepted, "{}", case.why);
    }
    for definition in all() {
        let kind = &definition.spec.names.kind;
        let mut rules = BTreeSet::new();
        messages(&schema(&definition), &mut rules);
        for rule in rules {
            // A rule of a shared type is tried once, on any kind that has it.
            let tried = table.cases.iter().any(|case| rule.contains(&case.message));
            assert!(tried, "{kind}: no case in examples/refused.yaml for: {rule}");
        }
        let transition = |case: &&Case| &case.kind == kind && case.change;
        let fixed = schema(&definition).to_string().contains("oldSelf");
        assert_eq!(table.cases.iter().filter(transition).count() > 0, fixed, "{kind}");
    }
}

#[test]
fn the_objects_of_the_table_are_valid_kinds() {
    let table: Refusals = serde_saphyr::from_str(include_str!("../examples/refused.yaml")).unwrap();
    let object = |kind: &str| table.objects[kind].clone();
    serde_json::from_value::<InferenceCluster>(object("InferenceCluster")).unwrap();
    serde_json::from_value::<ModelDeployment>(object("ModelDeployment")).unwrap();
    serde_json::from_value::<ModelReplica>(object("ModelReplica")).unwrap();
    serde_json::from_value::<GpuNode>(object("GpuNode")).unwrap();
}

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

#[test]
fn a_condition_keeps_its_time_until_its_status_flips() {
    let ready = |status, reason| [State::new(condition::READY, status, reason, "")];
    let first = condition::set(&[], &ready(false, "Fetching"), Some(1), at(10));
    let second = condition::set(&first, &ready(false, "Loading"), Some(1), at(20));
    assert_eq!(second[0].last_transition_time, at(10), "still False");
    assert_eq!(second[0].reason, "Loading");
    let third = condition::set(&second, &ready(true, "Ready"), Some(2), at(30));
    assert_eq!(third[0].last_transition_time, at(30), "True now");
    assert!(condition::is_true(&third, condition::READY));
    let again = condition::set(&third, &ready(true, "Ready"), Some(2), at(40));
    assert_eq!(again, third, "the same facts give the same bytes");
}

#[test]
fn an_unknown_condition_is_neither_true_nor_false() {
    let unknown = condition::set(
        &[],
        &[State::new(condition::DEGRADED, None, "AgentSilent", "")],
        None,
        at(0),
    );
    assert_eq!(
        condition::find(&unknown, condition::DEGRADED).unwrap().status,
        "Unknown"
    );
    assert!(!condition::is_true(&unknown, condition::DEGRADED));
    assert!(condition::find(&unknown, condition::READY).is_none());
}
