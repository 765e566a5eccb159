//! What there is to pick from for one request, as it is now.

use std::sync::Arc;
use std::time::Instant;

use afterglow_policy::pick::Candidate;

use crate::fleet::{Fleet, Replica};
use crate::load::{Table, Tracker, admissible};
use crate::refusal::{Kind, Refusal};

/// A request as far as routing knows it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) namespace: String,
    pub(crate) model: String,
    /// The revision that the client insists on.
    pub(crate) version: Option<String>,
    /// Requests of one session go to one replica while that is there and not overloaded.
    pub(crate) session: Option<String>,
    pub(crate) bytes: u64,
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
}

/// A replica that may be picked, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) replica: Arc<Replica>,
    pub(crate) tracker: Arc<Tracker>,
    pub(crate) candidate: Candidate,
}

/// The replicas that may answer the call; never empty.
pub(crate) fn snapshot(
    fleet: &Fleet,
    table: &Table,
    call: &Call,
    now: Instant,
) -> Result<Vec<Choice>, Refusal> {
    let ready = ready(fleet, call)?;
    let trackers: Vec<Arc<Tracker>> = ready
        .iter()
        .map(|replica| table.tracker(&replica.engine_model))
        .collect();
    let ejected: Vec<Option<Instant>> = trackers
        .iter()
        .map(|tracker| tracker.ejected_until(now))
        .collect();
    let usable = admissible(&ejected);
    let choices: Vec<(bool, Choice)> = ready
        .into_iter()
        .zip(trackers)
        .zip(usable)
        .filter(|(_, usable)| *usable)
        .map(|((replica, tracker), _)| {
            let load = tracker.load(now);
            let candidate = Candidate {
                id: replica.id.clone(),
                waiting: load.waiting,
                running: load.running,
                max_batch_size: load.max_batch_size.max(1),
                run_microseconds: if load.run_microseconds > 0 {
                    load.run_microseconds
                } else {
                    replica.row_microseconds
                },
                gflops: replica.gflops,
                on_cpu: replica.on_cpu,
                upload_bytes_per_second: replica.upload_bytes_per_second,
                report_age_microseconds: load
                    .age
                    .map_or(u64::MAX, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX)),
            };
            let choice = Choice {
                replica,
                tracker,
                candidate,
            };
            (load.accepts, choice)
        })
        .collect();
    // A node that wants nothing new is left alone, unless there is no other.
    let any = choices.iter().any(|(accepts, _)| *accepts);
    Ok(choices
        .into_iter()
        .filter(|(accepts, _)| *accepts || !any)
        .map(|(_, choice)| choice)
        .collect())
}

/// The model's replicas that the fleet says can answer; else why there are none.
pub(crate) fn ready(fleet: &Fleet, call: &Call) -> Result<Vec<Arc<Replica>>, Refusal> {
    let Call {
        namespace,
        model: name,
        version,
        ..
    } = call;
    if name.is_empty() {
        return Err(Refusal::invalid("the request does not name a model"));
    }
    let model = fleet.model(namespace, name).ok_or_else(|| {
        if !fleet.known {
            return Refusal::unavailable("which models there are is not known yet; try again");
        }
        Refusal::new(
            Kind::NotFound,
            format!("no model `{name}` in namespace `{namespace}`"),
        )
    })?;
    let revision = match version {
        None => None,
        Some(version) => {
            let known = version
                .parse()
                .ok()
                .filter(|revision| model.revisions().contains(revision));
            Some(known.ok_or_else(|| {
                Refusal::new(
                    Kind::NotFound,
                    format!("no version `{version}` of model `{name}` in namespace `{namespace}`"),
                )
            })?)
        }
    };
    let ready: Vec<Arc<Replica>> = model
        .ready
        .iter()
        .filter(|replica| revision.is_none_or(|revision| replica.revision == revision))
        .cloned()
        .collect();
    if ready.is_empty() {
        return Err(Refusal::unavailable(format!(
            "no replica of model `{name}` in namespace `{namespace}` is ready: {}",
            model.because(revision)
        )));
    }
    Ok(ready)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use afterglow_crds::ModelDeployment;
    use serde_json::json;

    use super::*;
    use crate::fleet::objects_for_tests::replica;

    pub(crate) fn call(version: Option<&str>) -> Call {
        let now = Instant::now();
        Call {
            namespace: "team".into(),
            model: "m".into(),
            version: version.map(str::to_owned),
            session: None,
            bytes: 10,
            arrival: now,
            deadline: now + Duration::from_mins(1),
        }
    }

    fn fleet() -> Fleet {
        let replicas = [
            replica("a", |_| {}),
            replica("b", |value| value["spec"]["revision"] = json!(4)),
            replica("c", |value| {
                value["spec"]["revision"] = json!(5);
                value["status"]["conditions"][0]["status"] = json!("False");
                value["status"]["conditions"][0]["reason"] = json!("Probing");
            }),
        ];
        let nodes: [afterglow_crds::GpuNode; 0] = [];
        crate::fleet::from_objects("main", &replicas, &nodes, &[] as &[ModelDeployment])
    }

    fn ids(version: Option<&str>) -> Result<Vec<String>, Kind> {
        let table = Table::default();
        snapshot(&fleet(), &table, &call(version), Instant::now())
            .map(|choices| {
                choices
                    .into_iter()
                    .map(|choice| choice.replica.id.clone())
                    .collect()
            })
            .map_err(|refusal| refusal.kind)
    }

    #[test]
    fn a_version_is_a_revision_and_without_one_any_ready_revision_will_do() {
        assert_eq!(ids(None).unwrap(), ["team/a", "team/b"]);
        assert_eq!(ids(Some("4")).unwrap(), ["team/b"]);
        assert_eq!(
            ids(Some("5")),
            Err(Kind::Unavailable),
            "it exists and is not ready"
        );
        assert_eq!(ids(Some("6")), Err(Kind::NotFound));
        assert_eq!(ids(Some("latest")), Err(Kind::NotFound));
    }

    #[test]
    fn a_model_of_another_namespace_is_not_there() {
        let table = Table::default();
        let mut call = call(None);
        call.namespace = "other".into();
        let refusal = snapshot(&fleet(), &table, &call, Instant::now()).unwrap_err();
        assert_eq!(refusal.kind, Kind::NotFound);
        assert_eq!(refusal.message, "no model `m` in namespace `other`");
    }

    #[test]
    fn before_the_first_view_nobody_says_that_a_model_is_not_there() {
        let refusal = ready(&Fleet::default(), &call(None)).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unavailable);
    }

    #[test]
    fn a_broken_replica_is_left_alone_while_another_works() {
        let (fleet, table, now) = (fleet(), Table::default(), Instant::now());
        table.tracker("team.a").broke(now);
        let left = snapshot(&fleet, &table, &call(None), now).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].replica.id, "team/b");
        table.tracker("team.b").broke(now);
        assert_eq!(
            snapshot(&fleet, &table, &call(None), now).unwrap().len(),
            2,
            "all broken: nothing is known to be better"
        );
    }

    #[test]
    fn a_draining_node_is_left_alone_while_another_takes_requests() {
        let (fleet, table, now) = (fleet(), Table::default(), Instant::now());
        let model = |name: &str| afterglow_proto::load::Model {
            name: name.into(),
            ready: true,
            ..Default::default()
        };
        table.tracker("team.a");
        let report = afterglow_proto::load::Report {
            models: vec![model("team.a")],
            draining: true,
            ..Default::default()
        };
        table.report("n1", &report, now);
        let left = snapshot(&fleet, &table, &call(None), now).unwrap();
        assert_eq!(left[0].replica.id, "team/b");
        assert_eq!(left.len(), 1);
        assert_eq!(
            left[0].candidate.run_microseconds, 900,
            "the probe's, while nothing ran"
        );
    }
}
