//! The device a session is made for.

use std::fmt;
use std::str::FromStr;

use opencl_kernels::runtime::DeviceKind;
use ort::session::builder::SessionBuilder;
use ort_ep_sys::session::device_metadata;

use super::runtime::{Runtime, RuntimeError};

/// The name of our execution provider.
pub(crate) const PROVIDER: &str = "AfterglowPluginExecutionProvider";

/// What a user asks for with `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first OpenCL GPU, else the first OpenCL device; never the CPU provider.
    #[default]
    Auto,
    /// The n-th OpenCL device; the first where no number is given.
    OpenCl(usize),
    /// ONNX Runtime's CPU provider.
    Cpu,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::OpenCl(index) => write!(f, "opencl:{index}"),
            Self::Cpu => f.write_str("cpu"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "opencl" => Ok(Self::OpenCl(0)),
            other => other
                .strip_prefix("opencl:")
                .and_then(|index| index.parse().ok())
                .map(Self::OpenCl)
                .ok_or_else(|| format!("`{other}` is no device; devices are auto, opencl, opencl:N and cpu")),
        }
    }
}

/// No device as asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// ONNX Runtime or the provider's library cannot be used.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// There is no OpenCL device at all.
    #[error(
        "no OpenCL device was found; on a machine with an AMD card install Mesa's rusticl (Debian: \
         mesa-opencl-icd) and set RUSTICL_ENABLE=radeonsi, without a card install PoCL (Debian: \
         pocl-opencl-icd), or ask for ONNX Runtime's CPU provider with --device cpu"
    )]
    NoOpenCl,
    /// OpenCL itself fails.
    #[error("the OpenCL devices cannot be listed: {0}")]
    Listing(String),
    /// There are fewer devices.
    #[error("there is no OpenCL device {index}; there are: {}", present.join(", "))]
    NoSuchIndex {
        /// What was asked for.
        index: usize,
        /// What there is.
        present: Vec<String>,
    },
}

/// A device that sessions can be made for.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    runtime: Runtime,
    place: Place,
    name: String,
    gpu: bool,
    details: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Cpu,
    OpenCl(usize),
}

impl Device {
    /// The device that `choice` names.
    pub(crate) fn choose(runtime: &Runtime, choice: DeviceChoice) -> Result<Self, DeviceError> {
        if choice == DeviceChoice::Cpu {
            return Ok(Self::cpu(runtime));
        }
        let mut present = Self::open_cl(runtime)?;
        if present.is_empty() {
            return Err(DeviceError::NoOpenCl);
        }
        let index = match choice {
            DeviceChoice::OpenCl(index) => index,
            _ => present.iter().position(|device| device.gpu).unwrap_or(0),
        };
        if index >= present.len() {
            return Err(DeviceError::NoSuchIndex {
                index,
                present: present.iter().map(Self::label).collect(),
            });
        }
        Ok(present.swap_remove(index))
    }

    /// ONNX Runtime's CPU provider.
    pub(crate) fn cpu(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            place: Place::Cpu,
            name: String::new(),
            gpu: false,
            details: Vec::new(),
        }
    }

    /// Every OpenCL device, in the order of their numbers.
    fn open_cl(runtime: &Runtime) -> Result<Vec<Self>, DeviceError> {
        runtime.register_provider()?;
        // The provider lists the same devices in the same order; what kind each is stands only here.
        let kinds: Vec<DeviceKind> = opencl_kernels::runtime::devices()
            .map_err(|e| DeviceError::Listing(e.to_string()))?
            .iter()
            .map(|device| device.info().kind)
            .collect();
        let device = |(index, device): (usize, ort::device::Device<'_>)| {
            // Where the provider's file lies is nobody's business but this process'.
            let details: Vec<(String, String)> = device_metadata(&device)
                .into_iter()
                .filter(|(key, _)| key != "library_path")
                .collect();
            let said = |key: &str| {
                details
                    .iter()
                    .find(|(k, _)| k == key)
                    .map(|(_, value)| value.clone())
            };
            Self {
                runtime: runtime.clone(),
                place: Place::OpenCl(index),
                name: said("opencl_name").unwrap_or_else(|| "unnamed".to_owned()),
                gpu: kinds.get(index) == Some(&DeviceKind::Gpu),
                details,
            }
        };
        Ok(provider_devices(runtime).enumerate().map(device).collect())
    }

    /// `cpu` or `opencl:0 NAME`.
    pub(crate) fn label(&self) -> String {
        match self.place {
            Place::Cpu => "cpu".to_owned(),
            Place::OpenCl(index) => format!("opencl:{index} {}", self.name),
        }
    }

    /// The choice that leads to this device again, also in another process.
    pub(crate) fn choice(&self) -> DeviceChoice {
        match self.place {
            Place::Cpu => DeviceChoice::Cpu,
            Place::OpenCl(index) => DeviceChoice::OpenCl(index),
        }
    }

    /// Whether this is ONNX Runtime's CPU provider.
    pub(crate) fn is_cpu(&self) -> bool {
        self.place == Place::Cpu
    }

    /// What the provider says of the device: driver, PCI address, …
    pub(crate) fn details(&self) -> &[(String, String)] {
        &self.details
    }

    /// The runtime that sessions for this device live in.
    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Options for a session on this device.
    pub(super) fn session_builder(&self) -> Result<SessionBuilder, ort::Error> {
        let builder = SessionBuilder::new(&self.runtime.environment)?
            .with_config_entry("session.record_ep_graph_assignment_info", "1")?
            // A pattern is remembered for each combination of shapes: with texts of every length that only grows.
            .with_memory_pattern(false)?;
        Ok(match self.place {
            Place::Cpu => builder,
            Place::OpenCl(index) => builder.with_devices(provider_devices(&self.runtime).nth(index), None)?,
        })
    }
}

fn provider_devices(runtime: &Runtime) -> impl Iterator<Item = ort::device::Device<'_>> {
    runtime
        .environment
        .devices()
        .filter(|device| device.ep().is_ok_and(|name| name == PROVIDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written_alike_and_a_wrong_one_lists_the_right_ones() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("opencl:0", DeviceChoice::OpenCl(0)),
            ("opencl:12", DeviceChoice::OpenCl(12)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("opencl".parse(), Ok(DeviceChoice::OpenCl(0)));
        for wrong in ["", "gpu", "opencl:", "opencl:-1", "opencl:x", "CPU"] {
            let error = wrong.parse::<DeviceChoice>().unwrap_err();
            assert!(error.contains("auto, opencl, opencl:N and cpu"), "{error}");
        }
    }
}
