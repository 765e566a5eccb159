//! Which devices will do, and the first reason why each other will not.

use super::{Device, Fleet, Kind, Node, Reason, Rejection, Wish};

/// A device that will do.
pub(super) struct Fit<'a> {
    pub(super) node_name: &'a str,
    pub(super) device_name: &'a str,
    pub(super) node: &'a Node,
    pub(super) device: &'a Device,
}

/// Every device is in one of the two lists, in the order of nodes and devices.
pub(super) fn filter<'a>(fleet: &'a Fleet, wish: &Wish) -> (Vec<Fit<'a>>, Vec<Rejection>) {
    let mut fits = Vec::new();
    let mut rejections = Vec::new();
    for (node_name, node) in &fleet.nodes {
        if node.devices.is_empty() {
            rejections.push(Rejection {
                node: node_name.clone(),
                device: None,
                reason: refuse_node(node, wish).unwrap_or(Reason::NoDevice),
            });
        }
        for (device_name, device) in &node.devices {
            match refuse(node_name, node, device_name, device, wish) {
                None => fits.push(Fit {
                    node_name,
                    device_name,
                    node,
                    device,
                }),
                Some(reason) => rejections.push(Rejection {
                    node: node_name.clone(),
                    device: Some(device_name.clone()),
                    reason,
                }),
            }
        }
    }
    (fits, rejections)
}

/// What cannot be helped comes first, what waiting may help last: the first reason is the one that is told.
fn refuse(node_name: &str, node: &Node, device_name: &str, device: &Device, wish: &Wish) -> Option<Reason> {
    if let Some(reason) = refuse_node(node, wish) {
        return Some(reason);
    }
    if !wish.families.is_empty() && !wish.families.contains(&device.family) {
        return Some(Reason::Family {
            kind: device.kind,
            found: device.family.clone(),
            wanted: wish.families.clone(),
        });
    }
    if device.kind == Kind::Cpu && !wish.cpu_allowed {
        return Some(Reason::CpuNotAllowed);
    }
    if let Err(why) = &device.offered {
        return Some(Reason::NotOffered(why.clone()));
    }
    let place = (node_name.to_owned(), device_name.to_owned());
    if let Some(why) = wish.failed_on.get(&place) {
        return Some(Reason::FailedBefore(why.clone()));
    }
    let free = device.free();
    (wish.memory > free).then_some(Reason::Memory {
        needed: wish.memory,
        free,
        total: device.memory,
    })
}

fn refuse_node(node: &Node, wish: &Wish) -> Option<Reason> {
    if let Some(closed) = node.closed {
        return Some(Reason::Closed(closed));
    }
    wish.node_selector
        .iter()
        .find(|(key, value)| node.labels.get(*key) != Some(value))
        .map(|(key, value)| Reason::Selector {
            key: key.clone(),
            value: value.clone(),
        })
}
