//! What an operator sees while it records its launches.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Arg, Launch, Step, Storage, StorageId, StorageKind};
use crate::ir::ValueId;
use crate::ops::Operand;
use crate::runtime::DeviceTraits;
use crate::tensor::{HostTensor, TensorType};

/// The constants that are on the device already, by key, with their sizes: they need not be built again.
pub type Resident = HashMap<String, usize>;

/// The part of a plan that grows while operators emit.
#[derive(Debug)]
pub struct Recording {
    /// Steps in order.
    pub(super) steps: Vec<Step>,
    /// For each step the node that recorded it.
    pub(super) step_nodes: Vec<usize>,
    /// Storages by [`StorageId`].
    pub(super) storages: Vec<Storage>,
    /// What each fault code means: node index and axis length. A kernel reports code `i + 1`.
    pub(super) faults: Vec<(usize, usize)>,
    resident: Arc<Resident>,
    prefix: &'static str,
    constants: HashMap<String, StorageId>,
    values: HashMap<ValueId, StorageId>,
    fault: Option<StorageId>,
}

impl Recording {
    /// An empty recording.
    pub(super) fn new(resident: Arc<Resident>, prefix: &'static str) -> Self {
        Self {
            prefix,
            steps: Vec::new(),
            step_nodes: Vec::new(),
            storages: Vec::new(),
            faults: Vec::new(),
            resident,
            constants: HashMap::new(),
            values: HashMap::new(),
            fault: None,
        }
    }

    /// Adds a storage.
    pub(super) fn storage(&mut self, bytes: usize, kind: StorageKind) -> StorageId {
        self.storages.push(Storage {
            bytes: bytes.max(1),
            kind,
        });
        StorageId(u32::try_from(self.storages.len() - 1).expect("fewer than 2^32 storages"))
    }

    /// The storage of a constant of the program: the same key gives the same storage within a plan, and the same
    /// device memory among plans.
    fn constant(&mut self, key: String, build: impl FnOnce() -> HostTensor) -> StorageId {
        if let Some(&id) = self.constants.get(&key) {
            return id;
        }
        let (bytes, tensor) = if let Some(&bytes) = self.resident.get(&key) {
            (bytes, None)
        } else {
            let tensor = build();
            (tensor.bytes().len(), Some(tensor))
        };
        let id = self.storage(bytes, StorageKind::Constant(key.clone(), tensor));
        self.constants.insert(key, id);
        id
    }

    /// The storage of a value known at plan time, however many nodes read it.
    fn known(&mut self, value: ValueId, known: &HostTensor, shared: bool) -> StorageId {
        if let Some(&id) = self.values.get(&value) {
            return id;
        }
        let id = if shared {
            self.constant(format!("value{}", value.0), || known.clone())
        } else {
            self.storage(known.bytes().len(), StorageKind::PlanConstant(known.clone()))
        };
        self.values.insert(value, id);
        id
    }

    fn fault(&mut self, node: usize, axis_length: usize) -> (StorageId, i32) {
        let storage = if let Some(id) = self.fault {
            id
        } else {
            let id = self.storage(16, StorageKind::Fault);
            self.fault = Some(id);
            id
        };
        self.faults.push((node, axis_length));
        let code = i32::try_from(self.faults.len()).expect("fewer than 2^31 faults");
        (storage, code)
    }

    fn step(&mut self, node: usize, step: Step) {
        self.steps.push(step);
        self.step_nodes.push(node);
    }
}

/// An input or output of the node being emitted.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// The value in the graph; unwanted outputs have none.
    pub(super) value: Option<ValueId>,
    /// Element type and shape.
    pub(super) ty: TensorType,
    /// What the value is, where it is known at plan time.
    pub(super) known: Option<HostTensor>,
    /// Whether a known value is the same for all plans of the program.
    pub(super) shared: bool,
    /// Its memory; a known input gets one when a kernel first reads it.
    pub(super) storage: Option<StorageId>,
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
    /// An emitter for the node at index `node` of its graph.
    pub(super) fn new(
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

    /// Whether somebody reads the `i`-th output. Writing an unwanted output is allowed and wasteful.
    pub fn wants_output(&self, i: usize) -> bool {
        self.outputs.get(i).is_some_and(|slot| slot.value.is_some())
    }

    /// A kernel argument that reads the `i`-th input (uploading it first if it is a known value).
    ///
    /// # Panics
    /// If the input is absent.
    pub fn read(&mut self, i: usize) -> Arg {
        Arg::Buffer(self.read_storage(i))
    }

    fn read_storage(&mut self, i: usize) -> StorageId {
        let slot = self.inputs[i].as_mut().expect("a required input");
        *slot.storage.get_or_insert_with(|| {
            let known = slot
                .known
                .as_ref()
                .expect("an input without storage has a known value");
            let value = slot.value.expect("inputs are values of the graph");
            self.recording.known(value, known, slot.shared)
        })
    }

    /// A kernel argument that writes the `i`-th output.
    pub fn write(&mut self, i: usize) -> Arg {
        Arg::Buffer(self.write_storage(i))
    }

    fn write_storage(&mut self, i: usize) -> StorageId {
        let slot = &mut self.outputs[i];
        *slot
            .storage
            .get_or_insert_with(|| self.recording.storage(slot.ty.bytes(), StorageKind::Arena))
    }

    /// Temporary memory for this node.
    pub fn scratch(&mut self, bytes: usize) -> Arg {
        Arg::Buffer(self.recording.storage(bytes, StorageKind::Arena))
    }

    /// A tensor computed once from constants (e.g. repacked weights), shared by all plans. `name` must be unique
    /// within the node and must not depend on the request's shapes.
    pub fn constant(&mut self, name: &str, build: impl FnOnce() -> HostTensor) -> Arg {
        let key = format!("{}node{}.{name}", self.recording.prefix, self.node);
        Arg::Buffer(self.recording.constant(key, build))
    }

    /// A tensor of this plan alone: small tables that depend on the request's shapes, uploaded with the plan.
    pub fn table(&mut self, tensor: HostTensor) -> Arg {
        let bytes = tensor.bytes().len();
        Arg::Buffer(self.recording.storage(bytes, StorageKind::PlanConstant(tensor)))
    }

    /// Arguments `(__global long *fault, int code)` for a kernel that checks indices against an axis of this length:
    /// it clamps a bad index and calls `report_fault(fault, code, index)` of the prelude, and the run fails.
    pub fn fault(&mut self, axis_length: usize) -> [Arg; 2] {
        let (storage, code) = self.recording.fault(self.node, axis_length);
        [Arg::Buffer(storage), Arg::I32(code)]
    }

    /// Records a launch. One without work-items is dropped.
    pub fn launch(&mut self, launch: Launch) {
        if !launch.global.contains(&0) {
            self.recording.step(self.node, Step::Launch(launch));
        }
    }

    /// Records a copy of the `input`-th input's bytes into the `output`-th output at these byte offsets.
    pub fn copy(&mut self, (input, from): (usize, usize), (output, to): (usize, usize), bytes: usize) {
        if bytes > 0 {
            let step = Step::Copy {
                from: (self.read_storage(input), from),
                to: (self.write_storage(output), to),
                bytes,
            };
            self.recording.step(self.node, step);
        }
    }

    /// Lets the `output`-th output share the `input`-th input's memory: same bytes, maybe another shape. Nothing
    /// may be written to either by this node.
    pub fn alias(&mut self, output: usize, input: usize) {
        self.outputs[output].storage = Some(self.read_storage(input));
    }

    /// What the planner takes back: the outputs with their final storages.
    pub(super) fn finish(self) -> Vec<Slot> {
        self.outputs
    }
}
