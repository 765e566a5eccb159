//! From a program and input shapes to a plan.

use std::sync::Arc;

use super::emitter::{Emitter, Recording, Resident, Slot};
use super::values::{self, Values};
use super::{Layout, Step, Storage, StorageId, StorageKind};
use crate::error::{Error, Result};
use crate::program::Program;
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
        Self::make_with(program, input_shapes, device, Arc::default())
    }

    /// Like [`make`](Self::make), for a device that holds these constants already.
    pub fn make_with(
        program: &Program,
        input_shapes: &[&[usize]],
        device: &DeviceTraits,
        resident: Arc<Resident>,
    ) -> Result<Self> {
        let values = values::infer(program, input_shapes)?;
        let wanted = wanted_nodes(program, &values);
        let mut recording = Recording::new(resident);
        let mut storages: Vec<Option<StorageId>> = vec![None; values.len()];

        let inputs = upload_inputs(program, &values, &mut recording, &mut storages);
        for node in (0..wanted.len()).filter(|&node| wanted[node]) {
            emit(program, node, device, &values, &mut recording, &mut storages)?;
        }
        let outputs = collect_outputs(program, &values, &storages)?;

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
            inputs,
            outputs,
            steps,
            step_nodes,
            storages,
            faults,
            layout,
        };
        plan.check_sizes(program, device)?;
        plan.forget_unused_inputs();
        Ok(plan)
    }

    /// Refuses a plan that needs a larger buffer than the device allows.
    fn check_sizes(&self, program: &Program, device: &DeviceTraits) -> Result<()> {
        let refuse = |what: String, wanted: usize| Error::OutOfMemory {
            what,
            wanted: wanted as u64,
            limit: device.max_allocation,
            device: format!("this {} for one buffer", device.kind),
        };
        if self.layout.bytes as u64 > device.max_allocation {
            let what = format!("the temporary memory of '{}'", program.graph().name);
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
fn wanted_nodes(program: &Program, values: &Values) -> Vec<bool> {
    let graph = program.graph();
    let unknown = |id: crate::ir::ValueId| {
        values[id.0 as usize]
            .as_ref()
            .is_some_and(|value| value.known.is_none())
    };
    let mut needed = vec![false; values.len()];
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
    program: &Program,
    values: &Values,
    recording: &mut Recording,
    storages: &mut [Option<StorageId>],
) -> Vec<PlanInput> {
    let upload = |id: &crate::ir::ValueId| {
        let value = values[id.0 as usize].as_ref().expect("inputs have types");
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
    program.graph().inputs.iter().map(upload).collect()
}

fn emit(
    program: &Program,
    index: usize,
    device: &DeviceTraits,
    values: &Values,
    recording: &mut Recording,
    storages: &mut [Option<StorageId>],
) -> Result<()> {
    let graph = program.graph();
    let node = &graph.nodes[index];
    let input = |id: &Option<crate::ir::ValueId>| {
        let id = (*id)?;
        let value = values[id.0 as usize].as_ref()?;
        Some(Slot {
            value: Some(id),
            ty: value.ty.clone(),
            known: value.known.clone(),
            shared: graph.constants.contains_key(&id),
            storage: storages[id.0 as usize],
        })
    };
    let inputs: Vec<Option<Slot>> = node.inputs.iter().map(input).collect();
    let types = {
        let operands: Vec<_> = inputs
            .iter()
            .map(|slot| {
                slot.as_ref().map(|slot| crate::ops::Operand {
                    ty: &slot.ty,
                    known: slot.known.as_ref(),
                })
            })
            .collect();
        program
            .operator(index)
            .infer(&operands)
            .map_err(|reason| program.invalid(index, reason))?
    };
    let outputs = types
        .into_iter()
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
    program
        .operator(index)
        .emit(&mut emitter)
        .map_err(|reason| program.invalid(index, reason))?;
    for slot in emitter.finish() {
        let Some(id) = slot.value else { continue };
        if slot.storage.is_none() && slot.ty.elements() > 0 {
            let reason = format!("recorded nothing that writes '{}'", graph.info(id).name);
            return Err(program.invalid(index, reason));
        }
        storages[id.0 as usize] = slot.storage;
    }
    Ok(())
}

fn collect_outputs(
    program: &Program,
    values: &Values,
    storages: &[Option<StorageId>],
) -> Result<Vec<PlanOutput>> {
    let graph = program.graph();
    let collect = |id: &crate::ir::ValueId| {
        let value = values[id.0 as usize].as_ref().ok_or_else(|| Error::Malformed {
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
