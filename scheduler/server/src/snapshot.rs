//! What there is to pick from for one request, as it is now.

use std::sync::Arc;
use std::time::Instant;

use afterglow_policy::breaker::{Health, Standing, tiers};
use afterglow_policy::pick::Candidate;

use crate::fleet::{Fleet, Replica};
use crate::load::{Table, Tracker};
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
    /// Whether it is what replicas are for; questions about a model are not.
    pub(crate) inference: bool,
    pub(crate) arrival: Instant,
    pub(crate) deadline: Instant,
}

/// A replica that may be picked, and what is known of it.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub(crate) replica: Arc<Replica>,
    pub(crate) tracker: Arc<Tracker>,
    /// Whether a request that goes there goes to see whether it is well again.
    pub(crate) probes: bool,
    pub(crate) candidate: Candidate,
}

/// The replicas that may answer the call, each with what speaks against it; never empty. `engine` says how the engine at an address
/// stands.
pub(crate) fn snapshot(
    fleet: &Fleet,
    table: &Table,
    engine: impl Fn(&str) -> Standing,
    call: &Call,
    now: Instant,
) -> Result<Vec<Choice>, Refusal> {
    let ready = ready(fleet, call)?;
    let (healths, mut choices): (Vec<Health>, Vec<Choice>) = ready
        .into_iter()
        .map(|replica| {
            let tracker = table.tracker(&replica.engine_model, &replica.node);
            let engine = engine(&replica.grpc);
            let load = tracker.load(now);
            let health = Health {
                standing: tracker.health.standing(now).max(engine),
                accepts: load.accepts,
                silent: table.silent(&replica.node, now),
            };
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
                tier: 0,
            };
            let choice = Choice {
                replica,
                tracker,
                probes: health.standing == Standing::MayProbe,
                candidate,
            };
            (health, choice)
        })
        .unzip();
    for (choice, tier) in choices.iter_mut().zip(tiers(&healths)) {
        choice.candidate.tier = tier;
    }
    Ok(choices)
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
    use afterglow_policy::breaker::Event;
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
            inference: true,
            arrival: now,
            deadline: now + Duration::from_mins(1),
        }
    }

    pub(crate) fn fleet() -> Fleet {
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
        snapshot(
            &fleet(),
            &table,
            |_| Standing::Well,
            &call(version),
            Instant::now(),
        )
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
        let refusal = snapshot(&fleet(), &table, |_| Standing::Well, &call, Instant::now()).unwrap_err();
        assert_eq!(refusal.kind, Kind::NotFound);
        assert_eq!(refusal.message, "no model `m` in namespace `other`");
    }

    #[test]
    fn before_the_first_view_nobody_says_that_a_model_is_not_there() {
        let refusal = ready(&Fleet::default(), &call(None)).unwrap_err();
        assert_eq!(refusal.kind, Kind::Unavailable);
    }

    fn tiers_of(fleet: &Fleet, table: &Table, now: Instant) -> Vec<(String, u8)> {
        let choices = snapshot(fleet, table, |_| Standing::Well, &call(None), now).unwrap();
        let tier = |choice: Choice| (choice.replica.id.clone(), choice.candidate.tier);
        choices.into_iter().map(tier).collect()
    }

    #[test]
    fn a_replica_without_its_model_is_left_alone_while_another_works() {
        let (fleet, table, now) = (fleet(), Table::default(), Instant::now());
        table.tracker("team.a", "n1").health.learn(Event::NotThere, now);
        let tiers = tiers_of(&fleet, &table, now);
        assert_eq!(tiers, [("team/a".to_owned(), 3), ("team/b".to_owned(), 0)]);
        let later = now + Duration::from_secs(1);
        let choices = snapshot(&fleet, &table, |_| Standing::Well, &call(None), later).unwrap();
        assert!(choices[0].probes && choices[0].candidate.tier == 0, "one may see");
    }

    #[test]
    fn a_draining_node_is_left_alone_while_another_takes_requests() {
        let (mut fleet, table, now) = (fleet(), Table::default(), Instant::now());
        let model = fleet
            .models
            .get_mut("team")
            .and_then(|models| models.get_mut("m"));
        Arc::make_mut(&mut model.unwrap().ready[1]).node = "n2".into();
        table.keep(&fleet, now);
        let report = afterglow_proto::load::Report {
            models: vec![afterglow_proto::load::Model {
                name: "team.a".into(),
                ready: true,
                ..Default::default()
            }],
            draining: true,
            ..Default::default()
        };
        table.report("n1", &report, now);
        let tiers = tiers_of(&fleet, &table, now);
        assert_eq!(tiers, [("team/a".to_owned(), 2), ("team/b".to_owned(), 0)]);
        let choices = snapshot(&fleet, &table, |_| Standing::Well, &call(None), now).unwrap();
        assert_eq!(
            choices[0].candidate.run_microseconds, 900,
            "the probe's, while nothing ran"
        );
    }
}
