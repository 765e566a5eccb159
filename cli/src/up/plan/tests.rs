//! Plans as tables.

use afterglow_agent::host::Reported;
use afterglow_crds::model_replica::ModelReplicaStatus;
use serde_json::json;

use super::*;

fn now() -> Time {
    Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)
}

fn wanted(uri: &str, replicas: i32) -> Wanted {
    let deployment = serde_json::from_value(json!({
        "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelDeployment",
        "metadata": {"name": "m", "namespace": "default"},
        "spec": {"cluster": "default", "replicas": replicas,
            "model": {"source": {"uri": uri, "digest": format!("sha256:{uri}")}}},
    }));
    Wanted {
        deployment: deployment.unwrap(),
        revision: None,
        bytes: Some(100),
    }
}

fn device(name: &str, type_: DeviceType) -> Device {
    Device {
        name: name.into(),
        type_,
        memory: quantity(1 << 30),
        offered: true,
        ..Device::default()
    }
}

fn cards() -> [Device; 2] {
    [device("gpu-0", DeviceType::Gpu), device("gpu-1", DeviceType::Gpu)]
}

/// Reports every replica that is not being deleted with a reason; those that are, as released.
fn report(plan: &Plan, reason: &str) -> Statuses {
    plan.replicas
        .iter()
        .map(|replica| {
            let state = State::new(READY, reason == "Ready", reason, "because");
            let reported = Reported {
                uid: replica.metadata.uid.clone(),
                status: ModelReplicaStatus {
                    conditions: condition::set(&[], &[state], None, now()),
                    ..ModelReplicaStatus::default()
                },
                engine_released: replica.metadata.deletion_timestamp.is_some(),
            };
            (replica_key(replica), reported)
        })
        .collect()
}

fn step(plan: &mut Plan, wanted: &[Wanted], statuses: &Statuses) -> Vec<Standing> {
    plan.step(wanted, &cards(), CpuFallback::Forbidden, statuses, &now())
        .into_iter()
        .map(|(_, standing)| standing)
        .collect()
}

fn alive(plan: &Plan) -> Vec<(i64, String)> {
    plan.replicas
        .iter()
        .filter(|replica| replica.metadata.deletion_timestamp.is_none())
        .map(|replica| (replica.spec.revision, replica.spec.device.clone()))
        .collect()
}

#[test]
fn a_deployment_gets_its_replicas_once_each_on_a_device_of_its_own() {
    let mut plan = Plan::default();
    let wanted = [wanted("a", 2)];
    assert_eq!(step(&mut plan, &wanted, &Statuses::new()), [Standing::Working]);
    let devices: BTreeSet<String> = alive(&plan).into_iter().map(|(_, device)| device).collect();
    assert_eq!(devices.len(), 2);
    let statuses = report(&plan, "Ready");
    assert_eq!(step(&mut plan, &wanted, &statuses), [Standing::Ready]);
    assert_eq!(plan.replicas.len(), 2, "nothing more is made");
}

#[test]
fn a_new_revision_takes_over_when_it_answers_and_not_before() {
    let mut plan = Plan::default();
    step(&mut plan, &[wanted("a", 1)], &Statuses::new());
    let ready = report(&plan, "Ready");
    step(&mut plan, &[wanted("b", 1)], &ready);
    assert_eq!(
        alive(&plan)
            .iter()
            .map(|(revision, _)| *revision)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let statuses = report(&plan, "Ready");
    step(&mut plan, &[wanted("b", 1)], &statuses);
    assert_eq!(
        alive(&plan)
            .iter()
            .map(|(revision, _)| *revision)
            .collect::<Vec<_>>(),
        [2]
    );
    let statuses = report(&plan, "Ready");
    step(&mut plan, &[wanted("b", 1)], &statuses);
    assert_eq!(plan.replicas.len(), 1, "what the engine let go of is gone");
}

#[test]
fn what_is_not_wanted_any_more_goes() {
    let mut plan = Plan::default();
    step(&mut plan, &[wanted("a", 1)], &Statuses::new());
    let statuses = report(&plan, "Ready");
    step(&mut plan, &[], &statuses);
    assert!(alive(&plan).is_empty());
    let statuses = report(&plan, "Ready");
    step(&mut plan, &[], &statuses);
    assert!(plan.replicas.is_empty());
}

#[test]
fn a_model_that_fails_on_every_device_is_given_up_with_the_reason() {
    let mut plan = Plan::default();
    let wanted = [wanted("a", 1)];
    let mut standing = step(&mut plan, &wanted, &Statuses::new());
    for _ in 0..4 {
        let statuses = report(&plan, "ProbeMismatch");
        standing = step(&mut plan, &wanted, &statuses);
    }
    assert_eq!(standing, [Standing::Failed("ProbeMismatch: because".into())]);
    assert!(plan.replicas.len() <= 2, "it is not tried again where it failed");
}

#[test]
fn a_source_at_fault_is_not_fetched_by_another_device() {
    let mut plan = Plan::default();
    let wanted = [wanted("a", 1)];
    step(&mut plan, &wanted, &Statuses::new());
    let statuses = report(&plan, "DigestMismatch");
    let standing = step(&mut plan, &wanted, &statuses);
    assert_eq!(standing, [Standing::Failed("DigestMismatch: because".into())]);
    assert_eq!(plan.replicas.len(), 1);
}

#[test]
fn a_processor_serves_only_where_it_may() {
    let mut plan = Plan::default();
    let cpu = [device("cpu-0", DeviceType::Cpu)];
    let wanted = [wanted("a", 1)];
    let forbidden = plan.step(&wanted, &cpu, CpuFallback::Forbidden, &Statuses::new(), &now());
    assert!(matches!(&forbidden[0].1, Standing::Failed(_)), "{forbidden:?}");
    let allowed = plan.step(&wanted, &cpu, CpuFallback::Allowed, &Statuses::new(), &now());
    assert_eq!(allowed[0].1, Standing::Working);
    assert_eq!(alive(&plan)[0].1, "cpu-0");
}
