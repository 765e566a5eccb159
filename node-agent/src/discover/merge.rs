//! One list out of two: what the kernel sees and what OpenCL sees, as the devices that `GpuNode` shows.

use afterglow_crds::gpu_node::{Device, DeviceType, SelfTest, TestResult};
use afterglow_crds::quantity::quantity;

use super::opencl::{Examination, Measured, Seen, Verdict};
use super::pci;
use super::sysfs::{Access, Card};
use crate::args::CpuFallback;

/// A device, and its card's folder in `/sys` where it has one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// As `GpuNode` shows it.
    pub(super) device: Device,
    /// The card, where the kernel sees it.
    pub(super) card: Option<Card>,
}

/// Why a processor is not offered although it passed.
pub const FORBIDDEN: &str =
    "processors may not stand in for cards here (the InferenceCluster's spec.cpuFallback is Forbidden)";

/// Why a device is not offered that nobody has tested yet.
pub const UNTESTED: &str = "its self-test has not run yet";

/// The devices of this machine. What OpenCL and the kernel both see is one device.
pub(super) fn merge(cards: &[Card], examination: &Examination, cpu: CpuFallback) -> Vec<Found> {
    let mut left: Vec<&Card> = cards.iter().collect();
    let mut found = Vec::new();
    let (mut gpus, mut cpus) = (0, 0);
    for seen in &examination.devices {
        let card = take_card(&mut left, seen);
        let device = if seen.kind == "gpu" {
            let address = card
                .map(|card| card.address.clone())
                .or_else(|| seen.pci.map(|address| address.to_string()));
            let name = name_of(address.as_deref(), gpus);
            gpus += 1;
            gpu(seen, card, name, address)
        } else {
            cpus += 1;
            processor(seen, format!("cpu-{}", cpus - 1), cpu)
        };
        found.push(Found {
            device,
            card: card.cloned(),
        });
    }
    found.extend(left.into_iter().map(|card| Found {
        device: unseen(card, examination),
        card: Some(card.clone()),
    }));
    found.sort_by(|a, b| a.device.name.cmp(&b.device.name));
    found
}

/// Finds a device's card: by PCI address; where OpenCL tells none, the first that is left of the same generation.
fn take_card<'a>(left: &mut Vec<&'a Card>, seen: &Seen) -> Option<&'a Card> {
    if seen.kind != "gpu" {
        return None;
    }
    let position = match seen.pci {
        Some(address) => left.iter().position(|card| card.address == address.to_string()),
        None => left
            .iter()
            .position(|card| pci::family(card.device) == pci::family_of_chip(&seen.name)),
    }?;
    Some(left.remove(position))
}

fn name_of(address: Option<&str>, index: usize) -> String {
    match address {
        Some(address) => format!("gpu-{}", address.replace([':', '.'], "-").to_ascii_lowercase()),
        None => format!("gpu-{index}"),
    }
}

fn gpu(seen: &Seen, card: Option<&Card>, name: String, address: Option<String>) -> Device {
    let family = match pci::family_of_chip(&seen.name) {
        afterglow_crds::gpu_node::Family::Other => {
            card.map_or_else(Default::default, |card| pci::family(card.device))
        }
        family => family,
    };
    let mut device = described(seen, name, DeviceType::Gpu);
    device.family = family;
    device.pci_address = address;
    if let Some(card) = card {
        add_card(&mut device, card);
    }
    judge(&mut device);
    device
}

fn processor(seen: &Seen, name: String, cpu: CpuFallback) -> Device {
    let mut device = described(seen, name, DeviceType::Cpu);
    judge(&mut device);
    if device.offered && cpu == CpuFallback::Forbidden {
        device.offered = false;
        FORBIDDEN.clone_into(&mut device.not_offered_because);
    }
    device
}

fn described(seen: &Seen, name: String, type_: DeviceType) -> Device {
    Device {
        name,
        type_,
        product_name: product(&seen.name),
        selector: Some(seen.device.clone()),
        compute_units: i32::try_from(seen.compute_units).unwrap_or(i32::MAX),
        memory: quantity(seen.global_memory),
        driver: format!("{} {}", seen.platform, upstream(&seen.driver_version)),
        opencl_version: seen
            .opencl_version
            .split_whitespace()
            .nth(1)
            .unwrap_or(&seen.opencl_version)
            .to_owned(),
        self_test: self_test(seen.self_test.as_ref(), seen.measured),
        ..Device::default()
    }
}

fn add_card(device: &mut Device, card: &Card) {
    device.pci_id = Some(format!(
        "{:04x}:{:04x}:{:02x}",
        pci::AMD,
        card.device,
        card.revision
    ));
    device.link.clone_from(&card.link);
    if let Some(render) = &card.render {
        device.render_node = Some(render.path.display().to_string());
        device.render_gid = render.gid.map(i64::from);
    }
}

/// What a driver calls a device, without what it says about itself.
fn product(name: &str) -> String {
    // `AMD Radeon RX 580 Series (radeonsi, polaris10, ACO, DRM 3.49, …)`
    let name = name
        .split_once(" (radeonsi")
        .map_or(name, |(product, _)| product)
        .trim();
    // `pthread-skylake-avx512-Intel(R) Xeon(R) Processor`, `cpu-haswell-AMD EPYC …`: PoCL puts its own words in front.
    let processor = ["pthread-", "cpu-", "basic-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .and_then(|rest| {
            let maker = ["-Intel", "-AMD", "-Common", "-VIA"]
                .iter()
                .filter_map(|maker| rest.find(maker))
                .min()?;
            rest.get(maker + 1..)
        });
    processor.unwrap_or(name).to_owned()
}

/// `25.0.7-2+deb13u1` → `25.0.7`: the distribution's own count says nothing about what the driver can do.
fn upstream(version: &str) -> &str {
    version.split(['-', '+', '~', ' ']).next().unwrap_or(version)
}

fn self_test(verdict: Option<&Verdict>, measured: Option<Measured>) -> SelfTest {
    let (result, message) = match verdict {
        Some(Verdict::Pass) => (TestResult::Passed, String::new()),
        Some(Verdict::Fail { reason }) => (TestResult::Failed, reason.clone()),
        None => (TestResult::NotRun, String::new()),
    };
    let mega = |giga: f64| (giga * 1e3).round() as i64;
    SelfTest {
        result,
        message,
        gflops: measured.map(|m| m.gflops.round() as i64),
        memory_mb_per_second: measured.map(|m| mega(m.copy_gb_per_s)),
        upload_mb_per_second: measured.map(|m| mega(m.upload_gb_per_s)),
    }
}

/// A device is offered when it has shown that it computes right.
fn judge(device: &mut Device) {
    device.not_offered_because = match device.self_test.result {
        TestResult::Passed => String::new(),
        TestResult::Failed => format!(
            "it failed its self-test: {}; a card that computes wrong stays out until it is tested again: check cooling, \
             power and clocks, then annotate its GpuNode with afterglow.dev/self-test, or restart its agent",
            device.self_test.message
        ),
        TestResult::NotRun => UNTESTED.to_owned(),
    };
    device.offered = device.not_offered_because.is_empty();
}

/// A card that the kernel sees and OpenCL does not: shown, with what to do about it.
fn unseen(card: &Card, examination: &Examination) -> Device {
    let mut device = Device {
        name: name_of(Some(&card.address), 0),
        type_: DeviceType::Gpu,
        family: pci::family(card.device),
        product_name: pci::product(card.device, card.revision),
        pci_address: Some(card.address.clone()),
        memory: quantity(card.memory.unwrap_or(0)),
        driver: card.driver.clone().unwrap_or_default(),
        not_offered_because: remedy(card, examination),
        ..Device::default()
    };
    add_card(&mut device, card);
    device
}

fn remedy(card: &Card, examination: &Examination) -> String {
    if let Some(broken) = &examination.broken {
        return format!("OpenCL could not be asked for it: {broken}");
    }
    match (&card.driver, &card.render) {
        (None, _) => "no kernel driver holds it: load amdgpu on the node (modprobe amdgpu) and look into its kernel log"
            .to_owned(),
        (Some(driver), _) if driver != "amdgpu" => {
            format!("the kernel driver {driver} holds it, not amdgpu: unbind it on the node and bind amdgpu")
        }
        (_, None) => "amdgpu has made no render node for it: look into the node's kernel log for why it did not start"
            .to_owned(),
        (_, Some(render)) => {
            let path = render.path.display();
            match render.access {
                Access::Missing => format!(
                    "{path} is not in the agent's container: set the InferenceCluster's spec.agent.devices to RenderNodes"
                ),
                Access::Denied => format!(
                    "the agent may not open {path} (group {}): give its container that group and access to the device",
                    render.gid.unwrap_or_default()
                ),
                Access::Granted => "OpenCL does not list it: Mesa's rusticl (mesa-opencl-icd) is missing, does not know \
                    this card, or RUSTICL_ENABLE is not radeonsi"
                    .to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use afterglow_crds::gpu_node::Family;

    use super::super::opencl::Address;
    use super::super::sysfs::{self, fake};
    use super::*;

    fn rusticl(index: usize, pci: Option<u32>, verdict: Verdict) -> Seen {
        Seen {
            device: format!("opencl:{index}"),
            kind: "gpu".into(),
            name: "AMD Radeon RX 580 Series (radeonsi, polaris10, ACO, DRM 3.49, 6.12.0)".into(),
            platform: "rusticl".into(),
            driver_version: "25.0.7-2+deb13u1".into(),
            opencl_version: "OpenCL 3.0".into(),
            compute_units: 36,
            global_memory: 8 << 30,
            pci: pci.map(|bus| Address {
                domain: 0,
                bus,
                device: 0,
                function: 0,
            }),
            self_test: Some(verdict),
            measured: None,
        }
    }

    fn pocl() -> Seen {
        Seen {
            device: "opencl:0".into(),
            kind: "cpu".into(),
            name: "pthread-skylake-avx512-Intel(R) Xeon(R) Processor".into(),
            platform: "Portable Computing Language".into(),
            driver_version: "3.1+debian".into(),
            opencl_version: "OpenCL 3.0 PoCL HSTR: pthread-x86_64".into(),
            compute_units: 2,
            global_memory: 4 << 30,
            pci: None,
            self_test: Some(Verdict::Pass),
            measured: Some(Measured {
                gflops: 82.57,
                copy_gb_per_s: 9.5435,
                upload_gb_per_s: 0.4,
            }),
        }
    }

    fn examined(devices: Vec<Seen>) -> Examination {
        Examination {
            devices,
            ..Examination::default()
        }
    }

    fn rig(addresses: &[&str]) -> (tempfile::TempDir, Vec<Card>) {
        let root = tempfile::tempdir().unwrap();
        for (index, address) in addresses.iter().enumerate() {
            fake::rx_580(root.path(), index as u32, address);
        }
        let cards = sysfs::cards(&root.path().join("sys"), &root.path().join("dev"));
        (root, cards)
    }

    #[test]
    fn a_card_that_both_see_is_one_device_whatever_order_opencl_lists_it_in() {
        let (_root, cards) = rig(&["0000:01:00.0", "0000:03:00.0"]);
        let seen = examined(vec![
            rusticl(0, Some(3), Verdict::Pass),
            rusticl(1, Some(1), Verdict::Pass),
        ]);
        let found = merge(&cards, &seen, CpuFallback::Forbidden);
        let short: Vec<_> = found
            .iter()
            .map(|f| {
                (
                    f.device.name.as_str(),
                    f.device.selector.as_deref(),
                    f.device.render_node.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            short,
            [
                ("gpu-0000-01-00-0", Some("opencl:1"), Some("/dev/dri/renderD128")),
                ("gpu-0000-03-00-0", Some("opencl:0"), Some("/dev/dri/renderD129")),
            ]
        );
        let device = &found[0].device;
        assert_eq!(device.product_name, "AMD Radeon RX 580 Series");
        assert_eq!(device.family, Family::Polaris);
        assert_eq!(device.pci_id.as_deref(), Some("1002:67df:e7"));
        assert_eq!((device.compute_units, device.memory.0.as_str()), (36, "8Gi"));
        assert_eq!(device.driver, "rusticl 25.0.7");
        assert_eq!(device.link.as_ref().unwrap().width, 1);
        assert!(device.offered, "{}", device.not_offered_because);
    }

    #[test]
    fn where_opencl_tells_no_address_the_generation_finds_the_card() {
        let (_root, cards) = rig(&["0000:01:00.0"]);
        let found = merge(
            &cards,
            &examined(vec![rusticl(0, None, Verdict::Pass)]),
            CpuFallback::Forbidden,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].device.name, "gpu-0000-01-00-0");
        let without_sysfs = merge(
            &[],
            &examined(vec![rusticl(0, None, Verdict::Pass)]),
            CpuFallback::Forbidden,
        );
        assert_eq!(without_sysfs[0].device.name, "gpu-0");
        assert_eq!(without_sysfs[0].device.pci_address, None);
    }

    #[test]
    fn a_card_that_computes_wrong_is_shown_and_not_offered() {
        let verdict = Verdict::Fail {
            reason: "memory: wrong in the first run".into(),
        };
        let found = merge(
            &[],
            &examined(vec![rusticl(0, Some(4), verdict)]),
            CpuFallback::Forbidden,
        );
        let device = &found[0].device;
        assert_eq!(device.name, "gpu-0000-04-00-0");
        assert_eq!(device.self_test.result, TestResult::Failed);
        assert!(!device.offered);
        assert!(
            device.not_offered_because.contains("memory: wrong"),
            "{}",
            device.not_offered_because
        );
    }

    #[test]
    fn a_processor_needs_permission_and_is_never_called_a_card() {
        let seen = examined(vec![pocl()]);
        let forbidden = merge(&[], &seen, CpuFallback::Forbidden).remove(0).device;
        assert_eq!(
            (forbidden.offered, forbidden.not_offered_because.as_str()),
            (false, FORBIDDEN)
        );
        let allowed = merge(&[], &seen, CpuFallback::Allowed).remove(0).device;
        assert!(allowed.offered);
        assert_eq!((allowed.name.as_str(), allowed.type_), ("cpu-0", DeviceType::Cpu));
        assert_eq!(allowed.product_name, "Intel(R) Xeon(R) Processor");
        assert_eq!(allowed.driver, "Portable Computing Language 3.1");
        assert_eq!(allowed.opencl_version, "3.0");
        assert_eq!(allowed.self_test.gflops, Some(83));
        assert_eq!(allowed.self_test.memory_mb_per_second, Some(9544));
        assert_eq!(allowed.self_test.upload_mb_per_second, Some(400));
    }

    #[test]
    fn a_card_that_opencl_does_not_see_says_what_to_do() {
        let (_root, cards) = rig(&["0000:01:00.0"]);
        let render = |access| {
            let mut card = cards[0].clone();
            let render = card.render.as_mut().unwrap();
            render.access = access;
            render.gid = Some(992);
            card
        };
        let driver = |driver: Option<&str>| Card {
            driver: driver.map(str::to_owned),
            ..cards[0].clone()
        };
        let no_render = Card {
            render: None,
            ..cards[0].clone()
        };
        for (card, says) in [
            (driver(None), "modprobe amdgpu"),
            (driver(Some("vfio-pci")), "vfio-pci"),
            (no_render, "no render node"),
            (render(Access::Missing), "spec.agent.devices"),
            (render(Access::Denied), "group 992"),
            (render(Access::Granted), "mesa-opencl-icd"),
        ] {
            let device = merge(&[card], &examined(vec![pocl()]), CpuFallback::Allowed)
                .into_iter()
                .find(|f| f.device.type_ == DeviceType::Gpu)
                .unwrap()
                .device;
            assert!(!device.offered && device.selector.is_none());
            assert_eq!(device.product_name, "AMD Radeon RX 580 Series");
            assert!(
                device.not_offered_because.contains(says),
                "{says}: {}",
                device.not_offered_because
            );
        }
        let broken = Examination {
            broken: Some("it crashed".into()),
            ..Examination::default()
        };
        let device = &merge(&cards, &broken, CpuFallback::Allowed)[0].device;
        assert!(device.not_offered_because.contains("it crashed"));
    }
}
