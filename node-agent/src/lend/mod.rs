//! Lending devices to pods that are not ours, through the kubelet's Dynamic Resource Allocation.
//!
//! [`state`] says to whom a device belongs, [`claims`] who holds what, [`plugin`] hands a device over to a pod and [`cdi`]
//! tells the container runtime what to put into its container.

mod cdi;
mod claims;
mod plugin;
mod state;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use afterglow_crds::gpu_node::Device;
use tokio::sync::watch;

use crate::host::Occupied;

pub use claims::held;
pub use plugin::{Sockets, serve};
pub use state::{Facts, State};

/// To whom each device of the node belongs: written by the part that offers, read by the part that hands over.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: RwLock<BTreeMap<String, Entry>>,
    registered: AtomicBool,
    engines: OnceLock<watch::Receiver<Occupied>>,
}

/// A device in the ledger.
#[derive(Debug, Clone)]
pub struct Entry {
    /// To whom it belongs.
    pub state: State,
    /// The device.
    pub device: Device,
}

impl Ledger {
    /// Whether the kubelet has taken the plugin, so that a device can be handed over at all.
    pub fn registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Relaxed);
    }

    /// From now on it is known where engines run. An agent that has just started has none.
    pub fn watch_engines(&self, occupied: watch::Receiver<Occupied>) {
        let _ = self.engines.set(occupied);
    }

    /// Whether an engine runs on a device, or still ends: one that no replica needs any more is stopped a moment later.
    pub fn has_engine(&self, device: &str) -> bool {
        let count = self.engines.get().map_or(0, |occupied| {
            occupied.borrow().get(device).copied().unwrap_or_default()
        });
        count > 0
    }

    /// Writes who owns what.
    pub fn record(&self, devices: &[Device], states: &BTreeMap<String, State>) {
        let entries = devices.iter().map(|device| {
            let state = states.get(&device.name).copied().unwrap_or_default();
            let device = device.clone();
            (device.name.clone(), Entry { state, device })
        });
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries.collect();
    }

    /// A device by name.
    pub fn entry(&self, device: &str) -> Option<Entry> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(device).cloned()
    }
}

/// The devices as placement may use them: what is lent, or about to be, is not offered.
pub fn for_placement(devices: &[Device], states: &BTreeMap<String, State>) -> Vec<Device> {
    allowed(devices, states, State::offered)
}

/// The devices as engines may use them: what is about to be lent still serves what it has.
pub fn for_engines(devices: &[Device], states: &BTreeMap<String, State>) -> Vec<Device> {
    allowed(devices, states, State::hosts)
}

fn allowed(devices: &[Device], states: &BTreeMap<String, State>, may: fn(State) -> bool) -> Vec<Device> {
    devices
        .iter()
        .map(|device| {
            let state = states.get(&device.name).copied().unwrap_or_default();
            let mut device = device.clone();
            if device.offered && !may(state) {
                device.offered = false;
                state.because().clone_into(&mut device.not_offered_because);
            }
            device
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_drains_takes_nothing_new_and_keeps_what_it_has() {
        let device = Device {
            name: "gpu-a".into(),
            offered: true,
            ..Device::default()
        };
        let offered = |state| {
            let states = BTreeMap::from([("gpu-a".to_owned(), state)]);
            let devices = [device.clone()];
            let placement = for_placement(&devices, &states).remove(0);
            assert_eq!(placement.offered, placement.not_offered_because.is_empty());
            (placement.offered, for_engines(&devices, &states)[0].offered)
        };
        assert_eq!(offered(State::Serving), (true, true));
        assert_eq!(offered(State::Draining), (false, true));
        for state in [State::Lendable, State::Lent, State::Reclaiming] {
            assert_eq!(offered(state), (false, false), "{state:?}");
        }
    }
}
