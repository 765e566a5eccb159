//! What a device really is: does it compute right, and how fast is it?
//!
//! A driver's word is not enough. Cards return garbage after a reset, drivers miscompile, and Mesa's no-op shim accepts
//! every launch and executes none. So the kernels that serve requests first compute small canaries here, and each
//! answer is compared with the CPU reference. Nothing here protects against a device that hangs: run it in a process
//! that may be killed.

mod canary;
mod measure;

use std::sync::Arc;

use crate::runtime::DeviceContext;

pub use measure::{Measurement, measure};

/// Whether a device computes right.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Every canary came back alive.
    Pass,
    /// The device must not be used.
    Fail {
        /// Which canary died, and how.
        reason: String,
    },
}

impl Verdict {
    /// Whether the device may be used.
    pub fn passed(&self) -> bool {
        *self == Self::Pass
    }
}

/// Computes every canary twice (a flaky device may be right once) and stops at the first that is wrong.
pub fn self_test(context: &Arc<DeviceContext>) -> Verdict {
    let failure = canary::all().into_iter().find_map(|canary| {
        canary
            .run(context)
            .err()
            .map(|reason| format!("{}: {reason}", canary.name()))
    });
    failure.map_or(Verdict::Pass, |reason| Verdict::Fail { reason })
}
