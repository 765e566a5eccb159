//! Placements and refusals as tables.

use super::{Closed, Device, Fleet, Kind, Node, Placement, Reason, Resident, Wish, place};

const GIB: u64 = 1 << 30;

fn card(gib: u64) -> Device {
    Device {
        kind: Kind::Gpu,
        family: "Polaris".to_owned(),
        memory: gib * GIB,
        offered: Ok(()),
        gflops: 5_000,
        residents: Vec::new(),
    }
}

fn processor() -> Device {
    Device {
        kind: Kind::Cpu,
        family: "Other".to_owned(),
        gflops: 50,
        ..card(64)
    }
}

fn resident(deployment: &str, gib: u64) -> Resident {
    Resident {
        deployment: deployment.to_owned(),
        digest: format!("sha256:{deployment}"),
        memory: gib * GIB,
    }
}

fn fleet<const N: usize>(devices: [(&str, &str, Device); N]) -> Fleet {
    let mut fleet = Fleet::default();
    for (node, name, device) in devices {
        let node = fleet.nodes.entry(node.to_owned()).or_default();
        node.devices.insert(name.to_owned(), device);
    }
    fleet
}

fn wish(gib: u64) -> Wish {
    Wish {
        deployment: "team/bert".to_owned(),
        digest: "sha256:team/bert".to_owned(),
        memory: gib * GIB,
        ..Wish::default()
    }
}

fn chosen(fleet: &Fleet, wish: &Wish) -> String {
    let Placement { node, device, .. } = place(fleet, wish).unwrap();
    format!("{node}/{device}")
}

fn refused(fleet: &Fleet, wish: &Wish) -> String {
    place(fleet, wish).unwrap_err().summary()
}

#[test]
fn a_card_is_taken_before_a_processor_with_more_room() {
    let fleet = fleet([("n1", "cpu-0", processor()), ("n2", "gpu-0", card(2))]);
    let wish = Wish {
        cpu_allowed: true,
        ..wish(1)
    };
    assert_eq!(chosen(&fleet, &wish), "n2/gpu-0");
}

#[test]
fn a_processor_is_taken_when_no_card_fits_and_that_is_said() {
    let fleet = fleet([
        ("n1", "cpu-0", processor()),
        ("n2", "cpu-0", processor()),
        ("n3", "gpu-0", card(1)),
    ]);
    let wish = Wish {
        cpu_allowed: true,
        ..wish(2)
    };
    let placement = place(&fleet, &wish).unwrap();
    assert_eq!(
        (placement.node.as_str(), placement.device.as_str()),
        ("n1", "cpu-0")
    );
    assert_eq!(
        placement.because,
        "best of 2 devices that fit: a CPU, since no card fits on a node without a replica of this deployment"
    );
}

#[test]
fn replicas_spread_over_nodes_first_then_over_devices_then_share() {
    let mut fleet = fleet([
        ("n1", "gpu-0", card(8)),
        ("n1", "gpu-1", card(8)),
        ("n2", "gpu-0", card(4)),
    ]);
    let mut order = Vec::new();
    for _ in 0..4 {
        let placement = place(&fleet, &wish(1)).unwrap();
        order.push(format!("{}/{}", placement.node, placement.device));
        fleet.put(&placement, &wish(1));
    }
    assert_eq!(order, ["n1/gpu-0", "n2/gpu-0", "n1/gpu-1", "n2/gpu-0"]);
}

#[test]
fn the_emptier_device_is_taken() {
    let mut busy = card(8);
    busy.residents.push(resident("other/a", 4));
    let fleet = fleet([("n1", "gpu-0", busy), ("n2", "gpu-0", card(8))]);
    assert_eq!(chosen(&fleet, &wish(1)), "n2/gpu-0");
}

#[test]
fn among_devices_about_as_empty_the_node_that_has_the_file_is_taken() {
    let mut cached = card(8);
    let digest = wish(1).digest;
    cached.residents.push(Resident {
        digest,
        ..resident("other/a", 1)
    });
    let fleet = fleet([("n1", "gpu-0", card(8)), ("n2", "gpu-0", cached)]);
    // 7 of 8 would stay free against 6 of 8: the same quarter.
    assert_eq!(chosen(&fleet, &wish(1)), "n2/gpu-0");
}

#[test]
fn among_equals_the_faster_is_taken_as_measured_with_this_model() {
    let fleet = fleet([
        ("n1", "gpu-0", card(8)),
        (
            "n2",
            "gpu-0",
            Device {
                gflops: 6_000,
                ..card(8)
            },
        ),
    ]);
    assert_eq!(chosen(&fleet, &wish(1)), "n2/gpu-0", "by GFLOP/s");
    let mut measured = wish(1);
    measured
        .measured
        .insert(("n1".to_owned(), "gpu-0".to_owned()), 900);
    measured
        .measured
        .insert(("n2".to_owned(), "gpu-0".to_owned()), 1_100);
    assert_eq!(chosen(&fleet, &measured), "n1/gpu-0", "by the probe");
}

#[test]
fn full_equals_are_told_apart_by_name() {
    let fleet = fleet([
        ("n2", "gpu-0", card(8)),
        ("n1", "gpu-1", card(8)),
        ("n1", "gpu-0", card(8)),
    ]);
    assert_eq!(chosen(&fleet, &wish(1)), "n1/gpu-0");
}

#[test]
fn memory_is_never_promised_twice() {
    let mut fleet = fleet([("n1", "gpu-0", card(8))]);
    for _ in 0..2 {
        let placement = place(&fleet, &wish(3)).unwrap();
        fleet.put(&placement, &wish(3));
    }
    assert_eq!(
        refused(&fleet, &wish(3)),
        "0 of 1 devices fit: 1 has too little free memory (n1/gpu-0: 3.0 GiB needed, 2.0 GiB of 8.0 GiB free, 1.0 GiB short)"
    );
    assert_eq!(
        chosen(&fleet, &wish(2)),
        "n1/gpu-0",
        "what is left can be used to the last byte"
    );
}

#[test]
fn a_device_that_failed_this_revision_is_not_tried_again() {
    let fleet = fleet([("n1", "gpu-0", card(8)), ("n2", "gpu-0", card(4))]);
    let mut wish = wish(1);
    wish.failed_on
        .insert(("n1".to_owned(), "gpu-0".to_owned()), "ProbeMismatch".to_owned());
    assert_eq!(chosen(&fleet, &wish), "n2/gpu-0");
    wish.failed_on
        .insert(("n2".to_owned(), "gpu-0".to_owned()), "OutOfMemory".to_owned());
    assert_eq!(
        refused(&fleet, &wish),
        "0 of 2 devices fit: 2 failed with this revision before (n1/gpu-0: ProbeMismatch, n2/gpu-0: OutOfMemory); \
         change the model to try again"
    );
}

#[test]
fn a_refusal_counts_names_and_says_what_to_do() {
    let broken = Device {
        offered: Err("failed its self-test: row 3 is 0.5, not 0.25".to_owned()),
        ..card(8)
    };
    let fleet = fleet([
        ("n1", "cpu-0", processor()),
        ("n2", "cpu-0", processor()),
        ("n4", "gpu-0", broken),
    ]);
    let wish = Wish {
        families: ["Polaris".to_owned()].into(),
        cpu_allowed: true,
        ..wish(1)
    };
    assert_eq!(
        refused(&fleet, &wish),
        "0 of 3 devices fit: 1 is not available (n4/gpu-0: failed its self-test: row 3 is 0.5, not 0.25); \
         2 are CPUs (n1/cpu-0, n2/cpu-0), which the requirement families [Polaris] excludes"
    );
}

#[test]
fn a_forbidden_processor_is_said_to_be_forbidden() {
    let fleet = fleet([("n1", "cpu-0", processor())]);
    assert_eq!(
        refused(&fleet, &wish(1)),
        "0 of 1 devices fit: 1 is a CPU (n1/cpu-0), which the InferenceCluster's cpuFallback forbids"
    );
}

#[test]
fn cards_of_another_family_are_named_with_theirs() {
    let fleet = fleet([(
        "n1",
        "gpu-0",
        Device {
            family: "Vega".to_owned(),
            ..card(8)
        },
    )]);
    let wish = Wish {
        families: ["Navi2".to_owned(), "Polaris".to_owned()].into(),
        ..wish(1)
    };
    assert_eq!(
        refused(&fleet, &wish),
        "0 of 1 devices fit: 1 is a card of another family (n1/gpu-0: Vega), \
         which the requirement families [Navi2, Polaris] excludes"
    );
}

#[test]
fn nodes_are_closed_for_different_reasons() {
    let mut fleet = Fleet::default();
    for (name, closed) in [
        ("n1", Some(Closed::Cordoned)),
        ("n2", Some(Closed::Silent)),
        ("n3", Some(Closed::Leaving)),
        ("n4", None),
    ] {
        let devices = if name == "n4" {
            [].into()
        } else {
            [("gpu-0".to_owned(), card(8))].into()
        };
        let node = Node {
            closed,
            devices,
            ..Node::default()
        };
        fleet.nodes.insert(name.to_owned(), node);
    }
    assert_eq!(
        refused(&fleet, &wish(1)),
        "0 of 3 devices fit: 1 is on cordoned nodes (n1); uncordon them to use them; \
         1 is on nodes whose agent is silent (n2); see whether its pod runs; \
         1 is on nodes that are being deleted (n3); 1 node has no devices (n4)"
    );
}

#[test]
fn a_node_selector_is_obeyed() {
    let mut fleet = fleet([("n1", "gpu-0", card(8)), ("n2", "gpu-0", card(4))]);
    let wish = Wish {
        node_selector: [("zone".to_owned(), "cellar".to_owned())].into(),
        ..wish(1)
    };
    assert_eq!(
        refused(&fleet, &wish),
        "0 of 2 devices fit: 2 are on nodes without the label zone=cellar that the requirement nodeSelector asks for (n1, n2)"
    );
    let node = fleet.nodes.get_mut("n2").unwrap();
    node.labels.insert("zone".to_owned(), "cellar".to_owned());
    assert_eq!(chosen(&fleet, &wish), "n2/gpu-0");
}

#[test]
fn a_long_list_is_cut() {
    let mut fleet = Fleet::default();
    for index in 0..9 {
        let devices = [("gpu-0".to_owned(), card(1))].into();
        fleet.nodes.insert(
            format!("n{index}"),
            Node {
                devices,
                ..Node::default()
            },
        );
    }
    let rejected = place(&fleet, &wish(2)).unwrap_err();
    assert!(
        rejected.summary().ends_with("1.0 GiB short and 6 more)"),
        "{rejected}"
    );
    assert!(
        rejected
            .reasons
            .iter()
            .all(|each| matches!(each.reason, Reason::Memory { .. }))
    );
}
