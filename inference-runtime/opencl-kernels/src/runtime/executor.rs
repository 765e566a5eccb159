//! Runs a program on a device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::instance::{Constants, Instance};
use super::run::{FAULT_BYTES, Run};
use super::{Buffer, DeviceContext, Queue};
use crate::error::Result;
use crate::plan::Plan;
use crate::program::Program;
use crate::tensor::{HostTensor, TensorType};

/// An input of a run, borrowed from the caller.
#[derive(Debug, Clone, Copy)]
pub struct InputView<'i> {
    /// Extents.
    pub shape: &'i [usize],
    /// Row-major little-endian elements of the type that the program declares for this input.
    pub bytes: &'i [u8],
}

impl<'i> From<&'i HostTensor> for InputView<'i> {
    fn from(tensor: &'i HostTensor) -> Self {
        Self {
            shape: tensor.shape(),
            bytes: tensor.bytes(),
        }
    }
}

/// Where a run's outputs go.
pub trait OutputSink {
    /// Memory for the output at this index: exactly [`TensorType::bytes`] long. Called once per output, in order.
    fn output(&mut self, index: usize, ty: &TensorType) -> Result<&mut [u8]>;
}

/// Choices for an executor.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// How many sets of input shapes keep their plan; the least recently used one goes first.
    pub plans: usize,
}

impl Default for ExecutorOptions {
    fn default() -> Self {
        Self { plans: 16 }
    }
}

/// Device memory that an executor holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct MemoryUse {
    /// Weights and what was made of them.
    pub constants: u64,
    /// Temporary memory, shared by all plans.
    pub arena: u64,
    /// What plans hold of their own.
    pub plans: u64,
}

impl MemoryUse {
    /// All of it.
    pub fn total(self) -> u64 {
        self.constants + self.arena + self.plans
    }
}

/// What an observed run did. Times count from when it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the plan for its shapes was ready to run.
    pub planned: Duration,
    /// Whether it had been made before.
    pub plan_cached: bool,
    /// When the outputs were there.
    pub ended: Duration,
    /// What the device did, in order; empty where the device does not say it.
    pub steps: Vec<StepTime>,
}

/// How long one step took on the device.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepTime {
    /// The node that the step computes.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// The kernel, or `copy`.
    pub kernel: &'static str,
    /// Work-items per dimension; all 0 for a copy.
    pub global: [usize; 3],
    /// Work-items of a group per dimension; all 0 for a copy.
    pub local: [usize; 3],
    /// When the device began, since the run began; the device's clock is laid over the host's where they first meet.
    pub begin: Duration,
    /// Nanoseconds between start and end on the device.
    pub nanoseconds: u64,
}

/// A program on a device: constants uploaded, plans kept per input shape.
///
/// One run at a time; several executors may share a device (and each has a queue of its own). After an error the
/// executor can be used again.
#[derive(Debug)]
pub struct Executor {
    // Fields drop in order: plans before the memory they point into, the queue last.
    plans: Vec<Planned>,
    constants: Constants,
    arena: Option<Buffer>,
    fault: Arc<Buffer>,
    program: Arc<Program>,
    options: ExecutorOptions,
    /// With timestamps, for observed runs; made when the first one comes.
    timed: Option<Queue>,
    queue: Queue,
}

/// A plan in the cache. Without an instance, its memory was given up when the arena grew.
#[derive(Debug)]
struct Planned {
    shapes: Vec<Vec<usize>>,
    plan: Plan,
    instance: Option<Instance>,
}

impl Planned {
    fn is_for(&self, inputs: &[InputView<'_>]) -> bool {
        self.shapes.len() == inputs.len() && self.shapes.iter().zip(inputs).all(|(s, input)| s == input.shape)
    }
}

impl Executor {
    /// An executor with default options. Nothing is uploaded before the first run.
    pub fn new(context: Arc<DeviceContext>, program: Arc<Program>) -> Result<Self> {
        Self::with_options(context, program, ExecutorOptions::default())
    }

    /// An executor.
    pub fn with_options(
        context: Arc<DeviceContext>,
        program: Arc<Program>,
        options: ExecutorOptions,
    ) -> Result<Self> {
        let fault = Arc::new(Buffer::new(&context, "fault record", FAULT_BYTES)?);
        Ok(Self {
            plans: Vec::new(),
            constants: Constants::default(),
            arena: None,
            fault,
            program,
            options,
            timed: None,
            queue: Queue::new(context, false)?,
        })
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The device.
    pub fn context(&self) -> &Arc<DeviceContext> {
        self.queue.context()
    }

    /// Device memory held now.
    pub fn memory(&self) -> MemoryUse {
        let plans = self.plans.iter().filter_map(|planned| planned.instance.as_ref());
        MemoryUse {
            constants: self.constants.bytes(),
            arena: self.arena.as_ref().map_or(0, |arena| arena.bytes() as u64),
            plans: plans.map(Instance::own_bytes).sum::<u64>() + self.fault.bytes() as u64,
        }
    }

    /// Number of plans in the cache.
    pub fn plans(&self) -> usize {
        self.plans.len()
    }

    /// Plans, builds and uploads for these input shapes without running: what a warm-up does.
    pub fn prepare(&mut self, shapes: &[&[usize]]) -> Result<()> {
        let inputs: Vec<InputView<'_>> = shapes
            .iter()
            .map(|shape| InputView { shape, bytes: &[] })
            .collect();
        self.ready(&inputs)
    }

    /// Runs the program and gives the outputs to `outputs`.
    pub fn run(&mut self, inputs: &[InputView<'_>], outputs: &mut dyn OutputSink) -> Result<()> {
        self.ready_run(inputs)?.run(inputs, outputs)
    }

    /// Runs the program on host tensors.
    pub fn run_tensors(&mut self, inputs: &[HostTensor]) -> Result<Vec<HostTensor>> {
        let views: Vec<InputView<'_>> = inputs.iter().map(InputView::from).collect();
        let mut outputs = Tensors(Vec::new());
        self.run(&views, &mut outputs)?;
        Ok(outputs
            .0
            .into_iter()
            .map(|(ty, bytes)| HostTensor::new(ty, bytes))
            .collect())
    }

    /// [`run`](Self::run), and says what the device did when. It answers as `run` does: where there are no timestamps to be
    /// had, only they are missing.
    pub fn run_observed(
        &mut self,
        inputs: &[InputView<'_>],
        outputs: &mut dyn OutputSink,
    ) -> Result<Observed> {
        let began = Instant::now();
        let plan_cached = self
            .plans
            .iter()
            .any(|planned| planned.is_for(inputs) && planned.instance.is_some());
        self.ready(inputs)?;
        let planned = began.elapsed();
        let timed = match self.timed.take() {
            Some(queue) => Ok(queue),
            None => Queue::new(Arc::clone(self.queue.context()), true),
        };
        let run = self.ready_run(inputs)?;
        let steps = match timed {
            Ok(queue) => {
                let steps = Run { queue: &queue, ..run }.run_timed(inputs, outputs, began);
                self.timed = Some(queue);
                steps?
            }
            Err(error) => {
                tracing::debug!(%error, "this device has no queue with timestamps");
                run.run(inputs, outputs)?;
                Vec::new()
            }
        };
        Ok(Observed {
            planned,
            plan_cached,
            ended: began.elapsed(),
            steps,
        })
    }

    /// Runs once on a queue with timestamps and says how long each step took. The outputs are dropped.
    pub fn profile(&mut self, inputs: &[InputView<'_>]) -> Result<Vec<StepTime>> {
        let queue = Queue::new(Arc::clone(self.queue.context()), true)?;
        let run = self.ready_run(inputs)?;
        Run { queue: &queue, ..run }.profile(inputs)
    }

    /// Uploads the inputs, then runs all steps this many times and says how long that took.
    pub(crate) fn time_steps(&mut self, inputs: &[InputView<'_>], repeats: u32) -> Result<Duration> {
        self.ready_run(inputs)?.time(inputs, repeats)
    }

    fn ready_run(&mut self, inputs: &[InputView<'_>]) -> Result<Run<'_>> {
        self.ready(inputs)?;
        let Planned { plan, instance, .. } = &self.plans[0];
        let Some(instance) = instance else {
            unreachable!("ready has just made it")
        };
        Ok(Run {
            plan,
            instance,
            queue: &self.queue,
            fault: &self.fault,
        })
    }

    /// Puts a plan with an instance for these inputs' shapes at the front of the cache.
    fn ready(&mut self, inputs: &[InputView<'_>]) -> Result<()> {
        match self.plans.iter().position(|planned| planned.is_for(inputs)) {
            Some(0) => {}
            Some(index) => self.plans[..=index].rotate_right(1),
            None => {
                let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape).collect();
                let traits = self.queue.context().traits();
                let plan = Plan::make_with(&self.program, &shapes, traits, &self.constants.resident())?;
                self.plans.truncate(self.options.plans.max(1) - 1);
                let shapes = shapes.into_iter().map(<[usize]>::to_vec).collect();
                self.plans.insert(
                    0,
                    Planned {
                        shapes,
                        plan,
                        instance: None,
                    },
                );
            }
        }
        if self.plans[0].instance.is_some() {
            return Ok(());
        }
        let made = self.materialise();
        if made.is_err() {
            // Its constants may be half uploaded and its bytes forgotten: plan again next time.
            self.plans.remove(0);
        }
        made
    }

    fn materialise(&mut self) -> Result<()> {
        let wanted = self.plans[0].plan.layout.bytes.max(1);
        if self.arena.as_ref().is_none_or(|arena| arena.bytes() < wanted) {
            // The parts of the old arena keep it alive: they go first, so that old and new need not fit together.
            for planned in &mut self.plans {
                planned.instance = None;
            }
            self.arena = None;
            self.arena = Some(Buffer::new(self.queue.context(), "arena", wanted)?);
        }
        let Some(arena) = &self.arena else {
            unreachable!("just made")
        };
        let planned = &mut self.plans[0];
        let instance = Instance::new(
            &mut planned.plan,
            &mut self.constants,
            arena,
            &self.fault,
            &self.queue,
        )?;
        planned.instance = Some(instance);
        Ok(())
    }
}

/// Collects outputs as tensors.
struct Tensors(Vec<(TensorType, Vec<u8>)>);

impl OutputSink for Tensors {
    fn output(&mut self, _index: usize, ty: &TensorType) -> Result<&mut [u8]> {
        self.0.push((ty.clone(), vec![0; ty.bytes()]));
        match self.0.last_mut() {
            Some((_, bytes)) => Ok(bytes),
            None => unreachable!("just pushed"),
        }
    }
}
