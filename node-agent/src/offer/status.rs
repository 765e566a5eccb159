//! `GpuNode.status`: pure, and the same for the same facts, so that nothing is written when nothing has changed.

use std::collections::BTreeMap;

use afterglow_crds::condition::{self, DEGRADED, READY, State as Condition};
use afterglow_crds::gpu_node::{Device, DeviceType, GpuNodeStatus, TestResult};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::discover::FORBIDDEN;
use crate::lend::{self, State};

/// What is to be said of a node.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Its devices, with what lending makes of them.
    pub devices: &'a [Device],
    /// To whom they belong; a device that is not in here belongs to models.
    pub lending: &'a BTreeMap<String, State>,
    /// What is wrong without keeping a device from serving.
    pub warnings: &'a [String],
    /// Where the load stream is.
    pub address: &'a str,
    /// The generation of the `GpuNode` that this is an answer to.
    pub generation: Option<i64>,
}

/// The status. `old` keeps the times of conditions that have not changed.
pub fn status(facts: &Facts<'_>, old: Option<&GpuNodeStatus>, now: Time) -> GpuNodeStatus {
    let offered = facts.devices.iter().filter(|device| device.offered).count();
    let conditions = [ready(facts, offered), degraded(facts)];
    GpuNodeStatus {
        observed_generation: facts.generation,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        address: Some(facts.address.to_owned()),
        summary: summary(facts.devices),
        offered: offered as i32,
        devices: facts.devices.to_vec(),
        conditions: condition::set(
            old.map_or(&[], |old| &old.conditions),
            &conditions,
            facts.generation,
            now,
        ),
    }
}

/// Whether something is wrong with a device, rather than that it is used otherwise or not wanted.
pub(super) fn faulty(device: &Device) -> bool {
    !device.offered && !lend::sound(device)
}

fn ready(facts: &Facts<'_>, offered: usize) -> Condition {
    if offered > 0 {
        let all = facts.devices.len();
        return Condition::new(
            READY,
            true,
            "Ready",
            format!("{offered} of {all} devices are offered"),
        );
    }
    let lent = facts.lending.values().any(|state| !state.offered());
    let failed = |device: &Device| device.self_test.result == TestResult::Failed;
    let reason = match facts.devices {
        [] => "NoDevices",
        _ if lent => "Lent",
        devices if devices.iter().any(failed) => "SelfTestFailed",
        devices
            if devices
                .iter()
                .all(|device| device.not_offered_because == FORBIDDEN) =>
        {
            "NoCards"
        }
        _ => "DevicesWithheld",
    };
    let message = if facts.devices.is_empty() {
        "no device was found: /sys/class/drm lists no AMD card and OpenCL none either; run `afterglow-agent devices` in \
         the agent's pod"
            .to_owned()
    } else {
        reasons(facts.devices.iter())
    };
    Condition::new(READY, false, reason, message)
}

fn degraded(facts: &Facts<'_>) -> Condition {
    let faulty: Vec<&Device> = facts.devices.iter().filter(|device| faulty(device)).collect();
    let mut message = reasons(faulty.iter().copied());
    for warning in facts.warnings {
        if !message.is_empty() {
            message += "; ";
        }
        message += warning;
    }
    if message.is_empty() {
        return Condition::new(
            DEGRADED,
            false,
            "AsExpected",
            "every device is used as it should be",
        );
    }
    let reason = match &faulty[..] {
        [] => "Warning",
        devices if devices.iter().any(|d| d.self_test.result == TestResult::Failed) => "SelfTestFailed",
        _ => "DevicesWithheld",
    };
    Condition::new(DEGRADED, true, reason, message)
}

fn reasons<'a>(devices: impl Iterator<Item = &'a Device>) -> String {
    devices
        .map(|device| format!("{}: {}", device.name, device.not_offered_because))
        .collect::<Vec<_>>()
        .join("; ")
}

/// `2 × AMD Radeon RX 580 Series, 1 × Intel(R) Xeon(R) Processor (CPU)`.
fn summary(devices: &[Device]) -> String {
    let mut products: Vec<(String, usize)> = Vec::new();
    for device in devices {
        let mut product = device.product_name.clone();
        if device.type_ == DeviceType::Cpu {
            product += " (CPU)";
        }
        match products.iter_mut().find(|(name, _)| *name == product) {
            Some((_, count)) => *count += 1,
            None => products.push((product, 1)),
        }
    }
    products
        .into_iter()
        .map(|(product, count)| format!("{count} × {product}"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use afterglow_crds::gpu_node::SelfTest;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn card(name: &str, because: &str) -> Device {
        Device {
            name: name.into(),
            type_: DeviceType::Gpu,
            product_name: "AMD Radeon RX 580 Series".into(),
            offered: because.is_empty(),
            not_offered_because: because.into(),
            ..Device::default()
        }
    }

    fn failed(name: &str) -> Device {
        let mut device = card(name, "it failed its self-test: wrong");
        device.self_test = SelfTest {
            result: TestResult::Failed,
            message: "wrong".into(),
            ..SelfTest::default()
        };
        device
    }

    fn of(
        devices: &[Device],
        lending: &[(&str, State)],
        warnings: &[String],
        old: Option<&GpuNodeStatus>,
        at: i64,
    ) -> GpuNodeStatus {
        let lending = lending
            .iter()
            .map(|(name, state)| ((*name).to_owned(), *state))
            .collect();
        let facts = Facts {
            devices,
            lending: &lending,
            warnings,
            address: "10.0.0.1:9400",
            generation: Some(1),
        };
        status(&facts, old, Time(Timestamp::from_second(at).unwrap()))
    }

    fn said(status: &GpuNodeStatus) -> Vec<(&str, &str, &str)> {
        status
            .conditions
            .iter()
            .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
            .collect()
    }

    #[test]
    fn conditions_say_what_is_the_matter() {
        let lent = State::Lent.because();
        let forbidden = Device {
            type_: DeviceType::Cpu,
            ..card("cpu-0", FORBIDDEN)
        };
        for (devices, lending, ready, degraded) in [
            (vec![], vec![], ("False", "NoDevices"), ("False", "AsExpected")),
            (
                vec![card("a", "")],
                vec![],
                ("True", "Ready"),
                ("False", "AsExpected"),
            ),
            (
                vec![failed("a")],
                vec![],
                ("False", "SelfTestFailed"),
                ("True", "SelfTestFailed"),
            ),
            (
                vec![card("a", ""), failed("b")],
                vec![],
                ("True", "Ready"),
                ("True", "SelfTestFailed"),
            ),
            (
                vec![forbidden],
                vec![],
                ("False", "NoCards"),
                ("False", "AsExpected"),
            ),
            (
                vec![card("a", lent)],
                vec![("a", State::Lent)],
                ("False", "Lent"),
                ("False", "AsExpected"),
            ),
            (
                vec![card("a", "it has vanished")],
                vec![],
                ("False", "DevicesWithheld"),
                ("True", "DevicesWithheld"),
            ),
        ] {
            let status = of(&devices, &lending, &[], None, 0);
            assert_eq!(
                said(&status),
                [("Ready", ready.0, ready.1), ("Degraded", degraded.0, degraded.1)],
                "{devices:?}"
            );
        }
        let hot = of(&[card("a", "")], &[], &["a is hot".into()], None, 0);
        assert_eq!(
            said(&hot),
            [("Ready", "True", "Ready"), ("Degraded", "True", "Warning")]
        );
    }

    #[test]
    fn the_same_facts_make_the_same_status_whenever_they_are_looked_at() {
        let devices = [card("a", ""), failed("b")];
        let first = of(&devices, &[], &[], None, 100);
        assert_eq!(of(&devices, &[], &[], Some(&first), 200), first);
        let later = of(&[failed("a"), failed("b")], &[], &[], Some(&first), 300);
        assert_eq!(later.conditions[0].last_transition_time.0.as_second(), 300);
        assert_eq!(
            later.conditions[1].last_transition_time.0.as_second(),
            100,
            "still degraded"
        );
    }

    #[test]
    fn the_summary_counts_products_and_names_processors_as_such() {
        let processor = Device {
            type_: DeviceType::Cpu,
            product_name: "Xeon".into(),
            ..card("cpu-0", FORBIDDEN)
        };
        let status = of(&[card("a", ""), card("b", ""), processor], &[], &[], None, 0);
        assert_eq!(status.summary, "2 × AMD Radeon RX 580 Series, 1 × Xeon (CPU)");
        assert_eq!(status.offered, 2);
        assert_eq!(status.address.as_deref(), Some("10.0.0.1:9400"));
    }
}
