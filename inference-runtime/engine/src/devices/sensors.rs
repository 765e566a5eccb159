//! What the amdgpu driver tells of a card in `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::session::Device;

/// A card's folder in `/sys`; empty for devices without one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sensors {
    id: String,
    folder: Option<PathBuf>,
}

/// One value under the name that Triton's dashboards know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) value: f64,
}

impl Sensors {
    /// The sensors of a device, by its PCI address.
    pub(crate) fn of(device: &Device) -> Self {
        let address = device
            .details()
            .iter()
            .find(|(key, _)| key == "pci_address")
            .map(|(_, address)| address.clone());
        match address {
            Some(address) => Self::at(Path::new("/sys/bus/pci/devices"), address),
            None => Self::default(),
        }
    }

    fn at(root: &Path, address: String) -> Self {
        let folder = root.join(&address);
        // The address comes from a driver: only one that names a folder here is looked into.
        let plain = address
            .chars()
            .all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
        Self {
            folder: (plain && folder.is_dir()).then_some(folder),
            id: address,
        }
    }

    /// Identifies the card.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Bytes of the card's memory in use, by whomever.
    pub(crate) fn memory_used(&self) -> Option<u64> {
        let text = fs::read_to_string(self.folder.as_ref()?.join("mem_info_vram_used")).ok()?;
        text.trim().parse().ok()
    }

    /// What can be read now.
    pub(crate) fn read(&self) -> Vec<Reading> {
        let Some(folder) = &self.folder else {
            return Vec::new();
        };
        let hwmon = fs::read_dir(folder.join("hwmon"))
            .ok()
            .and_then(|mut entries| Some(entries.next()?.ok()?.path()));
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
        let card = |file: &str| number(folder.join(file));
        let sensor = |file: &str| number(hwmon.as_ref()?.join(file));
        let rows = [
            (
                "nv_gpu_memory_total_bytes",
                "Memory of the GPU",
                card("mem_info_vram_total"),
                1.0,
            ),
            (
                "nv_gpu_memory_used_bytes",
                "Memory of the GPU in use, by whomever",
                card("mem_info_vram_used"),
                1.0,
            ),
            (
                "nv_gpu_utilization",
                "Share of time the GPU is busy, 0 to 1",
                card("gpu_busy_percent"),
                1e-2,
            ),
            (
                "nv_gpu_power_usage",
                "Power the GPU takes, in watts",
                sensor("power1_average"),
                1e-6,
            ),
            (
                "nv_gpu_power_limit",
                "Power the GPU may take, in watts",
                sensor("power1_cap"),
                1e-6,
            ),
        ];
        let reading = |(name, help, value, scale): (_, _, Option<f64>, f64)| {
            value.map(|value| Reading {
                name,
                help,
                value: value * scale,
            })
        };
        rows.into_iter().filter_map(reading).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cards_files_become_readings_and_what_is_missing_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let card = root.path().join("0000:01:00.0");
        fs::create_dir_all(card.join("hwmon/hwmon3")).unwrap();
        fs::write(card.join("mem_info_vram_total"), "8589934592\n").unwrap();
        fs::write(card.join("gpu_busy_percent"), "37\n").unwrap();
        fs::write(card.join("hwmon/hwmon3/power1_average"), "95000000\n").unwrap();
        let sensors = Sensors::at(root.path(), "0000:01:00.0".into());
        let read: Vec<(&str, f64)> = sensors.read().iter().map(|r| (r.name, r.value)).collect();
        assert_eq!(
            read,
            [
                ("nv_gpu_memory_total_bytes", 8_589_934_592.0),
                ("nv_gpu_utilization", 0.37),
                ("nv_gpu_power_usage", 95.0)
            ]
        );
        for wrong in ["../secret", "0000:02:00.0"] {
            assert!(Sensors::at(root.path(), wrong.into()).read().is_empty());
        }
        assert!(Sensors::default().read().is_empty());
    }
}
