//! How row kernels are launched: one work-group a row on a GPU, one work-item a row on a CPU.

use crate::runtime::DeviceKind;

/// Rows up to this length get a work-group of one wave, whose barriers cost nothing.
const LONGEST_FOR_ONE_WAVE: usize = 1024;

/// Which of a row program's two kernels to launch, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Rows {
    /// Work-items that share a row; `None` where each row has one work-item.
    pub(in crate::ops) group: Option<usize>,
}

impl Rows {
    /// The launch for rows of this length.
    pub(in crate::ops) fn new(device: DeviceKind, length: usize) -> Self {
        let group = match device {
            DeviceKind::Gpu if length <= LONGEST_FOR_ONE_WAVE => Some(64),
            DeviceKind::Gpu => Some(256),
            DeviceKind::Cpu => None,
        };
        Self { group }
    }

    /// The kernel: `group` or `serial`.
    pub(in crate::ops) fn kernel(self, group: &'static str, serial: &'static str) -> &'static str {
        if self.group.is_some() { group } else { serial }
    }

    /// The build option that `group.cl` needs.
    pub(in crate::ops) fn option(self) -> Option<String> {
        self.group.map(|size| format!("-DGROUP={size}"))
    }

    /// Work-items and work-group size for so many rows.
    pub(in crate::ops) fn work(self, rows: usize) -> ([usize; 3], [usize; 3]) {
        match self.group {
            Some(size) => ([rows * size, 1, 1], [size, 1, 1]),
            // A row is work enough for a work-group of its own: no remainder, and few rows spread over all cores.
            None => ([rows, 1, 1], [1, 1, 1]),
        }
    }
}
