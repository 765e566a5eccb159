//! From a program and input shapes to a plan.

use std::sync::Arc;

use super::emitter::{Emitter, Recording, Resident, Slot};
use super::values::{self, Inferred};
use super::{Layout, Step, Storage, StorageId, StorageKind};
use crate::error::{Error, Result};
use crate::ir::{Node, ValueId};
use crate::program::{Form, Program};
use crate::runtime::DeviceTraits;
use crate::tensor::{HostTensor, TensorType};

/// Where an output's bytes come from.
#[derive(Debug, Clone)]
pub enum OutputSource {
    /// Known without running anything.
    Known(HostTensor),
    /// The bytes of the input at this index.
    Input(usize),
    /// Read from this storage after the last step.
    Storage(StorageId),
}

/// An input of a plan.
#[derive(Debug, Clone)]
pub struct PlanInput {
    /// Its type.
    pub ty: TensorType,
    /// Where it is uploaded to before the first step; `None` if no step reads it.
    pub storage: Option<StorageId>,
}

/// An output of a plan.
#[derive(Debug, Clone)]
pub struct PlanOutput {
    /// Its type.
    pub ty: TensorType,
    /// Where its bytes come from.
    pub source: OutputSource,
}

/// Every step of a program for one set of input shapes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is planned.
    form: Arc<Form>,
    /// Inputs in the graph's order.
    pub inputs: Vec<PlanInput>,
    /// Outputs in the graph's order.
    pub outputs: Vec<PlanOutput>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// For each step the index of the node that it computes.
    pub step_nodes: Vec<usize>,
    /// Storages by [`StorageId`].
    pub storages: Vec<Storage>,
    /// What each fault code means: node index and axis length. A kernel reports code `i + 1`.
    pub faults: Vec<(usize, usize)>,
    /// Where each arena storage lies.
    pub layout: Layout,
}

impl Plan {
    /// Plans a program for these input shapes on such a device.
    pub fn make(program: &Program, input_shapes: &[&[usize]], device: &DeviceTraits) -> Result<Self> {
        Self::make_with(program, input_shapes, device, &Arc::default())
    }

    /// Like [`make`](Self::make), for a device that holds these constants already.
    pub fn make_with(
        program: &Program,
        input_shapes: &[&[usize]],
        device: &DeviceTraits,
        resident: &Arc<Resident>,
    ) -> Result<Self> {
        program.with_form(|form| Self::make_form(form, input_shapes, device, resident))
    }

    fn make_form(
        form: &Arc<Form>,
        input_shapes: &[&[usize]],
        device: &DeviceTraits,
        resident: &Arc<Resident>,
    ) -> Result<Self> {
        let values = values::infer(form, input_shapes)?;
        let wanted = wanted_nodes(form, &values);
        let mut recording = Recording::new(Arc::clone(resident), form.prefix());
        let mut storages: Vec<Option<StorageId>> = vec![None; values.values.len()];

        let inputs = upload_inputs(form, &values, &mut recording, &mut storages);
        for node in (0..wanted.len()).filter(|&node| wanted[node]) {
            emit(form, node, device, &values, &mut recording, &mut storages)?;
        }
        let outputs = collect_outputs(form, &values, &storages)?;

        let at_end = outputs.iter().filter_map(|output| match output.source {
            OutputSource::Storage(id) => Some(id),
            OutputSource::Known(_) | OutputSource::Input(_) => None,
        });
        let at_start = inputs.iter().filter_map(|input| input.storage);
        let layout = Layout::make(
            &recording.storages,
            &recording.steps,
            at_start,
            at_end,
            device.alignment,
        );
        let Recording {
            steps,
            step_nodes,
            storages,
            faults,
            ..
        } = recording;
        let mut plan = Self {
            form: Arc::clone(form),
            inputs,
            outputs,
            steps,
            step_nodes,
            storages,
            faults,
            layout,
        };
        plan.check_sizes(form, device)?;
        plan.forget_unused_inputs();
        Ok(plan)
    }

    /// The node at this index of [`step_nodes`](Self::step_nodes) or [`faults`](Self::faults).
    pub fn node(&self, index: usize) -> &Node {
        &self.form.graph().nodes[index]
    }

    /// The name of the input at this index.
    pub fn input_name(&self, index: usize) -> &str {
        let graph = self.form.graph();
        &graph.info(graph.inputs[index]).name
    }

    /// The name of the output at this index.
    pub fn output_name(&self, index: usize) -> &str {
        let graph = self.form.graph();
        &graph.info(graph.outputs[index]).name
    }

    /// Refuses a plan that needs a larger buffer than the device allows.
    fn check_sizes(&self, form: &Form, device: &DeviceTraits) -> Result<()> {
        let refuse = |what: String, wanted: usize| Error::OutOfMemory {
            what,
            wanted: wanted as u64,
            limit: device.max_allocation,
            device: format!("one buffer on this {}", device.kind),
        };
        if self.layout.bytes as u64 > device.max_allocation {
            let what = format!("the temporary memory of '{}'", form.graph().name);
            return Err(refuse(what, self.layout.bytes));
        }
        for storage in &self.storages {
            if let StorageKind::Constant(key, _) = &storage.kind
                && storage.bytes as u64 > device.max_allocation
            {
                return Err(refuse(format!("constant '{key}'"), storage.bytes));
            }
        }
        Ok(())
    }

    /// An input that no step and no output reads has no place in the arena and is not uploaded.
    fn forget_unused_inputs(&mut self) {
        for input in &mut self.inputs {
            input.storage = input.storage.filter(|id| self.layout.offset(*id).is_some());
        }
    }
}

/// Which nodes must run: those with an output that is not known and that somebody needs.
fn wanted_nodes(form: &Form, values: &Inferred) -> Vec<bool> {
    let graph = form.graph();
    let unknown = |id: ValueId| values.get(id).is_some_and(|value| value.known.is_none());
    let mut needed = vec![false; values.values.len()];
    for id in graph.outputs.iter().filter(|id| unknown(**id)) {
        needed[id.0 as usize] = true;
    }
    let mut wanted = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        wanted[index] = node.outputs.iter().flatten().any(|id| needed[id.0 as usize]);
        if wanted[index] {
            for id in node.inputs.iter().flatten().filter(|id| unknown(**id)) {
                needed[id.0 as usize] = true;
            }
        }
    }
    wanted
}

fn upload_inputs(
    form: &Form,
    values: &Inferred,
    recording: &mut Recording,
    storages: &mut [Option<StorageId>],
) -> Vec<PlanInput> {
    let upload = |id: &ValueId| {
        let value = values.get(*id).expect("inputs have types");
        let storage = value
            .known
            .is_none()
            .then(|| recording.storage(value.ty.bytes(), StorageKind::Arena));
        storages[id.0 as usize] = storage;
        PlanInput {
            ty: value.ty.clone(),
            storage,
        }
    };
    form.graph().inputs.iter().map(upload).collect()
}

fn emit(
    form: &Form,
    index: usize,
    device: &DeviceTraits,
    values: &Inferred,
    recording: &mut Recording,
    storages: &mut [Option<StorageId>],
) -> Result<()> {
    let graph = form.graph();
    let node = &graph.nodes[index];
    let input = |id: &Option<ValueId>| {
        let id = (*id)?;
        let value = values.get(id)?;
        Some(Slot {
            value: Some(id),
            ty: value.ty.clone(),
            known: value.known.clone(),
            shared: graph.constants.contains_key(&id),
            storage: storages[id.0 as usize],
        })
    };
    let inputs: Vec<Option<Slot>> = node.inputs.iter().map(input).collect();
    let outputs = values.types[index]
        .iter()
        .cloned()
        .enumerate()
        .map(|(i, ty)| Slot {
            value: node.output(i),
            ty,
            known: None,
            shared: false,
            storage: None,
        })
        .collect();
    let mut emitter = Emitter::new(recording, device, index, inputs, outputs);
    form.operator(index)
        .emit(&mut emitter)
        .map_err(|reason| form.invalid(index, reason))?;
    for slot in emitter.finish() {
        let Some(id) = slot.value else { continue };
        if slot.storage.is_none() && slot.ty.elements() > 0 {
            let reason = format!("recorded nothing that writes '{}'", graph.info(id).name);
            return Err(form.invalid(index, reason));
        }
        storages[id.0 as usize] = slot.storage;
    }
    Ok(())
}

fn collect_outputs(
    form: &Form,
    values: &Inferred,
    storages: &[Option<StorageId>],
) -> Result<Vec<PlanOutput>> {
    let graph = form.graph();
    let collect = |id: &ValueId| {
        let value = values.get(*id).ok_or_else(|| Error::Malformed {
            graph: graph.name.clone(),
            reason: format!("output '{}' is never produced", graph.info(*id).name),
        })?;
        let source = if let Some(known) = &value.known {
            OutputSource::Known(known.clone())
        } else if let Some(input) = graph.inputs.iter().position(|input| input == id) {
            OutputSource::Input(input)
        } else {
            let storage = storages[id.0 as usize].expect("an emitted output has a storage");
            OutputSource::Storage(storage)
        };
        Ok(PlanOutput {
            ty: value.ty.clone(),
            source,
        })
    };
    graph.outputs.iter().map(collect).collect()
}
