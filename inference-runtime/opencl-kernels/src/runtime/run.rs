//! One run of a plan: upload, enqueue, check, download.

use std::time::{Duration, Instant};

use super::executor::{InputView, OutputSink, StepTime};
use super::instance::Instance;
use super::queue::{Event, Times};
use super::{Buffer, DeviceKind, Queue};
use crate::error::{Error, Result};
use crate::plan::{OutputSource, Plan};

/// Two `long`: code and index (see `prelude.cl`).
pub(super) const FAULT_BYTES: usize = 16;

/// GPUs start on a queue's commands only when it is flushed; this many at a time keep one busy while the host goes on
/// enqueueing.
const FLUSH_EVERY: usize = 32;

/// One run.
pub(super) struct Run<'e> {
    pub(super) plan: &'e Plan,
    pub(super) instance: &'e Instance,
    pub(super) queue: &'e Queue,
    pub(super) fault: &'e Buffer,
}

impl Run<'_> {
    /// Uploads, enqueues, downloads.
    pub(super) fn run(&self, inputs: &[InputView<'_>], outputs: &mut dyn OutputSink) -> Result<()> {
        self.check_inputs(inputs)?;
        // Whatever happens below, an error or a panic in `outputs`: the inputs' bytes outlive the uploads.
        let _finish = FinishOnDrop(self.queue);
        self.upload(inputs)?;
        self.enqueue(drop)?;
        self.check_fault()?;
        self.download(inputs, outputs)
    }

    /// [`run`](Self::run) on a queue with timestamps, and what they say.
    pub(super) fn run_timed(
        &self,
        inputs: &[InputView<'_>],
        outputs: &mut dyn OutputSink,
        began: Instant,
    ) -> Result<Vec<StepTime>> {
        self.check_inputs(inputs)?;
        let _finish = FinishOnDrop(self.queue);
        self.upload(inputs)?;
        let mut events = Vec::with_capacity(self.instance.len());
        let enqueued = began.elapsed();
        self.enqueue(|event| events.push(event))?;
        self.check_fault()?;
        self.download(inputs, outputs)?;
        self.queue.finish()?;
        let finished = began.elapsed();
        Ok(self.steps(&events, enqueued, finished).unwrap_or_else(|error| {
            tracing::debug!(%error, "the device does not say how long its commands took");
            Vec::new()
        }))
    }

    /// Enqueues every step, and gives away what stands for it.
    fn enqueue(&self, mut with: impl FnMut(Event)) -> Result<()> {
        let flush = self.queue.context().traits().kind == DeviceKind::Gpu;
        for index in 0..self.instance.len() {
            with(self.instance.enqueue(index, self.queue)?);
            if flush && index % FLUSH_EVERY == FLUSH_EVERY - 1 {
                self.queue.flush()?;
            }
        }
        Ok(())
    }

    /// Runs on a queue with timestamps and reads them.
    pub(super) fn profile(&self, inputs: &[InputView<'_>]) -> Result<Vec<StepTime>> {
        self.check_inputs(inputs)?;
        let _finish = FinishOnDrop(self.queue);
        self.upload(inputs)?;
        let began = Instant::now();
        let mut events = Vec::with_capacity(self.instance.len());
        self.enqueue(|event| events.push(event))?;
        self.queue.finish()?;
        self.steps(&events, Duration::ZERO, began.elapsed())
    }

    /// What the commands' timestamps say. The device has a clock of its own: when it was handed the first command is laid on
    /// `enqueued`, and should the last one then end after `finished`, all are moved back by as much.
    fn steps(&self, events: &[Event], enqueued: Duration, finished: Duration) -> Result<Vec<StepTime>> {
        let times = events.iter().map(Event::times).collect::<Result<Vec<Times>>>()?;
        let zero = times.first().map_or(0, |first| first.queued);
        let since = |time: u64| enqueued + Duration::from_nanos(time.saturating_sub(zero));
        let over = times
            .last()
            .map_or(Duration::ZERO, |last| since(last.end).saturating_sub(finished));
        let step = |(index, times): (usize, &Times)| {
            let node = self.plan.node(self.plan.step_nodes[index]);
            let (global, local) = self.instance.range(index);
            StepTime {
                node: node.name.clone(),
                op: node.qualified_op(),
                kernel: self.instance.name(index),
                global,
                local,
                begin: since(times.start).saturating_sub(over),
                nanoseconds: times.end.saturating_sub(times.start),
            }
        };
        Ok(times.iter().enumerate().map(step).collect())
    }

    /// Uploads once, enqueues this many times and says how long the device took for all.
    pub(super) fn time(&self, inputs: &[InputView<'_>], repeats: u32) -> Result<Duration> {
        self.check_inputs(inputs)?;
        let _finish = FinishOnDrop(self.queue);
        self.upload(inputs)?;
        self.queue.finish()?;
        let started = Instant::now();
        for _ in 0..repeats {
            self.enqueue(drop)?;
        }
        self.queue.finish()?;
        Ok(started.elapsed())
    }

    fn check_inputs(&self, inputs: &[InputView<'_>]) -> Result<()> {
        for (index, (input, planned)) in inputs.iter().zip(&self.plan.inputs).enumerate() {
            let (given, wanted) = (input.bytes.len(), planned.ty.bytes());
            if given != wanted {
                return Err(Error::Invalid {
                    node: self.plan.input_name(index).to_owned(),
                    op: "input".to_owned(),
                    reason: format!("{given} bytes given, {} needs {wanted}", planned.ty),
                });
            }
        }
        Ok(())
    }

    fn upload(&self, inputs: &[InputView<'_>]) -> Result<()> {
        if !self.plan.faults.is_empty() {
            // SAFETY: the bytes are static.
            unsafe { self.queue.write_later(self.fault, &[0; FAULT_BYTES])? };
        }
        for (input, planned) in inputs.iter().zip(&self.plan.inputs) {
            if let Some(id) = planned.storage {
                // SAFETY: `run` and `profile` finish the queue before they return, and the inputs outlive them.
                unsafe { self.queue.write_later(self.instance.buffer(id), input.bytes)? };
            }
        }
        Ok(())
    }

    fn check_fault(&self) -> Result<()> {
        if self.plan.faults.is_empty() {
            return Ok(());
        }
        let mut record = [0; FAULT_BYTES];
        self.queue.read(self.fault, &mut record)?;
        let ([code, index], []) = record.as_chunks::<8>() else {
            unreachable!("the record is two words")
        };
        // Kernels write the code as an `int` into the first word.
        let code = i64::from_le_bytes(*code) as usize;
        let Some(&(node, length)) = code.checked_sub(1).and_then(|fault| self.plan.faults.get(fault)) else {
            return Ok(());
        };
        let node = self.plan.node(node);
        Err(Error::IndexOutOfRange {
            node: node.name.clone(),
            op: node.qualified_op(),
            index: i64::from_le_bytes(*index),
            length,
        })
    }

    fn download(&self, inputs: &[InputView<'_>], outputs: &mut dyn OutputSink) -> Result<()> {
        for (index, output) in self.plan.outputs.iter().enumerate() {
            let target = outputs.output(index, &output.ty)?;
            if target.len() != output.ty.bytes() {
                return Err(Error::Invalid {
                    node: self.plan.output_name(index).to_owned(),
                    op: "output".to_owned(),
                    reason: format!(
                        "room for {} bytes, {} needs {}",
                        target.len(),
                        output.ty,
                        output.ty.bytes()
                    ),
                });
            }
            match &output.source {
                OutputSource::Known(tensor) => target.copy_from_slice(tensor.bytes()),
                OutputSource::Input(input) => target.copy_from_slice(inputs[*input].bytes),
                OutputSource::Storage(id) => self.queue.read(self.instance.buffer(*id), target)?,
            }
        }
        Ok(())
    }
}

/// Waits for the queue when it goes out of scope, however that happens.
struct FinishOnDrop<'q>(&'q Queue);

impl Drop for FinishOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.finish() {
            tracing::warn!(%error, "the queue did not finish after a run");
        }
    }
}
