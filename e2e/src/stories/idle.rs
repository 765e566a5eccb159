//! A cluster in which nothing happens.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::steady;
use crate::world::{SOON, World};

const IDLE: Duration = Duration::from_mins(5);
/// After so long without a write, what the story began has come to rest.
const REST: Duration = Duration::from_secs(20);
/// Every `ServiceAccount` of the release.
const OURS: &str = "system:serviceaccount:afterglow-system:";

pub(super) async fn an_idle_cluster_writes_nothing_but_its_leases(world: &mut World) -> Result<()> {
    let log = world.provider.audit_log()?;
    steady::serve(world, 2).await?;
    steady::rolled_out(world)?;
    let quiet = Cell::new((end(&log)?, Instant::now()));
    world
        .until("nothing is written any more", SOON, async || {
            let (place, since) = quiet.get();
            let writes = writes(&read(&log, place)?);
            if writes.iter().any(|write| !write.renewal()) {
                quiet.set((end(&log)?, Instant::now()));
                bail!("of late: {writes:?}");
            }
            ensure!(since.elapsed() > REST, "not for long enough");
            Ok(())
        })
        .await?;

    let begin = end(&log)?;
    tokio::time::sleep(IDLE).await; // what is claimed is what happens in that time
    let writes = writes(&read(&log, begin)?);
    let others: Vec<&Write> = writes.iter().filter(|write| !write.renewal()).collect();
    let mut renewals: BTreeMap<&str, usize> = BTreeMap::new();
    for write in writes.iter().filter(|write| write.renewal()) {
        *renewals.entry(&write.object).or_default() += 1;
    }
    anstream::println!(
        "    {} writes in {} s: {renewals:?}",
        writes.len(),
        IDLE.as_secs()
    );
    ensure!(
        others.is_empty(),
        "{} writes of ours in {} idle seconds are no renewals, among them {:?}",
        others.len(),
        IDLE.as_secs(),
        &others[..others.len().min(10)]
    );
    ensure!(
        renewals.len() >= 4,
        "the operator and three agents renew a Lease each, seen were {renewals:?}: is the audit log {} that of this cluster?",
        log.display()
    );
    Ok(())
}

/// A request of ours that changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    who: String,
    verb: String,
    resource: String,
    object: String,
}

impl Write {
    /// Whether it is one of the few that must not stop.
    fn renewal(&self) -> bool {
        self.resource == "leases"
            && ["update", "patch"].contains(&self.verb.as_str())
            && self.object.starts_with("afterglow-")
    }
}

/// What was written by us, whether it succeeded or not.
fn writes(lines: &str) -> Vec<Write> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|event| {
            let who = event["user"]["username"].as_str()?.strip_prefix(OURS)?.to_owned();
            let verb = word(&event["verb"]);
            let of = &event["objectRef"];
            let writes = ["create", "update", "patch", "delete", "deletecollection"].contains(&verb.as_str());
            // Asking what one may do is a create that creates nothing.
            let asks = word(&of["resource"]).ends_with("reviews");
            (writes && !asks).then(|| Write {
                who,
                verb,
                resource: word(&of["resource"]),
                object: word(&of["name"]),
            })
        })
        .collect()
}

fn end(log: &Path) -> Result<u64> {
    let found = std::fs::metadata(log).with_context(|| format!("look at {}", log.display()))?;
    Ok(found.len())
}

fn read(log: &Path, from: u64) -> Result<String> {
    let mut file = File::open(log).with_context(|| format!("open {}", log.display()))?;
    file.seek(SeekFrom::Start(from))
        .with_context(|| format!("find byte {from} of {}", log.display()))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .with_context(|| format!("read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(who: &str, verb: &str, resource: &str, name: &str) -> String {
        json!({
            "user": {"username": who}, "verb": verb,
            "objectRef": {"resource": resource, "name": name},
        })
        .to_string()
            + "\n"
    }

    #[test]
    fn only_our_own_writes_count_and_a_renewal_is_told_from_the_rest() {
        let agent = format!("{OURS}afterglow-agent-default");
        let log = [
            event(&agent, "patch", "leases", "afterglow-node-node1"),
            event(&agent, "get", "gpunodes", "node1"),
            event(&agent, "create", "tokenreviews", ""),
            event("admin", "patch", "modeldeployments", "steady"),
            event("system:node:node1", "update", "leases", "node1"),
            event(&agent, "patch", "gpunodes", "node1"),
            event(&agent, "create", "leases", "afterglow-node-node1"),
            event(&agent, "update", "leases", "somebody-elses"),
            "{\"half a line".to_owned(),
        ]
        .concat();
        let found = writes(&log);
        let shown: Vec<(&str, &str, bool)> = found
            .iter()
            .map(|write| (write.verb.as_str(), write.resource.as_str(), write.renewal()))
            .collect();
        assert_eq!(
            shown,
            [
                ("patch", "leases", true),
                ("patch", "gpunodes", false),
                ("create", "leases", false),
                ("update", "leases", false),
            ]
        );
        assert_eq!(found[0].who, "afterglow-agent-default");
    }
}
