//! Builds, on the first OpenCL device, every kernel variant that graphs of the operators we know make a GPU run.
//!
//! ```sh
//! cargo run -p opencl-kernels --example compile_gate 2> blocks.txt
//! ```
//!
//! Each kernel is built alone, between the lines `BEGIN file kernel options` and `END private local` on standard error,
//! so that what a driver says of its compilation can be attributed; `private` and `local` are bytes. Nothing is run.
//! `cargo xtask kernel-gate` calls this behind the driver of the card we care about and judges what it says.
#![expect(clippy::print_stderr, reason = "what this program says is its result")]

mod networks;
mod operators;

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;

use opencl_kernels::ir::Graph;
use opencl_kernels::plan::{Launch, Plan, Step};
use opencl_kernels::runtime::{
    DeviceContext, DeviceKind, DeviceTraits, DiskCache, build_alone, default_device,
};
use opencl_kernels::{CompileOptions, Program};

/// A graph and the shapes that it is planned for.
struct Subject {
    graph: Graph,
    shapes: Vec<Vec<usize>>,
    fuse: bool,
}

impl Subject {
    /// Every launch of the plan.
    fn launches(self, device: &DeviceTraits) -> opencl_kernels::Result<Vec<Launch>> {
        let program = Program::compile(self.graph, &CompileOptions { fuse: self.fuse })?;
        let shapes: Vec<&[usize]> = self.shapes.iter().map(Vec::as_slice).collect();
        let plan = Plan::make(&program, &shapes, device)?;
        let launch = |step| match step {
            Step::Launch(launch) => Some(launch),
            Step::Copy { .. } => None,
        };
        Ok(plan.steps.into_iter().filter_map(launch).collect())
    }
}

/// One launch for each kernel and set of options.
#[derive(Default)]
struct Variants(BTreeMap<(&'static str, &'static str, String), Launch>);

impl Variants {
    fn add(&mut self, launches: Vec<Launch>) {
        for launch in launches {
            let key = (launch.source.name, launch.kernel, launch.options.join(" "));
            self.0.entry(key).or_insert(launch);
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let device = default_device()?;
    let traits = DeviceTraits {
        kind: DeviceKind::Gpu,
        ..device.traits()
    };
    let mut variants = Variants::default();
    for subject in networks::all() {
        let name = subject.graph.name.clone();
        let launches = subject
            .launches(&traits)
            .map_err(|error| format!("the graph '{name}': {error}"))?;
        variants.add(launches);
    }
    operators::add(&mut variants, &traits)?;

    eprintln!("DEVICE {device}");
    eprintln!("DRIVER {}", device.info().driver_version);
    let context = DeviceContext::open_as(device, DiskCache::none(), traits)?;
    for ((file, kernel, options), launch) in &variants.0 {
        eprintln!("BEGIN {file} {kernel} {options}");
        let memory = build_alone(&context, launch)?;
        eprintln!("END {} {}", memory.private, memory.local);
    }
    eprintln!("BUILT {}", variants.0.len());
    Ok(())
}
