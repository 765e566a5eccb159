//! The `ResourceSlice`: how pods that are not ours see the devices. What serves models is in it, tainted, so that people see
//! that it exists and no claim gets it.

use std::collections::BTreeMap;

use afterglow_crds::gpu_node::{Device, DeviceType};
use afterglow_crds::labels::{self, DRIVER, SERVING_TAINT};
use k8s_openapi::api::resource::v1 as resource;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::discover::{Inventory, UNTESTED};
use crate::lend::State;

/// A taint makes this the most that a slice may hold.
const MOST: usize = 64;
/// The longest string attribute.
const LONGEST: usize = 64;

/// Name of the node's slice.
pub(super) fn name(node: &str) -> String {
    labels::slice(node)
}

/// The devices of the slice: those that passed their test and are well, and those that a pod has had since before this agent came,
/// which could not be tested. Where the API server does not keep taints, those that
/// serve models cannot be shown at all.
pub(super) fn devices(
    inventory: &Inventory,
    lending: &BTreeMap<String, State>,
    taints_kept: bool,
) -> Vec<resource::Device> {
    inventory
        .devices
        .iter()
        .filter_map(|device| {
            let state = lending.get(&device.name).copied().unwrap_or_default();
            let is_held = matches!(state, State::Lent | State::Reclaiming);
            let shown = device.offered || (is_held && device.not_offered_because == UNTESTED);
            shown.then_some((device, state.tainted()))
        })
        .filter_map(|(device, tainted)| {
            let card = inventory.card_indices.get(&device.name).copied();
            (taints_kept || !tainted).then(|| entry(device, card, tainted))
        })
        .take(MOST)
        .collect()
}

/// The slice's spec: `old` with these devices, one generation on; `None` if it says so already.
pub(super) fn next(
    node: &str,
    devices: Vec<resource::Device>,
    old: Option<&resource::ResourceSliceSpec>,
) -> Option<resource::ResourceSliceSpec> {
    let known = old.map(|old| old.devices.clone().unwrap_or_default());
    if known.is_some_and(|known| without_times(known) == devices) {
        return None;
    }
    Some(resource::ResourceSliceSpec {
        driver: DRIVER.to_owned(),
        node_name: Some(node.to_owned()),
        pool: resource::ResourcePool {
            name: node.to_owned(),
            generation: old.map_or(1, |old| old.pool.generation + 1),
            resource_slice_count: 1,
        },
        devices: Some(devices),
        ..resource::ResourceSliceSpec::default()
    })
}

/// Whether what came back still has every taint that was sent.
pub(super) fn kept_taints(sent: &[resource::Device], back: &[resource::Device]) -> bool {
    sent.iter().all(|sent| {
        sent.taints.is_none()
            || back.iter().any(|back| {
                back.name == sent.name && back.taints.as_ref().is_some_and(|taints| !taints.is_empty())
            })
    })
}

/// The server writes into each taint when it was added.
fn without_times(mut devices: Vec<resource::Device>) -> Vec<resource::Device> {
    for taint in devices
        .iter_mut()
        .filter_map(|device| device.taints.as_mut())
        .flatten()
    {
        taint.time_added = None;
    }
    devices
}

fn entry(device: &Device, card: Option<u32>, tainted: bool) -> resource::Device {
    let mut attributes = BTreeMap::new();
    let mut text = |name: &str, value: Option<&str>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let attribute = resource::DeviceAttribute {
                string: Some(value.chars().take(LONGEST).collect()),
                ..resource::DeviceAttribute::default()
            };
            attributes.insert(name.to_owned(), attribute);
        }
    };
    let kind = match device.type_ {
        DeviceType::Gpu => "GPU",
        DeviceType::Cpu => "CPU",
    };
    let family = format!("{:?}", device.family);
    let address = device.pci_address.as_deref();
    text("type", Some(kind));
    text("family", Some(&family));
    text("productName", Some(&ascii(&device.product_name)));
    text("pciAddr", address);
    text("resource.kubernetes.io/pciBusID", address);
    text(
        "deviceID",
        device.pci_id.as_deref().and_then(|id| id.split(':').nth(1)),
    );
    text("openclVersion", Some(&device.opencl_version));
    if let Some(version) = semantic(&device.driver) {
        let attribute = resource::DeviceAttribute {
            version: Some(version),
            ..resource::DeviceAttribute::default()
        };
        attributes.insert("driverVersion".to_owned(), attribute);
    }
    let render = device
        .render_node
        .as_deref()
        .and_then(|path| path.rsplit_once("renderD")?.1.parse().ok());
    for (name, index) in [("cardIndex", card.map(i64::from)), ("renderIndex", render)] {
        if index.is_some() {
            let attribute = resource::DeviceAttribute {
                int: index,
                ..resource::DeviceAttribute::default()
            };
            attributes.insert(name.to_owned(), attribute);
        }
    }
    let capacity = |value: Quantity| resource::DeviceCapacity {
        value,
        ..resource::DeviceCapacity::default()
    };
    resource::Device {
        name: device.name.clone(),
        attributes: Some(attributes),
        capacity: Some(BTreeMap::from([
            ("memory".to_owned(), capacity(device.memory.clone())),
            (
                "computeUnits".to_owned(),
                capacity(Quantity(device.compute_units.to_string())),
            ),
        ])),
        taints: tainted.then(|| {
            vec![resource::DeviceTaint {
                key: SERVING_TAINT.to_owned(),
                value: Some("true".to_owned()),
                effect: "NoSchedule".to_owned(),
                time_added: None,
            }]
        }),
        ..resource::Device::default()
    }
}

fn ascii(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii() && !c.is_ascii_control())
        .collect()
}

/// `rusticl 25.0.7` → `25.0.7`, `Portable Computing Language 3.1` → `3.1.0`: what CEL can compare.
fn semantic(driver: &str) -> Option<String> {
    let version = driver.rsplit_once(' ')?.1;
    let mut numbers: Vec<u64> = version
        .split('.')
        .map_while(|part| part.parse().ok())
        .take(3)
        .collect();
    if numbers.is_empty() {
        return None;
    }
    numbers.resize(3, 0);
    Some(format!("{}.{}.{}", numbers[0], numbers[1], numbers[2]))
}

#[cfg(test)]
mod tests {
    use afterglow_crds::gpu_node::Family;

    use super::*;

    fn card(name: &str, offered: bool) -> Device {
        Device {
            name: name.into(),
            type_: DeviceType::Gpu,
            family: Family::Polaris,
            product_name: "AMD Radeon RX 580 Series".into(),
            pci_address: Some("0000:01:00.0".into()),
            pci_id: Some("1002:67df:e7".into()),
            compute_units: 36,
            memory: Quantity("8Gi".into()),
            driver: "rusticl 25.0.7".into(),
            opencl_version: "3.0".into(),
            render_node: Some("/dev/dri/renderD128".into()),
            offered,
            ..Device::default()
        }
    }

    fn inventory(devices: &[Device]) -> Inventory {
        Inventory {
            devices: devices.to_vec(),
            card_indices: BTreeMap::from([("gpu-a".to_owned(), 0)]),
            warnings: Vec::new(),
        }
    }

    fn named(devices: &[resource::Device]) -> Vec<(&str, bool)> {
        devices
            .iter()
            .map(|d| (d.name.as_str(), d.taints.is_some()))
            .collect()
    }

    #[test]
    fn a_card_is_shown_with_everything_that_a_claim_may_ask_for() {
        let devices = devices(&inventory(&[card("gpu-a", true)]), &BTreeMap::new(), true);
        let json = serde_json::to_value(&devices[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "name": "gpu-a",
                "attributes": {
                    "type": {"string": "GPU"},
                    "family": {"string": "Polaris"},
                    "productName": {"string": "AMD Radeon RX 580 Series"},
                    "pciAddr": {"string": "0000:01:00.0"},
                    "resource.kubernetes.io/pciBusID": {"string": "0000:01:00.0"},
                    "deviceID": {"string": "67df"},
                    "driverVersion": {"version": "25.0.7"},
                    "openclVersion": {"string": "3.0"},
                    "cardIndex": {"int": 0},
                    "renderIndex": {"int": 128},
                },
                "capacity": {"memory": {"value": "8Gi"}, "computeUnits": {"value": "36"}},
                "taints": [{"key": "afterglow.dev/serving", "value": "true", "effect": "NoSchedule"}],
            })
        );
    }

    #[test]
    fn only_a_lent_device_is_free_and_a_faulty_one_is_not_shown() {
        let inventory = inventory(&[card("gpu-a", true), card("gpu-b", true), card("gpu-c", false)]);
        let lending = BTreeMap::from([("gpu-b".to_owned(), State::Lendable)]);
        assert_eq!(
            named(&devices(&inventory, &lending, true)),
            [("gpu-a", true), ("gpu-b", false)]
        );
        assert_eq!(
            named(&devices(&inventory, &lending, false)),
            [("gpu-b", false)],
            "where taints are dropped, what serves models must not be there to claim"
        );
        for state in [State::Draining, State::Reclaiming] {
            let lending = BTreeMap::from([("gpu-b".to_owned(), state)]);
            assert_eq!(
                named(&devices(&inventory, &lending, true))[1],
                ("gpu-b", true),
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_device_that_nobody_has_tested_is_shown_only_while_a_pod_has_it() {
        let mut untested = card("gpu-a", false);
        UNTESTED.clone_into(&mut untested.not_offered_because);
        let inventory = inventory(&[untested]);
        for state in State::ALL {
            let lending = BTreeMap::from([("gpu-a".to_owned(), state)]);
            let shown = named(&devices(&inventory, &lending, true)).len() == 1;
            assert_eq!(
                shown,
                matches!(state, State::Lent | State::Reclaiming),
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_generation_passes_only_when_the_devices_change() {
        let inventory = inventory(&[card("gpu-a", true)]);
        let now = devices(&inventory, &BTreeMap::new(), true);
        let first = next("rig", now.clone(), None).unwrap();
        assert_eq!((first.pool.generation, first.pool.name.as_str()), (1, "rig"));
        let mut stored = first.clone();
        stored.devices.as_mut().unwrap()[0].taints.as_mut().unwrap()[0].time_added = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
        );
        assert_eq!(
            next("rig", now.clone(), Some(&stored)),
            None,
            "the server's own times are no change"
        );
        let second = next("rig", Vec::new(), Some(&stored)).unwrap();
        assert_eq!(second.pool.generation, 2);
        assert!(kept_taints(&now, stored.devices.as_ref().unwrap()));
        let mut dropped = now.clone();
        dropped[0].taints = None;
        assert!(!kept_taints(&now, &dropped));
    }

    #[test]
    fn drivers_versions_become_comparable() {
        for (driver, version) in [
            ("rusticl 25.0.7", Some("25.0.7")),
            ("Portable Computing Language 3.1", Some("3.1.0")),
            ("Portable Computing Language 6.0-pre", Some("6.0.0")),
            ("amdgpu", None),
        ] {
            assert_eq!(semantic(driver).as_deref(), version, "{driver}");
        }
    }
}
