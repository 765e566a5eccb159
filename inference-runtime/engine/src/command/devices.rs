//! `afterglow-engine devices`.

use std::io::Write as _;
use std::process::ExitCode;

use afterglow_telemetry::{Format, Lines};
use anyhow::Result;
use clap::Args;

use super::Output;
use crate::devices::{self, Examined};
use crate::probe;
use crate::session::DeviceChoice;

#[derive(Debug, Args)]
pub(super) struct Devices {
    /// How the list is written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// List only; neither test nor measure
    #[arg(long)]
    quick: bool,
    /// List and test only this device, e.g. opencl:0: a card that hangs cannot take the others' test with it
    #[arg(long, value_name = "DEVICE")]
    only: Option<DeviceChoice>,
    /// End when the parent process, which is this one, ends
    #[arg(long, value_name = "PID", hide = true)]
    die_with_parent: Option<i32>,
}

impl Devices {
    pub(super) fn run(self) -> Result<ExitCode> {
        probe::end_with_parent(self.die_with_parent)?;
        afterglow_telemetry::log(Lines::of(Format::Text, "warn"));
        let examined = devices::examine(!self.quick, self.only)?;
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(&examined)? + "\n",
            Output::Table if examined.is_empty() => "no OpenCL device was found; install Mesa's rusticl for an AMD card \
                (Debian: mesa-opencl-icd, and set RUSTICL_ENABLE=radeonsi) or PoCL for the CPU (Debian: pocl-opencl-icd)\n"
                .to_owned(),
            Output::Table => devices::table(&examined),
        };
        anstream::stdout().write_all(text.as_bytes())?;
        let sound = examined.iter().all(Examined::sound);
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}
