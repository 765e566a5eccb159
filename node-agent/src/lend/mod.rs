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
use std::sync::{PoisonError, RwLock};

use afterglow_crds::gpu_node::Device;

use crate::discover::{FORBIDDEN, UNTESTED};
use crate::occupants::Occupants;
pub use claims::held;
pub use plugin::{Sockets, serve};
pub use state::{Facts, State};

/// To whom each device of the node belongs: written by the part that offers, read by the part that hands over.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: RwLock<BTreeMap<String, (State, Device)>>,
    registered: AtomicBool,
    /// Whoever of ours is still on a device, whatever was decided.
    occupants: Occupants,
}

/// A device in the ledger.
#[derive(Debug, Clone)]
pub struct Entry {
    /// To whom it belongs.
    pub state: State,
    /// The device.
    pub device: Device,
    /// Whether a process of ours is still on it.
    pub occupied: bool,
}

impl Ledger {
    /// An empty one. `occupants` are the host's processes.
    pub fn new(occupants: Occupants) -> Self {
        Self {
            occupants,
            ..Self::default()
        }
    }

    /// Whether somebody is on the device, a process of ours or whoever it is lent to.
    pub fn busy(&self, device: &str) -> bool {
        self.occupied(device) || self.state(device).is_some_and(|state| !state.hosts())
    }

    /// Whether a process of ours is on the device.
    pub fn occupied(&self, device: &str) -> bool {
        self.occupants.on(device)
    }

    /// Waits until the last process of ours has left a device that is not to serve any more.
    pub async fn left(&self) {
        self.occupants.left().await;
    }

    /// Whether the kubelet has taken the plugin, so that a device can be handed over at all.
    pub fn registered(&self) -> bool {
        self.registered.load(Ordering::Relaxed)
    }

    fn set_registered(&self, registered: bool) {
        self.registered.store(registered, Ordering::Relaxed);
    }

    /// Writes who owns what, and has those leave who stay without need on a device that is to be given on.
    pub fn record(&self, devices: &[Device], states: &BTreeMap<String, State>) {
        let given = states.iter().filter(|(_, state)| !state.offered());
        self.occupants
            .want_back(given.map(|(device, _)| device.clone()).collect());
        let entries = devices.iter().map(|device| {
            let state = states.get(&device.name).copied().unwrap_or_default();
            (device.name.clone(), (state, device.clone()))
        });
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries.collect();
    }

    /// A device by name.
    pub fn entry(&self, device: &str) -> Option<Entry> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let (state, known) = entries.get(device)?.clone();
        Some(Entry {
            state,
            device: known,
            occupied: self.occupied(device),
        })
    }

    fn state(&self, device: &str) -> Option<State> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(device).map(|(state, _)| *state)
    }
}

/// Whether nothing is known to be wrong with a device that is not offered: it is only used otherwise, not wanted, or about to be
/// tested.
pub fn sound(device: &Device) -> bool {
    let because = device.not_offered_because.as_str();
    [FORBIDDEN, UNTESTED].contains(&because) || State::ALL.iter().any(|state| state.because() == because)
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
            // What a pod has had since before we came could not be tested, and that is no fault of it.
            let fine = device.offered || device.not_offered_because == UNTESTED;
            if fine && !may(state) {
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
    fn a_device_is_wanted_back_from_our_processes_for_as_long_as_it_does_not_serve() {
        let occupants = Occupants::default();
        let ledger = Ledger::new(occupants.clone());
        for state in State::ALL {
            ledger.record(&[], &BTreeMap::from([("gpu-a".to_owned(), state)]));
            let wanted = occupants.wanted_back().borrow().contains("gpu-a");
            assert_eq!(wanted, state != State::Serving, "{state:?}");
        }
    }

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

    #[test]
    fn a_device_that_could_not_be_tested_because_a_pod_has_it_is_lent_and_not_faulty() {
        let device = Device {
            name: "gpu-a".into(),
            not_offered_because: UNTESTED.into(),
            ..Device::default()
        };
        for (state, because) in [
            (State::Lent, State::Lent.because()),
            (State::Reclaiming, State::Reclaiming.because()),
            (State::Serving, UNTESTED),
        ] {
            let states = BTreeMap::from([("gpu-a".to_owned(), state)]);
            let placed = for_placement(std::slice::from_ref(&device), &states).remove(0);
            assert_eq!(
                (placed.offered, placed.not_offered_because.as_str()),
                (false, because)
            );
            assert!(sound(&placed), "{state:?}");
        }
    }
}
