//! What an operator sees while it records its launches.

use super::{Arg, Launch, Step, Storage, StorageId, StorageKind};
use crate::ops::Operand;
use crate::runtime::DeviceTraits;
use crate::tensor::{HostTensor, TensorType};

/// The part of a plan that grows while operators emit.
#[derive(Debug, Default)]
pub struct Recording {
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Storages by [`StorageId`].
    pub storages: Vec<Storage>,
    /// What each fault code means: node index and axis length. A kernel reports code `i + 1`.
    pub faults: Vec<(usize, usize)>,
}

impl Recording {
    /// Adds a storage.
    pub fn storage(&mut self, bytes: usize, kind: StorageKind) -> StorageId {
        self.storages.push(Storage {
            bytes: bytes.max(1),
            kind,
        });
        StorageId(u32::try_from(self.storages.len() - 1).expect("fewer than 2^32 storages"))
    }

    /// The storage of a constant: the same key gives the same storage within a plan.
    pub fn constant(&mut self, key: &str, build: impl FnOnce() -> HostTensor) -> StorageId {
        let same = |s: &Storage| matches!(&s.kind, StorageKind::Constant(k, _) if k == key);
        if let Some(i) = self.storages.iter().position(same) {
            return StorageId(i as u32);
        }
        let tensor = build();
        self.storage(
            tensor.bytes().len(),
            StorageKind::Constant(key.to_owned(), tensor),
        )
    }
}

/// An input or output of the node being emitted.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Element type and shape.
    pub ty: TensorType,
    /// The value, where it is known at plan time.
    pub known: Option<HostTensor>,
    /// Its memory; a known input gets one when a kernel first reads it.
    pub storage: Option<StorageId>,
}

/// Records one node's launches.
#[derive(Debug)]
pub struct Emitter<'p> {
    recording: &'p mut Recording,
    device: &'p DeviceTraits,
    node: usize,
    inputs: Vec<Option<Slot>>,
    outputs: Vec<Slot>,
}

impl<'p> Emitter<'p> {
    /// An emitter for the node at index `node` of its graph; `outputs` have storages.
    pub fn new(
        recording: &'p mut Recording,
        device: &'p DeviceTraits,
        node: usize,
        inputs: Vec<Option<Slot>>,
        outputs: Vec<Slot>,
    ) -> Self {
        Self {
            recording,
            device,
            node,
            inputs,
            outputs,
        }
    }

    /// What the device can do, for choosing among kernels.
    pub fn device(&self) -> &DeviceTraits {
        self.device
    }

    /// The `i`-th input's type and known value, if the input is present.
    pub fn input(&self, i: usize) -> Option<Operand<'_>> {
        let slot = self.inputs.get(i)?.as_ref()?;
        Some(Operand {
            ty: &slot.ty,
            known: slot.known.as_ref(),
        })
    }

    /// The type of a required input.
    ///
    /// # Panics
    /// If the input is absent: `infer` has refused that before.
    pub fn input_type(&self, i: usize) -> &TensorType {
        &self.inputs[i].as_ref().expect("a required input").ty
    }

    /// Number of inputs, omitted ones included.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }

    /// The `i`-th output's type.
    pub fn output_type(&self, i: usize) -> &TensorType {
        &self.outputs[i].ty
    }

    /// A kernel argument that reads the `i`-th input (uploading it first if it is a known value).
    pub fn read(&mut self, i: usize) -> Arg {
        let node = self.node;
        let slot = self.inputs[i].as_mut().expect("a required input");
        let storage = *slot.storage.get_or_insert_with(|| {
            let known = slot
                .known
                .clone()
                .expect("an input without storage has a known value");
            // Folded values differ from plan to plan, so the key names plan-local values by their bytes.
            self.recording.storage(
                known.bytes().len(),
                StorageKind::Constant(format!("node{node}.in{i}#plan"), known),
            )
        });
        Arg::Buffer(storage)
    }

    /// A kernel argument that writes the `i`-th output.
    pub fn write(&mut self, i: usize) -> Arg {
        Arg::Buffer(self.outputs[i].storage.expect("outputs have storages"))
    }

    /// Temporary memory for this node.
    pub fn scratch(&mut self, bytes: usize) -> Arg {
        Arg::Buffer(self.recording.storage(bytes, StorageKind::Arena))
    }

    /// A tensor computed once from constants (e.g. repacked weights), shared by all plans. `name` must be unique
    /// within the node and must not depend on the request's shapes.
    pub fn constant(&mut self, name: &str, build: impl FnOnce() -> HostTensor) -> Arg {
        Arg::Buffer(
            self.recording
                .constant(&format!("node{}.{name}", self.node), build),
        )
    }

    /// Arguments `(__global long *fault, int code)` for a kernel that checks indices against an axis of this length:
    /// it clamps a bad index and calls `report_fault(fault, code, index)` of the prelude, and the run fails.
    pub fn fault(&mut self, axis_length: usize) -> [Arg; 2] {
        let existing = self
            .recording
            .storages
            .iter()
            .position(|s| matches!(s.kind, StorageKind::Fault));
        let storage = match existing {
            Some(i) => StorageId(i as u32),
            None => self.recording.storage(16, StorageKind::Fault),
        };
        self.recording.faults.push((self.node, axis_length));
        let code = i32::try_from(self.recording.faults.len()).expect("fewer than 2^31 faults");
        [Arg::Buffer(storage), Arg::I32(code)]
    }

    /// Records a launch.
    pub fn launch(&mut self, launch: Launch) {
        self.recording.steps.push(Step::Launch(launch));
    }

    /// Records a copy of the `input`-th input's bytes into the `output`-th output at these byte offsets.
    pub fn copy(&mut self, (input, from): (usize, usize), (output, to): (usize, usize), bytes: usize) {
        let (Arg::Buffer(source), Arg::Buffer(target)) = (self.read(input), self.write(output)) else {
            unreachable!("read and write give buffers")
        };
        if bytes > 0 {
            self.recording.steps.push(Step::Copy {
                from: (source, from),
                to: (target, to),
                bytes,
            });
        }
    }

    /// Lets the `output`-th output share the `input`-th input's memory: same bytes, maybe another shape.
    pub fn alias(&mut self, output: usize, input: usize) {
        let Arg::Buffer(storage) = self.read(input) else {
            unreachable!("read gives a buffer")
        };
        self.outputs[output].storage = Some(storage);
    }

    /// What the planner takes back: the outputs with their final storages.
    pub fn finish(self) -> Vec<Slot> {
        self.outputs
    }
}
