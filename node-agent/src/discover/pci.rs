//! AMD's PCI ids: which generation a card is of, and what it is called.

use afterglow_crds::gpu_node::Family;

/// AMD's vendor id.
pub(super) const AMD: u16 = 0x1002;

/// The generation of a card, by its device id (the kernel driver's list).
pub(super) fn family(device: u16) -> Family {
    match device {
        // Polaris 10, 11, 12 and their mobile sister Vega M.
        0x67c0..=0x67df | 0x6fdf | 0x67e0..=0x67ff | 0x6980..=0x699f | 0x694c..=0x694f => Family::Polaris,
        // Vega 10, 12, 20.
        0x6860..=0x687f | 0x69a0..=0x69af | 0x66a0..=0x66af => Family::Vega,
        // Navi 10, 14, 12.
        0x7310..=0x731f | 0x7340..=0x734f | 0x7360..=0x7362 => Family::Navi1,
        // Navi 21, 22, 23, 24.
        0x73a0..=0x73bf | 0x73c0..=0x73df | 0x73e0..=0x73ff | 0x7420..=0x743f => Family::Navi2,
        // Navi 31, 32, 33.
        0x7440..=0x749f => Family::Navi3,
        _ => Family::Other,
    }
}

/// The generation of a card by what Mesa calls its chip: `radeonsi, polaris10, ACO, …`.
pub(super) fn family_of_chip(description: &str) -> Family {
    const CHIPS: &[(&str, Family)] = &[
        ("polaris", Family::Polaris),
        ("vegam", Family::Polaris),
        ("vega", Family::Vega),
        ("navi10", Family::Navi1),
        ("navi12", Family::Navi1),
        ("navi14", Family::Navi1),
        ("navi21", Family::Navi2),
        ("navi22", Family::Navi2),
        ("navi23", Family::Navi2),
        ("navi24", Family::Navi2),
        ("navi31", Family::Navi3),
        ("navi32", Family::Navi3),
        ("navi33", Family::Navi3),
        ("gfx803", Family::Polaris),
        // Not all of gfx90: gfx908 and gfx90a are MI100 and MI200.
        ("gfx900", Family::Vega),
        ("gfx902", Family::Vega),
        ("gfx904", Family::Vega),
        ("gfx906", Family::Vega),
        ("gfx909", Family::Vega),
        ("gfx90c", Family::Vega),
        ("gfx101", Family::Navi1),
        ("gfx103", Family::Navi2),
    ];
    description
        .to_ascii_lowercase()
        .split([',', '(', ')', ' '])
        .find_map(|word| {
            CHIPS
                .iter()
                .find(|(chip, _)| word.starts_with(chip))
                .map(|(_, family)| *family)
        })
        .unwrap_or_default()
}

/// What a card is called. One device id covers many products: only the revision tells an RX 580 from an RX 470.
pub(super) fn product(device: u16, revision: u8) -> String {
    let name = match (device, revision) {
        (0x67df, 0xc1 | 0xc3 | 0xe7) => "AMD Radeon RX 580 Series",
        (0x67df, 0xc2 | 0xc6 | 0xef) => "AMD Radeon RX 570 Series",
        (0x67df, 0xc4 | 0xc7) => "AMD Radeon RX 480 Graphics",
        (0x67df, 0xc5 | 0xcf | 0xd7) => "AMD Radeon RX 470 Graphics",
        (0x67df, 0xe0 | 0xff) => "AMD Radeon RX 470 Series",
        (0x67df, 0xe1) => "AMD Radeon RX 590 Series",
        (0x67df, 0xc0 | 0xeb) => "AMD Radeon Pro 580X",
        (0x67df, 0xf7) => "AMD Radeon RX P30PH",
        (0x6fdf, 0xe7) => "AMD Radeon RX 590 GME",
        (0x6fdf, 0xef) => "AMD Radeon RX 580 2048SP",
        (0x67ef, 0xc1 | 0xc5 | 0xcf | 0xff) => "AMD Radeon RX 460 Graphics",
        (0x67ef, 0xe0 | 0xe5 | 0xe7) | (0x67ff, 0xc1 | 0xcf | 0xef) => "AMD Radeon RX 560 Series",
        (0x67ef, 0xe2) => "AMD Radeon RX 560X",
        (0x67ef, 0xef) => "AMD Radeon 550 Series",
        (0x67ff, 0xff) => "AMD Radeon RX 550 Series",
        (0x699f, 0xc7) => "AMD Radeon RX 550 / 550 Series",
        (0x699f, 0xc0 | 0xc3) => "AMD Radeon 500 Series",
        (0x699f, 0xc1 | 0xc9) => "AMD Radeon 540",
        (0x687f, 0xc0 | 0xc1 | 0xc3 | 0xc7) => "AMD Radeon RX Vega",
        _ => {
            let generation = match family(device) {
                Family::Polaris => "Polaris card",
                Family::Vega => "Vega card",
                Family::Navi1 | Family::Navi2 | Family::Navi3 => "Navi card",
                Family::Other => "card",
            };
            return format!("AMD {generation} {device:04x} rev {revision:02x}");
        }
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_tells_which_card_it_is() {
        assert_eq!(product(0x67df, 0xe7), "AMD Radeon RX 580 Series");
        assert_eq!(product(0x67df, 0xcf), "AMD Radeon RX 470 Graphics");
        assert_eq!(product(0x6fdf, 0xef), "AMD Radeon RX 580 2048SP");
        assert_eq!(product(0x687f, 0xc3), "AMD Radeon RX Vega");
        assert_eq!(product(0x67df, 0x01), "AMD Polaris card 67df rev 01");
        assert_eq!(product(0x1234, 0x01), "AMD card 1234 rev 01");
    }

    #[test]
    fn id_and_chip_name_agree_on_the_generation() {
        for (device, chip, family_is) in [
            (0x67df, "radeonsi, polaris10, ACO, DRM 3.49", Family::Polaris),
            (0x67ef, "radeonsi, polaris11", Family::Polaris),
            (0x699f, "polaris12", Family::Polaris),
            (0x694c, "vegam", Family::Polaris),
            (0x687f, "vega10", Family::Vega),
            (0x66af, "vega20", Family::Vega),
            (0x687f, "AMD Radeon RX Vega (radeonsi, gfx900)", Family::Vega),
            (0x738c, "gfx908", Family::Other),
            (0x731f, "navi10", Family::Navi1),
            (0x7340, "navi14", Family::Navi1),
            (0x73bf, "navi21", Family::Navi2),
            (0x73ff, "navi23", Family::Navi2),
            (0x743f, "navi24", Family::Navi2),
            (0x744c, "navi31", Family::Navi3),
            (0x164e, "raphael_mendocino", Family::Other),
        ] {
            assert_eq!(family(device), family_is, "{device:04x}");
            assert_eq!(family_of_chip(chip), family_is, "{chip}");
        }
    }
}
