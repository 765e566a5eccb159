//! Which devices processes of ours are on: a device is nobody else's before the last of them has really ended, whatever was
//! decided about it.
//!
//! Word goes both ways at once, because a pod waits for it: a device that is wanted back is told to those who run engines on
//! it, and that the last process has left it to those who give it on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

/// The processes on each device; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Occupants(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    processes: Mutex<BTreeMap<String, usize>>,
    /// Devices that are to be given on: nobody stays on them without need.
    wanted: watch::Sender<BTreeSet<String>>,
    left: Notify,
}

impl Occupants {
    /// Whether a process of ours is on `device`.
    pub fn on(&self, device: &str) -> bool {
        self.lock().contains_key(device)
    }

    /// Says which devices are wanted back, and which are not any more.
    pub fn want_back(&self, devices: BTreeSet<String>) {
        self.0.wanted.send_if_modified(|wanted| {
            let news = *wanted != devices;
            *wanted = devices;
            news
        });
    }

    /// Which devices are wanted back.
    pub(crate) fn wanted_back(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.wanted.subscribe()
    }

    /// Waits until the last process of ours has left a device that is wanted back; one that has left before this was asked
    /// counts. One at a time may wait.
    pub async fn left(&self) {
        self.0.left.notified().await;
    }

    pub(crate) fn enter(&self, device: &str) -> Occupant {
        *self.lock().entry(device.to_owned()).or_default() += 1;
        Occupant {
            all: self.clone(),
            device: device.to_owned(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.processes.lock().unwrap_or_else(PoisonError::into_inner)
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
        let last = {
            let mut all = self.all.lock();
            let Some(count) = all.get_mut(&self.device) else {
                return;
            };
            *count -= 1;
            let last = *count == 0;
            if last {
                all.remove(&self.device);
            }
            last
        };
        if last && self.all.0.wanted.borrow().contains(&self.device) {
            self.all.0.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;

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

    #[test]
    fn whoever_gives_a_device_on_is_woken_when_the_last_process_has_left_it_and_by_nothing_else() {
        let all = Occupants::default();
        let mut left = pin!(all.left());
        drop(all.enter("gpu-0"));
        assert!(left.as_mut().now_or_never().is_none(), "nobody wants it");
        let (engine, probe) = (all.enter("gpu-0"), all.enter("gpu-0"));
        all.want_back(BTreeSet::from(["gpu-0".to_owned()]));
        drop(all.enter("gpu-1"));
        drop(probe);
        assert!(left.as_mut().now_or_never().is_none(), "an engine is on it still");
        drop(engine);
        assert!(left.now_or_never().is_some());
    }

    #[test]
    fn what_is_wanted_back_is_told_once() {
        let all = Occupants::default();
        let mut wanted = all.wanted_back();
        let one = BTreeSet::from(["gpu-0".to_owned()]);
        all.want_back(one.clone());
        assert!(wanted.has_changed().unwrap());
        assert_eq!(*wanted.borrow_and_update(), one);
        all.want_back(one);
        assert!(!wanted.has_changed().unwrap());
    }
}
