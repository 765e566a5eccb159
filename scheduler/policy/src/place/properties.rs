//! What holds for any fleet.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Closed, Device, Fleet, Kind, Node, Resident, Wish, place};

fn resident() -> impl Strategy<Value = Resident> {
    (0..3_u8, 0..3_u8, 0..6_u64).prop_map(|(deployment, digest, memory)| Resident {
        deployment: format!("team/{deployment}"),
        digest: format!("sha256:{digest}"),
        memory,
    })
}

fn device() -> impl Strategy<Value = Device> {
    (
        any::<bool>(),
        prop_oneof![Just("Polaris"), Just("Vega"), Just("Other")],
        0..16_u64,
        prop::bool::weighted(0.8),
        0..3_u64,
        prop::collection::vec(resident(), 0..3),
    )
        .prop_map(|(gpu, family, memory, offered, gflops, residents)| Device {
            kind: if gpu { Kind::Gpu } else { Kind::Cpu },
            family: family.to_owned(),
            memory,
            offered: if offered { Ok(()) } else { Err("broken".to_owned()) },
            gflops: gflops * 1_000,
            residents,
        })
}

fn node() -> impl Strategy<Value = Node> {
    (
        prop::option::weighted(
            0.2,
            prop_oneof![
                Just(Closed::Cordoned),
                Just(Closed::Silent),
                Just(Closed::Leaving)
            ],
        ),
        any::<bool>(),
        prop::collection::btree_map("gpu-[0-3]", device(), 0..4),
    )
        .prop_map(|(closed, labelled, devices)| Node {
            labels: if labelled {
                [("zone".to_owned(), "a".to_owned())].into()
            } else {
                BTreeMap::new()
            },
            closed,
            devices,
        })
}

fn fleet() -> impl Strategy<Value = Fleet> {
    prop::collection::btree_map("n[0-5]", node(), 0..6).prop_map(|nodes| Fleet { nodes })
}

fn wish() -> impl Strategy<Value = Wish> {
    (
        (0..3_u8, 0..3_u8, 0..8_u64),
        prop::collection::btree_set(
            prop_oneof![Just("Polaris".to_owned()), Just("Vega".to_owned())],
            0..2,
        ),
        any::<bool>(),
        any::<bool>(),
        prop::collection::btree_map(("n[0-5]", "gpu-[0-3]"), Just("ProbeFailed".to_owned()), 0..4),
        prop::collection::btree_map(("n[0-5]", "gpu-[0-3]"), 0..5_000_u64, 0..4),
    )
        .prop_map(
            |((deployment, digest, memory), families, selects, cpu_allowed, failed_on, measured)| Wish {
                deployment: format!("team/{deployment}"),
                digest: format!("sha256:{digest}"),
                memory,
                families,
                node_selector: if selects {
                    [("zone".to_owned(), "a".to_owned())].into()
                } else {
                    BTreeMap::new()
                },
                cpu_allowed,
                failed_on,
                measured,
            },
        )
}

/// What the deployment has on a node.
fn ours(node: &Node, wish: &Wish) -> usize {
    node.devices
        .values()
        .flat_map(|device| &device.residents)
        .filter(|resident| resident.deployment == wish.deployment)
        .count()
}

proptest! {
    #[test]
    fn a_placement_keeps_every_requirement(fleet in fleet(), wish in wish()) {
        if let Ok(placement) = place(&fleet, &wish) {
            let node = &fleet.nodes[&placement.node];
            let device = &node.devices[&placement.device];
            prop_assert_eq!(node.closed, None);
            prop_assert!(wish.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value)));
            prop_assert!(device.offered.is_ok());
            prop_assert!(wish.families.is_empty() || wish.families.contains(&device.family));
            prop_assert!(wish.cpu_allowed || device.kind == Kind::Gpu);
            prop_assert!(!wish.failed_on.contains_key(&(placement.node.clone(), placement.device.clone())));
        }
    }

    #[test]
    fn placing_until_nothing_fits_never_promises_more_than_there_is(fleet in fleet(), wish in wish()) {
        let mut fleet = fleet;
        // What was overcommitted before, by somebody else, stays as it is.
        let before: BTreeMap<_, u64> = used(&fleet);
        let wish = Wish { memory: wish.memory.max(1), ..wish };
        for _ in 0..512 {
            let Ok(placement) = place(&fleet, &wish) else { break };
            fleet.put(&placement, &wish);
        }
        prop_assert!(place(&fleet, &wish).is_err());
        for (place, after) in used(&fleet) {
            let device = &fleet.nodes[&place.0].devices[&place.1];
            prop_assert!(after == before[&place] || after <= device.memory);
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer(fleet in fleet(), wish in wish()) {
        prop_assert_eq!(place(&fleet, &wish), place(&fleet.clone(), &wish.clone()));
    }

    #[test]
    fn every_device_is_accounted_for_when_none_fits(fleet in fleet(), wish in wish()) {
        if let Err(rejected) = place(&fleet, &wish) {
            let devices: usize = fleet.nodes.values().map(|node| node.devices.len()).sum();
            let named = rejected.reasons.iter().filter(|each| each.device.is_some()).count();
            prop_assert_eq!(named, devices);
            let head = format!("0 of {devices} devices fit: ");
            prop_assert!(rejected.summary().starts_with(&head));
        }
    }

    #[test]
    fn another_node_never_makes_a_placement_worse(fleet in fleet(), wish in wish(), more in node()) {
        let Ok(before) = place(&fleet, &wish) else { return Ok(()) };
        let mut larger = fleet.clone();
        larger.nodes.insert("n9".to_owned(), more);
        let after = place(&larger, &wish);
        prop_assert!(after.is_ok(), "what fitted must fit");
        let after = after.unwrap();
        let of = |placement: &super::Placement| {
            let node = &larger.nodes[&placement.node];
            let device = &node.devices[&placement.device];
            (device.kind, ours(node, &wish))
        };
        prop_assert!(of(&after) <= of(&before), "a card stays a card, and the spread does not narrow");
    }
}

fn used(fleet: &Fleet) -> BTreeMap<(String, String), u64> {
    fleet
        .nodes
        .iter()
        .flat_map(|(name, node)| {
            node.devices.iter().map(move |(device_name, device)| {
                let used = device.residents.iter().map(|resident| resident.memory).sum();
                ((name.clone(), device_name.clone()), used)
            })
        })
        .collect()
}
