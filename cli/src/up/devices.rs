//! Which of this machine's devices serve, by `--device`.

use std::fs;

use afterglow_crds::gpu_node::{Device, DeviceType, SelfTest, TestResult};
use afterglow_crds::inference_cluster::CpuFallback;
use afterglow_crds::quantity::quantity;
use anyhow::Result;

use crate::hint;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// Every card; without one, a processor through OpenCL, unless that is forbidden.
    Auto,
    /// The OpenCL device of that selector.
    One(String),
    /// ONNX Runtime on the processor, without OpenCL.
    Cpu,
}

impl Choice {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let number = text.strip_prefix("opencl:").map(str::parse::<u32>);
        match (text, number) {
            ("auto" | "opencl", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(Ok(_))) => Ok(Self::One(text.to_owned())),
            _ => Err(hint::error(
                format!("--device {text} is no device"),
                "say auto, opencl, opencl:N as `afterglow devices` lists them, or cpu",
            )),
        }
    }

    /// Of what was found, what serves; and whether processors may.
    pub(super) fn of(&self, found: &[Device], asked: Option<CpuFallback>) -> (Vec<Device>, CpuFallback) {
        match self {
            Self::Cpu => (vec![processor()], CpuFallback::Allowed),
            Self::One(selector) => {
                let one: Vec<Device> = found
                    .iter()
                    .filter(|device| device.selector.as_ref() == Some(selector))
                    .cloned()
                    .collect();
                (one, CpuFallback::Allowed)
            }
            Self::Auto => {
                let card = found
                    .iter()
                    .any(|device| device.type_ == DeviceType::Gpu && device.offered);
                let fallback = match asked {
                    Some(asked) => asked,
                    // Nobody said a word: whoever starts this on a machine without a card means this machine.
                    None if card => CpuFallback::Forbidden,
                    None => CpuFallback::Allowed,
                };
                (found.to_vec(), fallback)
            }
        }
    }
}

/// The processor without OpenCL: always there, always right.
fn processor() -> Device {
    Device {
        name: "cpu".to_owned(),
        type_: DeviceType::Cpu,
        product_name: "processor".to_owned(),
        selector: Some("cpu".to_owned()),
        memory: quantity(memory().unwrap_or(0)),
        driver: "ONNX Runtime".to_owned(),
        self_test: SelfTest {
            result: TestResult::NotRun,
            ..SelfTest::default()
        },
        offered: true,
        ..Device::default()
    }
}

fn memory() -> Option<u64> {
    let about = fs::read_to_string("/proc/meminfo").ok()?;
    let line = about.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(selector: &str, type_: DeviceType) -> Device {
        Device {
            name: selector.replace(':', "-"),
            type_,
            selector: Some(selector.into()),
            offered: true,
            ..Device::default()
        }
    }

    #[test]
    fn a_processor_stands_in_only_where_there_is_no_card_or_somebody_allows_it() {
        let card = device("opencl:0", DeviceType::Gpu);
        let cpu = device("opencl:1", DeviceType::Cpu);
        let both = [card.clone(), cpu.clone()];
        let allowed = |found: &[Device], asked| Choice::Auto.of(found, asked).1 == CpuFallback::Allowed;
        assert!(!allowed(&both, None));
        assert!(allowed(std::slice::from_ref(&cpu), None));
        assert!(!allowed(std::slice::from_ref(&cpu), Some(CpuFallback::Forbidden)));
        assert!(allowed(&both, Some(CpuFallback::Allowed)));
        let one = Choice::parse("opencl:1")
            .unwrap()
            .of(&both, Some(CpuFallback::Forbidden));
        assert_eq!(one, (vec![cpu], CpuFallback::Allowed), "named is allowed");
    }

    #[test]
    fn a_device_that_is_none_is_refused() {
        for bad in ["gpu", "opencl:", "opencl:x", ""] {
            assert!(Choice::parse(bad).is_err(), "{bad}");
        }
        assert!(memory().unwrap() > 0);
    }
}
