//! The cards as the kernel sees them: `/sys/class/drm` and `/dev/dri`. Never `/dev/kfd`: the cards we serve have none.
//!
//! Everything is read below given roots, so that tests (and a fake inventory) can put any machine in place.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use afterglow_crds::gpu_node::Link;

use super::pci::AMD;

/// A card that the kernel sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Card {
    /// `0000:01:00.0`.
    pub(super) address: String,
    /// PCI device id.
    pub(super) device: u16,
    /// PCI revision.
    pub(super) revision: u8,
    /// `card0` → 0.
    pub(super) index: u32,
    /// Kernel driver, e.g. `amdgpu`; none if nobody drives it.
    pub(super) driver: Option<String>,
    /// Its render node.
    pub(super) render: Option<RenderNode>,
    /// Bytes of its memory.
    pub(super) memory: Option<u64>,
    /// Its PCIe link.
    pub(super) link: Option<Link>,
    /// Its folder in `/sys`.
    pub(super) folder: PathBuf,
}

/// A render node, through which a program without rights over the display computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RenderNode {
    /// `/dev/dri/renderD128`.
    pub(super) path: PathBuf,
    /// `renderD128` → 128.
    pub(super) index: u32,
    /// Its group; it differs from machine to machine.
    pub(super) gid: Option<u32>,
    /// Whether this process may use it.
    pub(super) access: Access,
}

/// Whether this process may use a device file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It may.
    Granted,
    /// The file is not there.
    Missing,
    /// It may not open the file.
    Denied,
}

/// What changes by itself while a card works.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Readings {
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Watts.
    pub power: Option<f64>,
    /// Bytes of memory in use, by whomever.
    pub memory_used: Option<f64>,
}

/// AMD's cards below `sysfs` (usually `/sys`), by PCI address; `dev` is usually `/dev`.
pub(super) fn cards(sysfs: &Path, dev: &Path) -> Vec<Card> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/drm")) else {
        return Vec::new();
    };
    let mut found: Vec<Card> = entries
        .flatten()
        .filter_map(|entry| {
            // `card0-HDMI-A-1` is a connector, not a card.
            let index = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            card(&entry.path().join("device"), index, dev)
        })
        .collect();
    found.sort_by(|a, b| a.address.cmp(&b.address));
    found
}

fn card(folder: &Path, index: u32, dev: &Path) -> Option<Card> {
    if hex(folder, "vendor")? != u32::from(AMD) {
        return None;
    }
    let uevent: BTreeMap<String, String> = text(folder, "uevent")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let address = uevent.get("PCI_SLOT_NAME").cloned().or_else(|| {
        let target = fs::canonicalize(folder).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    })?;
    Some(Card {
        address,
        device: u16::try_from(hex(folder, "device")?).ok()?,
        revision: hex(folder, "revision")
            .and_then(|r| u8::try_from(r).ok())
            .unwrap_or(0),
        index,
        driver: uevent.get("DRIVER").cloned(),
        render: render_node(folder, dev),
        memory: text(folder, "mem_info_vram_total").and_then(|bytes| bytes.parse().ok()),
        link: link(folder),
        folder: folder.to_owned(),
    })
}

fn render_node(folder: &Path, dev: &Path) -> Option<RenderNode> {
    let name = fs::read_dir(folder.join("drm"))
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.starts_with("renderD"))?;
    let index = name.strip_prefix("renderD")?.parse().ok()?;
    let file = dev.join("dri").join(&name);
    let (gid, access) = match fs::metadata(&file) {
        Err(_) => (None, Access::Missing),
        Ok(metadata) => {
            let opened = OpenOptions::new().read(true).write(true).open(&file).is_ok();
            let access = if opened { Access::Granted } else { Access::Denied };
            (Some(metadata.gid()), access)
        }
    };
    Some(RenderNode {
        path: Path::new("/dev/dri").join(&name),
        index,
        gid,
        access,
    })
}

fn link(folder: &Path) -> Option<Link> {
    let number = |file| text(folder, file)?.parse().ok();
    Some(Link {
        width: number("current_link_width")?,
        speed: text(folder, "current_link_speed")?,
        max_width: number("max_link_width")?,
        max_speed: text(folder, "max_link_speed")?,
    })
}

/// What a card's sensors say now.
pub(super) fn readings(folder: &Path) -> Readings {
    let hwmon = fs::read_dir(folder.join("hwmon"))
        .ok()
        .and_then(|mut entries| Some(entries.next()?.ok()?.path()));
    let number = |folder: &Path, file| text(folder, file)?.parse::<f64>().ok();
    let sensor = |file| number(hwmon.as_deref()?, file);
    Readings {
        temperature: sensor("temp1_input").map(|milli| milli / 1e3),
        power: sensor("power1_average")
            .or_else(|| sensor("power1_input"))
            .map(|micro| micro / 1e6),
        memory_used: number(folder, "mem_info_vram_used"),
    }
}

fn text(folder: &Path, file: &str) -> Option<String> {
    Some(fs::read_to_string(folder.join(file)).ok()?.trim().to_owned())
}

fn hex(folder: &Path, file: &str) -> Option<u32> {
    u32::from_str_radix(text(folder, file)?.trim_start_matches("0x"), 16).ok()
}

#[cfg(test)]
pub(crate) mod fake {
    //! A machine that is only files.

    use super::{Path, fs};

    /// Puts an RX 580 at `address` into the tree.
    pub(crate) fn rx_580(root: &Path, index: u32, address: &str) {
        let device = root.join(format!("sys/class/drm/card{index}/device"));
        let write = |file: &str, content: &str| {
            let path = device.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("vendor", "0x1002\n");
        write("device", "0x67df\n");
        write("revision", "0xe7\n");
        write(
            "uevent",
            &format!("DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME={address}\n"),
        );
        write("mem_info_vram_total", "8589934592\n");
        write("mem_info_vram_used", "104857600\n");
        write("current_link_width", "1\n");
        write("current_link_speed", "5.0 GT/s PCIe\n");
        write("max_link_width", "16\n");
        write("max_link_speed", "8.0 GT/s PCIe\n");
        write("hwmon/hwmon3/temp1_input", "51000\n");
        write("hwmon/hwmon3/power1_average", "32105000\n");
        fs::create_dir_all(device.join(format!("drm/renderD{}", 128 + index))).unwrap();
        fs::create_dir_all(root.join(format!("sys/class/drm/card{index}-HDMI-A-1"))).unwrap();
        let dri = root.join("dev/dri");
        fs::create_dir_all(&dri).unwrap();
        fs::write(dri.join(format!("renderD{}", 128 + index)), "").unwrap();
    }

    /// Sets a card's temperature.
    pub(crate) fn heat(root: &Path, index: u32, degrees: u32) {
        let file = root.join(format!(
            "sys/class/drm/card{index}/device/hwmon/hwmon3/temp1_input"
        ));
        fs::write(file, format!("{}\n", degrees * 1000)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cards_of(root: &Path) -> Vec<Card> {
        cards(&root.join("sys"), &root.join("dev"))
    }

    #[test]
    fn a_card_on_a_riser_is_read_with_its_link_and_its_render_node() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 1, "0000:03:00.0");
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        let cards = cards_of(root.path());
        assert_eq!(cards.len(), 2, "a connector is no card: {cards:?}");
        let card = &cards[0];
        assert_eq!(
            (card.address.as_str(), card.device, card.revision, card.memory),
            ("0000:01:00.0", 0x67df, 0xe7, Some(8 << 30))
        );
        let link = card.link.as_ref().unwrap();
        assert_eq!(
            (link.width, link.max_width, link.speed.as_str()),
            (1, 16, "5.0 GT/s PCIe")
        );
        let render = card.render.as_ref().unwrap();
        assert_eq!(render.path, Path::new("/dev/dri/renderD128"));
        let gid = fs::metadata(root.path().join("dev/dri/renderD128"))
            .unwrap()
            .gid();
        assert_eq!((render.gid, render.access), (Some(gid), Access::Granted));
        let readings = readings(&card.folder);
        assert_eq!(readings.temperature, Some(51.0));
        assert_eq!(readings.power, Some(32.105));
        assert_eq!(readings.memory_used, Some(104_857_600.0));
    }

    #[test]
    fn a_render_node_that_is_not_in_the_container_is_missing() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        fs::remove_file(root.path().join("dev/dri/renderD128")).unwrap();
        let render = cards_of(root.path())[0].render.clone().unwrap();
        assert_eq!((render.gid, render.access), (None, Access::Missing));
    }

    #[test]
    fn other_vendors_cards_and_machines_without_any_are_no_cards() {
        let root = tempfile::tempdir().unwrap();
        assert!(cards_of(root.path()).is_empty());
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        fs::write(root.path().join("sys/class/drm/card0/device/vendor"), "0x1a03\n").unwrap();
        assert!(cards_of(root.path()).is_empty());
    }

    #[test]
    fn a_card_with_half_its_files_is_still_a_card() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        let device = root.path().join("sys/class/drm/card0/device");
        for folder in ["hwmon", "drm"] {
            fs::remove_dir_all(device.join(folder)).unwrap();
        }
        for file in [
            "mem_info_vram_total",
            "mem_info_vram_used",
            "max_link_speed",
            "revision",
        ] {
            fs::remove_file(device.join(file)).unwrap();
        }
        let card = cards_of(root.path()).remove(0);
        assert_eq!(
            (card.memory, card.link, card.render, card.revision),
            (None, None, None, 0)
        );
        assert_eq!(readings(&card.folder), Readings::default());
    }
}
