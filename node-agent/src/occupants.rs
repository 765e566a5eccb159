//! Which devices processes of ours are on: a device is nobody else's before the last of them has really ended, whatever was
//! decided about it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The processes on each device; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Occupants(Arc<Mutex<BTreeMap<String, usize>>>);

impl Occupants {
    /// Whether a process of ours is on `device`.
    pub fn on(&self, device: &str) -> bool {
        self.lock().contains_key(device)
    }

    pub(crate) fn enter(&self, device: &str) -> Occupant {
        *self.lock().entry(device.to_owned()).or_default() += 1;
        Occupant {
            all: self.clone(),
            device: device.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One process on a device, until this is dropped.
#[derive(Debug)]
pub(crate) struct Occupant {
    all: Occupants,
    device: String,
}

impl Drop for Occupant {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(&self.device) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_free_when_the_last_process_has_left_it() {
        let all = Occupants::default();
        let (engine, probe) = (all.enter("gpu-0"), all.enter("gpu-0"));
        assert!(all.on("gpu-0") && !all.on("gpu-1"));
        drop(engine);
        assert!(all.on("gpu-0"));
        drop(probe);
        assert!(!all.on("gpu-0"));
    }
}
