//! What a device really is.

use std::fmt::Write as _;

use opencl_kernels::runtime::{self, Device, DeviceContext, DeviceInfo};
use opencl_kernels::selftest::{Measurement, Verdict, measure, self_test};
use serde::Serialize;

use crate::session::DeviceChoice;

/// A device, what it says of itself and what it does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Examined {
    /// What selects it: `opencl:0`.
    device: String,
    #[serde(flatten)]
    info: DeviceInfo,
    /// Whether it computes right; absent if it was not tried.
    self_test: Option<Verdict>,
    /// How fast it is; absent if it was not tried or failed its test.
    measured: Option<Measurement>,
}

impl Examined {
    /// Whether nothing speaks against using it.
    pub(crate) fn sound(&self) -> bool {
        self.self_test.as_ref().is_none_or(Verdict::passed)
    }
}

/// Every OpenCL device of this machine, or `only` that one; with `try_them` also tested and measured, about two seconds each.
pub(crate) fn examine(
    try_them: bool,
    only: Option<DeviceChoice>,
) -> Result<Vec<Examined>, opencl_kernels::Error> {
    Ok(runtime::devices()?
        .into_iter()
        .enumerate()
        .filter(|(index, _)| only.is_none_or(|only| only == DeviceChoice::OpenCl(*index)))
        .map(|(index, device)| one(index, device, try_them))
        .collect())
}

fn one(index: usize, device: Device, try_it: bool) -> Examined {
    let info = device.info().clone();
    let mut examined = Examined {
        device: DeviceChoice::OpenCl(index).to_string(),
        info,
        self_test: None,
        measured: None,
    };
    if !try_it {
        return examined;
    }
    let failed = |reason: String| Some(Verdict::Fail { reason });
    match DeviceContext::open(device) {
        Err(error) => examined.self_test = failed(error.to_string()),
        Ok(context) => {
            let verdict = self_test(&context);
            if verdict.passed() {
                match measure(&context) {
                    Ok(measured) => examined.measured = Some(measured),
                    Err(error) => {
                        examined.self_test =
                            failed(format!("it computes right but cannot be measured: {error}"));
                        return examined;
                    }
                }
            }
            examined.self_test = Some(verdict);
        }
    }
    examined
}

/// The devices for people.
pub(crate) fn table(devices: &[Examined]) -> String {
    const HEAD: [&str; 9] = [
        "DEVICE",
        "NAME",
        "DRIVER",
        "UNITS",
        "MEMORY",
        "OPENCL",
        "GFLOP/S",
        "GB/S",
        "SELF-TEST",
    ];
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(devices.iter().map(row));
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
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

fn row(device: &Examined) -> [String; 9] {
    let info = &device.info;
    let measured = |value: fn(&Measurement) -> f64| {
        device
            .measured
            .as_ref()
            .map_or("-".to_owned(), |m| format!("{:.1}", value(m)))
    };
    [
        device.device.clone(),
        match info.pci {
            Some(pci) => format!("{} at {pci}", info.name),
            None => info.name.clone(),
        },
        format!("{} {}", info.platform, info.driver_version),
        info.compute_units.to_string(),
        format!("{:.1} GiB", info.global_memory as f64 / f64::from(1 << 30)),
        info.opencl_version
            .split_whitespace()
            .nth(1)
            .unwrap_or(&info.opencl_version)
            .to_owned(),
        measured(|m| m.gflops),
        measured(|m| m.copy_gb_per_s),
        match &device.self_test {
            None => "not run".to_owned(),
            Some(Verdict::Pass) => "pass".to_owned(),
            Some(Verdict::Fail { reason }) => format!("FAIL: {reason}"),
        },
    ]
}
