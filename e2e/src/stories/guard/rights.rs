//! Every right that the chart gives, held against what our accounts have done while the other stories ran.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::world::{SYSTEM, World};

/// Whose programs ask the API server. The order is that of the roles: the operator holds the others' rights to hand them on.
const ACCOUNTS: [&str; 3] = ["operator", "agent", "scheduler"];

/// Rights that no request shows, and what shows that they are needed.
const PROVEN_ELSEWHERE: [(&str, &str, &str, &str); 2] = [
    (
        "operator",
        "inferenceclusters/finalizers.afterglow.dev",
        "update",
        FINALIZERS,
    ),
    (
        "operator",
        "modeldeployments/finalizers.afterglow.dev",
        "update",
        FINALIZERS,
    ),
];
const FINALIZERS: &str =
    "asked for within other writes, where owners are enforced: tests/chart/test_node_scope.py";

/// One verb on one resource, of one of our accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    account: &'static str,
    /// `resource.group`, with its subresource.
    resource: String,
    verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} {}", self.account, self.verb, self.resource)
    }
}

pub(in crate::stories) async fn every_verb_that_is_granted_is_used(world: &mut World) -> Result<()> {
    if world.provider.name() != "local" {
        anstream::println!("    not looked at: only the local cluster's audit log can be read from here");
        return Ok(());
    }
    let granted = granted(world)?;
    let used = used(&world.tools.target.join("local/log/audit.log"))?;
    let elsewhere: Vec<Right> = PROVEN_ELSEWHERE
        .iter()
        .map(|&(account, resource, verb, _)| right(account, resource, verb))
        .collect();
    for (right, (.., why)) in elsewhere.iter().zip(PROVEN_ELSEWHERE) {
        ensure!(granted.contains(right), "{right} is not granted any more");
        anstream::println!("    {right}: {why}");
    }
    let idle: Vec<String> = granted
        .iter()
        .filter(|right| !used.contains(right) && !elsewhere.contains(right))
        .map(Right::to_string)
        .collect();
    if !idle.is_empty() {
        bail!(
            "{} of {} rights were not used since this cluster began: {}. Take them out of charts/afterglow/templates/_rules.tpl, \
             or write the story that needs them; every other story must have run on this cluster before",
            idle.len(),
            granted.len(),
            idle.join("; ")
        );
    }
    anstream::println!(
        "    {} rights: {} used by the stories, {} proven where it says",
        granted.len(),
        granted.len() - elsewhere.len(),
        elsewhere.len()
    );
    Ok(())
}

fn right(account: &'static str, resource: &str, verb: &str) -> Right {
    Right {
        account,
        resource: resource.to_owned(),
        verb: verb.to_owned(),
    }
}

#[derive(Deserialize)]
struct Role {
    metadata: Named,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    api_groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
}

/// What the chart's roles give. The operator's own rights are those that it does not hold for others.
fn granted(world: &World) -> Result<BTreeSet<Right>> {
    let rendered = world.rendered(&["--show-only", "templates/rbac.yaml"])?;
    let mut granted = BTreeSet::new();
    for document in rendered.split("\n---\n").filter(|text| text.contains("\nrules:")) {
        let role: Role = serde_saphyr::from_str(document).context("read a role of the chart")?;
        let account = ACCOUNTS
            .into_iter()
            .find(|account| role.metadata.name.ends_with(&format!("-{account}")))
            .with_context(|| format!("{} is no account's role", role.metadata.name))?;
        for rule in &role.rules {
            for group in &rule.api_groups {
                for resource in &rule.resources {
                    for verb in &rule.verbs {
                        granted.insert(right(account, &joined(resource, group), verb));
                    }
                }
            }
        }
    }
    let held: BTreeSet<(String, String)> = granted
        .iter()
        .filter(|right| right.account != "operator")
        .map(|right| (right.resource.clone(), right.verb.clone()))
        .collect();
    granted.retain(|right| {
        right.account != "operator" || !held.contains(&(right.resource.clone(), right.verb.clone()))
    });
    ensure!(
        granted.len() > 50,
        "the chart gives only {} rights",
        granted.len()
    );
    Ok(granted)
}

fn joined(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

/// What our accounts have asked for and were let do.
fn used(log: &Path) -> Result<BTreeSet<Right>> {
    let file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    let mut used = BTreeSet::new();
    for line in BufReader::new(file).lines() {
        let line = line.with_context(|| format!("read {}", log.display()))?;
        // Most of the log is the kubelets'.
        if !line.contains("system:serviceaccount:") {
            continue;
        }
        // The last line may be half written.
        let Ok(event) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        used.extend(shown(&event));
    }
    Ok(used)
}

/// The rights that an entry of the audit log shows to be used.
fn shown(event: &Value) -> Vec<Right> {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let ours = format!("system:serviceaccount:{SYSTEM}:afterglow-");
    let Some(account) = text("/user/username").strip_prefix(&ours).and_then(|name| {
        ACCOUNTS
            .into_iter()
            .find(|&account| name == account || name.starts_with(&format!("{account}-")))
    }) else {
        return Vec::new();
    };
    // What a story only tries is no use.
    let tried = text("/requestURI").contains("dryRun=");
    if tried || event["annotations"]["authorization.k8s.io/decision"] != "allow" {
        return Vec::new();
    }
    let mut resource = text("/objectRef/resource").to_owned();
    if resource.is_empty() {
        return Vec::new();
    }
    let subresource = text("/objectRef/subresource");
    if !subresource.is_empty() {
        resource = format!("{resource}/{subresource}");
    }
    let resource = joined(&resource, text("/objectRef/apiGroup"));
    let mut rights = vec![right(account, &resource, text("/verb"))];
    // An apply that makes the object needs the right to make it too, and is one request.
    if text("/verb") == "patch" && event.pointer("/responseStatus/code") == Some(&201.into()) {
        rights.push(right(account, &resource, "create"));
    }
    rights
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(user: &str, verb: &str, code: u16) -> Value {
        json!({
            "user": {"username": format!("system:serviceaccount:afterglow-system:{user}")},
            "verb": verb,
            "requestURI": "/apis/afterglow.dev/v1alpha1/gpunodes/n/status?force=true",
            "objectRef": {"resource": "gpunodes", "subresource": "status", "apiGroup": "afterglow.dev"},
            "responseStatus": {"code": code},
            "annotations": {"authorization.k8s.io/decision": "allow"},
        })
    }

    #[test]
    fn an_entry_shows_whose_right_was_used_and_an_apply_that_makes_shows_two() {
        let words = |event: &Value| shown(event).iter().map(Right::to_string).collect::<Vec<_>>();
        assert_eq!(
            words(&event("afterglow-agent-default", "patch", 200)),
            ["agent: patch gpunodes/status.afterglow.dev"]
        );
        assert_eq!(
            words(&event("afterglow-operator", "patch", 201)),
            [
                "operator: patch gpunodes/status.afterglow.dev",
                "operator: create gpunodes/status.afterglow.dev"
            ]
        );
        assert_eq!(
            words(&event("prometheus", "list", 200)),
            [""; 0],
            "another's account in our namespace"
        );
    }

    #[test]
    fn what_was_only_tried_and_what_was_refused_is_not_used() {
        let mut tried = event("afterglow-agent-default", "patch", 200);
        tried["requestURI"] = json!("/apis/afterglow.dev/v1alpha1/gpunodes/n?&dryRun=All");
        assert!(shown(&tried).is_empty());
        let mut refused = event("afterglow-agent-default", "patch", 403);
        refused["annotations"]["authorization.k8s.io/decision"] = json!("forbid");
        assert!(shown(&refused).is_empty());
    }
}
