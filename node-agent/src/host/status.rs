//! What a replica's status says, from where the replica stands.

use afterglow_crds::condition::{self, READY, State as Condition};
use afterglow_crds::gpu_node::{Device, TestResult};
use afterglow_crds::model_replica::{Endpoint, Fetch, ModelReplica, ModelReplicaStatus, Profile};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::phase::{Phase, State};
use crate::fetch::{Progress, shown};
use crate::lend;

/// Everything that a status is made from.
pub struct View<'a> {
    /// The wish.
    pub replica: &'a ModelReplica,
    /// Where it stands.
    pub state: &'a State,
    /// The device as it is now; `None`: there is no such device here.
    pub device: Option<&'a Device>,
    /// Whether the devices were looked for already.
    pub looked: bool,
    /// Where its engine answers, once it has one.
    pub endpoint: Option<&'a Endpoint>,
    /// How far its fetch is.
    pub progress: Option<Progress>,
    /// What its probe measured.
    pub profile: Option<&'a Profile>,
}

/// What keeps a device from serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The condition's reason.
    pub reason: &'static str,
    /// What, where, and what to do.
    pub message: String,
    /// Something is wrong with it: what serves on it already must not go on.
    pub grave: bool,
}

/// What keeps `device` (called `name`) from serving. Before anybody has looked for devices, none is missing: an agent that
/// starts anew must not have its replicas moved away.
pub fn trouble(name: &str, device: Option<&Device>, looked: bool) -> Option<Trouble> {
    match device {
        None if !looked => Some(Trouble {
            reason: "Loading",
            message: "the agent has started and is looking for the node's devices and testing them"
                .to_owned(),
            grave: true,
        }),
        None => Some(Trouble {
            reason: "DeviceUnknown",
            message: format!(
                "this node has no device `{name}`; `kubectl describe gpunode` shows those that it has"
            ),
            grave: true,
        }),
        Some(device) if device.self_test.result == TestResult::Failed => Some(Trouble {
            reason: "DeviceUnhealthy",
            message: format!("{name} fails its self-test: {}", device.self_test.message),
            grave: true,
        }),
        Some(device) if !device.offered => Some(Trouble {
            reason: "DeviceUnhealthy",
            message: format!(
                "{name} is not offered for serving: {}",
                device.not_offered_because
            ),
            // What is about to be lent, or is not wanted for new models, computes right and serves what it has.
            grave: !lend::sound(device),
        }),
        Some(_) => None,
    }
}

/// The status, with times of changes taken over from `old`.
pub fn status(view: &View<'_>, old: &ModelReplicaStatus, now: Time) -> ModelReplicaStatus {
    let generation = view.replica.metadata.generation;
    let phase = view.state.phase;
    let spec = &view.replica.spec;
    let serving = matches!(phase, Phase::Ready | Phase::Draining);
    let progress = view.progress.filter(|_| phase == Phase::Fetching);
    ModelReplicaStatus {
        observed_generation: generation,
        endpoint: view.endpoint.filter(|_| serving).cloned(),
        device_type: view.device.map(|device| device.type_).or(old.device_type),
        fetch: progress.map(|progress| Fetch {
            bytes: i64::try_from(progress.bytes).unwrap_or(i64::MAX),
            total_bytes: progress.total.and_then(|total| i64::try_from(total).ok()),
        }),
        profile: view.profile.cloned(),
        conditions: condition::set(&old.conditions, &[ready(view, &spec.device)], generation, now),
    }
}

fn ready(view: &View<'_>, device: &str) -> Condition {
    let phase = view.state.phase;
    let source = shown(&view.replica.spec.model.source.uri);
    let no = |reason: &str, message: String| Condition::new(READY, false, reason, message);
    match phase {
        Phase::Draining => {
            return no(
                "Draining",
                "running requests finish, then the engine frees it".to_owned(),
            );
        }
        Phase::Released => return no("Draining", "the engine has freed it".to_owned()),
        _ => {}
    }
    if let Some(trouble) = trouble(device, view.device, view.looked)
        && (trouble.grave || phase != Phase::Ready)
    {
        return no(trouble.reason, trouble.message);
    }
    if let Some(failure) = &view.state.failure {
        return no(failure.reason, failure.message.clone());
    }
    match phase {
        Phase::Fetching => no("Fetching", format!("fetching `{source}`")),
        Phase::Probing => no(
            "Probing",
            format!("trying the model on {device}: compared with the CPU, then measured"),
        ),
        Phase::Loading => no("Loading", format!("the engine of {device} loads it")),
        _ => Condition::new(READY, true, "Ready", format!("answers on {device}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::{Failure, Retry};
    use crate::host::phase::Event;
    use afterglow_crds::gpu_node::SelfTest;

    fn replica() -> ModelReplica {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": "m-1-abcde", "namespace": "team", "generation": 1},
            "spec": {
                "cluster": "c", "nodeName": "n", "device": "gpu-0", "revision": 1, "memory": "1Gi",
                "model": {"name": "m", "source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap()
    }

    fn device(offered: bool, result: TestResult) -> Device {
        Device {
            name: "gpu-0".into(),
            offered,
            not_offered_because: if offered {
                String::new()
            } else {
                lend::State::Lent.because().into()
            },
            self_test: SelfTest {
                result,
                ..SelfTest::default()
            },
            ..serde_json::from_value(serde_json::json!({
                "name": "", "type": "GPU", "productName": "", "memory": "8Gi"
            }))
            .unwrap()
        }
    }

    fn time(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn reason(state: &State, device: Option<&Device>) -> (String, String) {
        told(state, device, true)
    }

    fn told(state: &State, device: Option<&Device>, looked: bool) -> (String, String) {
        let replica = replica();
        let view = View {
            replica: &replica,
            state,
            device,
            looked,
            endpoint: None,
            progress: None,
            profile: None,
        };
        let status = status(&view, &ModelReplicaStatus::default(), time(1));
        let ready = condition::find(&status.conditions, READY).unwrap();
        (ready.status.clone(), ready.reason.clone())
    }

    /// Fetched, tried and loaded.
    fn serving() -> State {
        State::default()
            .step(Event::Done)
            .step(Event::Done)
            .step(Event::Done)
    }

    #[test]
    fn a_condition_says_what_is_done_or_what_went_wrong() {
        let fine = device(true, TestResult::Passed);
        let mut state = State::default();
        for expected in ["Fetching", "Probing", "Loading"] {
            assert_eq!(reason(&state, Some(&fine)), ("False".into(), expected.into()));
            state = state.step(Event::Done);
        }
        assert_eq!(reason(&state, Some(&fine)), ("True".into(), "Ready".into()));
        let failed = State::default().step(Event::Failed(Failure::new(
            "SourceNotFound",
            Retry::Slowly,
            "404",
        )));
        assert_eq!(reason(&failed, Some(&fine)).1, "SourceNotFound");
        assert_eq!(
            reason(&state.clone().step(Event::Deleted), Some(&fine)).1,
            "Draining"
        );
    }

    #[test]
    fn a_wrong_device_stops_what_serves_and_a_lent_one_only_what_would_come() {
        let ready = serving();
        let lent = device(false, TestResult::Passed);
        assert_eq!(reason(&ready, Some(&lent)).1, "Ready");
        assert_eq!(reason(&State::default(), Some(&lent)).1, "DeviceUnhealthy");
        let wrong = device(false, TestResult::Failed);
        assert_eq!(reason(&ready, Some(&wrong)).1, "DeviceUnhealthy");
        assert_eq!(reason(&ready, None).1, "DeviceUnknown");
    }

    #[test]
    fn a_card_that_is_too_hot_or_does_not_answer_stops_what_serves_until_it_is_well() {
        let ready = serving();
        for because in [
            "it is too hot (95 °C or more)",
            "its sensors do not answer",
            "it has vanished",
        ] {
            let mut ill = device(false, TestResult::Passed);
            because.clone_into(&mut ill.not_offered_because);
            assert_eq!(
                reason(&ready, Some(&ill)),
                ("False".into(), "DeviceUnhealthy".into()),
                "{because}"
            );
        }
        let mut unwanted = device(false, TestResult::Passed);
        crate::discover::FORBIDDEN.clone_into(&mut unwanted.not_offered_because);
        assert_eq!(reason(&ready, Some(&unwanted)).1, "Ready");
        assert_eq!(reason(&ready, Some(&device(true, TestResult::Passed))).1, "Ready");
    }

    #[test]
    fn an_address_is_shown_without_what_signs_it() {
        let mut replica = replica();
        replica.spec.model.source.uri = "https://h/m.onnx?X-Amz-Signature=secret".into();
        let (fine, state) = (device(true, TestResult::Passed), State::default());
        let view = View {
            replica: &replica,
            state: &state,
            device: Some(&fine),
            looked: true,
            endpoint: None,
            progress: None,
            profile: None,
        };
        let status = status(&view, &ModelReplicaStatus::default(), time(1));
        assert_eq!(status.conditions[0].message, "fetching `https://h/m.onnx`");
    }

    #[test]
    fn before_anybody_has_looked_no_device_is_missing() {
        let reason = told(&State::default(), None, false);
        assert_eq!(reason, ("False".into(), "Loading".into()));
        assert_eq!(told(&State::default(), None, true).1, "DeviceUnknown");
    }

    #[test]
    fn the_same_facts_make_the_same_status_at_another_time() {
        let (replica, fine, state) = (replica(), device(true, TestResult::Passed), State::default());
        let view = View {
            replica: &replica,
            state: &state,
            device: Some(&fine),
            looked: true,
            endpoint: None,
            progress: Some(Progress {
                bytes: 5,
                total: Some(9),
            }),
            profile: None,
        };
        let first = status(&view, &ModelReplicaStatus::default(), time(1));
        assert_eq!(
            first.fetch,
            Some(Fetch {
                bytes: 5,
                total_bytes: Some(9)
            })
        );
        assert_eq!(status(&view, &first, time(2)), first);
    }
}
