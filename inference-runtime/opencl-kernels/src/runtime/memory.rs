//! How many bytes we hold on a device: proof that unloading gives everything back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::DeviceInfo;
use crate::error::{Error, Result};

/// Counts the bytes that this process holds in buffers of one device.
#[derive(Debug)]
pub struct DeviceMemory {
    device: String,
    total: u64,
    largest: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

impl DeviceMemory {
    pub(super) fn new(device: String, info: &DeviceInfo) -> Self {
        Self {
            device,
            total: info.global_memory,
            largest: info.max_allocation,
            held: AtomicU64::new(0),
            peak: AtomicU64::new(0),
        }
    }

    /// Bytes held now.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// The most bytes ever held at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Bytes that the device has in total.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Counts an allocation, or refuses one that cannot succeed. Drivers overcommit: without this check the error
    /// would come at the first launch, or never, as swapping.
    pub(super) fn reserve(&self, what: &str, bytes: u64) -> Result<()> {
        let refuse = |limit| Error::OutOfMemory {
            what: what.to_owned(),
            wanted: bytes,
            limit,
            device: self.device.clone(),
        };
        if bytes > self.largest {
            return Err(refuse(self.largest));
        }
        let grow = |held: u64| held.checked_add(bytes).filter(|held| *held <= self.total);
        match self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
            Ok(before) => {
                self.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(held) => Err(refuse(self.total - held)),
        }
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}
