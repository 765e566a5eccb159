//! The devices for people.

use std::fmt::Write as _;

use afterglow_crds::gpu_node::{Device, TestResult};

const HEAD: [&str; 8] = [
    "DEVICE",
    "PRODUCT",
    "FAMILY",
    "UNITS",
    "MEMORY",
    "DRIVER",
    "SELF-TEST",
    "OFFERED",
];

/// One line a device.
pub fn table(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "no device was found: /sys/class/drm lists no AMD card and OpenCL none either; see docs/guide/devices.md\n"
            .to_owned();
    }
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(devices.iter().map(row));
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:<width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end());
    }
    text
}

fn row(device: &Device) -> [String; 8] {
    [
        device.name.clone(),
        device.product_name.clone(),
        format!("{:?}", device.family),
        device.compute_units.to_string(),
        device.memory.0.clone(),
        device.driver.clone(),
        match device.self_test.result {
            TestResult::Passed => "passed",
            TestResult::Failed => "failed",
            TestResult::NotRun => "not run",
        }
        .to_owned(),
        if device.offered {
            "yes".to_owned()
        } else {
            format!("no: {}", device.not_offered_because)
        },
    ]
}
