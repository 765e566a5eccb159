//! Labels of the Kubernetes node, for `nodeSelector`s of people and of other controllers.

use std::collections::BTreeMap;

use afterglow_crds::gpu_node::{Device, DeviceType};
use afterglow_crds::labels::{CLUSTER, NODE_DEVICES, NODE_FAMILY_PREFIX, is_on_nodes};

/// The labels that belong on the node. What is not in here and was written by an agent goes.
pub(super) fn labels(cluster: &str, devices: &[Device]) -> BTreeMap<String, String> {
    let offered = || devices.iter().filter(|device| device.offered);
    let mut labels = BTreeMap::from([
        (CLUSTER.to_owned(), cluster.to_owned()),
        (NODE_DEVICES.to_owned(), offered().count().to_string()),
    ]);
    let mut families: BTreeMap<String, usize> = BTreeMap::new();
    for device in offered().filter(|device| device.type_ == DeviceType::Gpu) {
        *families
            .entry(format!("{NODE_FAMILY_PREFIX}{:?}", device.family).to_ascii_lowercase())
            .or_default() += 1;
    }
    labels.extend(
        families
            .into_iter()
            .map(|(label, count)| (label, count.to_string())),
    );
    labels
}

/// Whether the node carries these labels, and no other one of ours.
pub(super) fn current(on_node: Option<&BTreeMap<String, String>>, wanted: &BTreeMap<String, String>) -> bool {
    let Some(on_node) = on_node else {
        return wanted.is_empty();
    };
    on_node.iter().filter(|(label, _)| is_on_nodes(label)).eq(wanted)
}

#[cfg(test)]
mod tests {
    use afterglow_crds::gpu_node::Family;

    use super::*;

    fn device(type_: DeviceType, family: Family, offered: bool) -> Device {
        Device {
            type_,
            family,
            offered,
            ..Device::default()
        }
    }

    #[test]
    fn labels_count_what_is_offered_and_only_cards_by_family() {
        let polaris = device(DeviceType::Gpu, Family::Polaris, true);
        let broken = device(DeviceType::Gpu, Family::Vega, false);
        let processor = device(DeviceType::Cpu, Family::Other, true);
        let labels = labels("lab", &[polaris.clone(), polaris, broken, processor]);
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            pairs,
            [
                ("afterglow.dev/cluster", "lab"),
                ("afterglow.dev/devices", "3"),
                ("gpu.afterglow.dev/polaris", "2"),
            ]
        );
    }

    #[test]
    fn a_label_of_a_card_that_is_gone_is_stale() {
        let wanted = labels("lab", &[]);
        let mut on_node = wanted.clone();
        on_node.insert("kubernetes.io/hostname".into(), "rig".into());
        assert!(current(Some(&on_node), &wanted), "others' labels are not ours");
        on_node.insert("gpu.afterglow.dev/polaris".into(), "1".into());
        assert!(!current(Some(&on_node), &wanted));
        assert!(!current(None, &wanted));
    }
}
