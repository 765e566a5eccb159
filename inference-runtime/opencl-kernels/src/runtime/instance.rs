//! A plan on a device: memory for its storages, a kernel with all arguments set for each launch.

use std::collections::HashMap;
use std::sync::Arc;

use super::queue::Event;
use super::{Buffer, Kernel, Queue};
use crate::error::{Error, Result};
use crate::plan::{Plan, Resident, Step, StorageId, StorageKind};

/// The constants of a program that are on a device, by key: uploaded once, shared by all plans.
#[derive(Debug, Default)]
pub(super) struct Constants {
    buffers: HashMap<String, Arc<Buffer>>,
    resident: Arc<Resident>,
    bytes: u64,
}

impl Constants {
    /// What the planner needs to know of them.
    pub(super) fn resident(&self) -> Arc<Resident> {
        Arc::clone(&self.resident)
    }

    /// Device memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Uploads what this plan needs and is not there yet, and lets the plan forget the bytes.
    fn upload(&mut self, plan: &mut Plan, queue: &Queue) -> Result<()> {
        let mut added = Vec::new();
        for storage in &mut plan.storages {
            let StorageKind::Constant(key, tensor) = &mut storage.kind else {
                continue;
            };
            let tensor = tensor.take();
            if self.buffers.contains_key(key) {
                continue;
            }
            let tensor = tensor.ok_or_else(|| Error::Malformed {
                graph: "plan".to_owned(),
                reason: format!("constant '{key}' is not on the device and its value is not in the plan"),
            })?;
            let buffer = Buffer::new(queue.context(), "constant", storage.bytes)?;
            queue.write(&buffer, tensor.bytes())?;
            self.bytes += storage.bytes as u64;
            self.buffers.insert(key.clone(), Arc::new(buffer));
            added.push((key.clone(), storage.bytes));
        }
        if !added.is_empty() {
            Arc::make_mut(&mut self.resident).extend(added);
        }
        Ok(())
    }
}

/// Memory behind a storage.
#[derive(Debug)]
enum Memory {
    /// Of this instance: a part of the arena or a plan's own constant.
    Own(Buffer),
    Shared(Arc<Buffer>),
}

#[derive(Debug)]
enum Command {
    Launch(Kernel),
    Copy {
        from: (StorageId, usize),
        to: (StorageId, usize),
        bytes: usize,
    },
}

/// A plan that only has to be enqueued.
#[derive(Debug)]
pub(super) struct Instance {
    // Fields drop in order: kernels before the memory they point into.
    commands: Vec<Command>,
    memory: Vec<Option<Memory>>,
    own_bytes: u64,
}

impl Instance {
    /// Gives the plan's storages memory and makes its kernels. `arena` is at least as large as the plan's layout.
    pub(super) fn new(
        plan: &mut Plan,
        constants: &mut Constants,
        arena: &Buffer,
        fault: &Arc<Buffer>,
        queue: &Queue,
    ) -> Result<Self> {
        constants.upload(plan, queue)?;
        let mut own_bytes = 0;
        let mut memory = Vec::with_capacity(plan.storages.len());
        for (index, storage) in plan.storages.iter().enumerate() {
            memory.push(match &storage.kind {
                StorageKind::Arena => match plan.layout.offset(StorageId(index as u32)) {
                    Some(offset) => Some(Memory::Own(arena.part(offset, storage.bytes)?)),
                    None => None,
                },
                StorageKind::Constant(key, _) => constants.buffers.get(key).cloned().map(Memory::Shared),
                StorageKind::PlanConstant(tensor) => {
                    let buffer = Buffer::new(queue.context(), "folded value", storage.bytes)?;
                    queue.write(&buffer, tensor.bytes())?;
                    own_bytes += storage.bytes as u64;
                    Some(Memory::Own(buffer))
                }
                StorageKind::Fault => Some(Memory::Shared(Arc::clone(fault))),
            });
        }
        let mut instance = Self {
            commands: Vec::with_capacity(plan.steps.len()),
            memory,
            own_bytes,
        };
        for step in &plan.steps {
            let command = instance.command(step, queue)?;
            instance.commands.push(command);
        }
        Ok(instance)
    }

    fn command(&self, step: &Step, queue: &Queue) -> Result<Command> {
        match step {
            Step::Launch(launch) => {
                let context = queue.context();
                let program = context.programs().get(context, launch.source, &launch.options)?;
                Ok(Command::Launch(Kernel::new(&program, launch, |id| {
                    self.buffer(id)
                })?))
            }
            Step::Copy { from, to, bytes } => Ok(Command::Copy {
                from: *from,
                to: *to,
                bytes: *bytes,
            }),
        }
    }

    /// The memory of a storage that some step or output mentions.
    pub(super) fn buffer(&self, id: StorageId) -> &Buffer {
        match &self.memory[id.0 as usize] {
            Some(Memory::Own(buffer)) => buffer,
            Some(Memory::Shared(buffer)) => buffer,
            None => unreachable!("the layout covers every storage that the plan mentions"),
        }
    }

    /// Device memory of its own, beside the arena, in bytes.
    pub(super) fn own_bytes(&self) -> u64 {
        self.own_bytes
    }

    /// Number of commands.
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Enqueues the command at this index.
    pub(super) fn enqueue(&self, index: usize, queue: &Queue) -> Result<Event> {
        match &self.commands[index] {
            Command::Launch(kernel) => queue.launch(kernel),
            Command::Copy { from, to, bytes } => {
                let source = (self.buffer(from.0), from.1);
                queue.copy(source, (self.buffer(to.0), to.1), *bytes)
            }
        }
    }

    /// The command's extents: work-items, and those of a group; zero for a copy.
    pub(super) fn range(&self, index: usize) -> ([usize; 3], [usize; 3]) {
        match &self.commands[index] {
            Command::Launch(kernel) => (kernel.range().global, kernel.range().local),
            Command::Copy { .. } => ([0; 3], [0; 3]),
        }
    }

    /// The command's name for people.
    pub(super) fn name(&self, index: usize) -> &'static str {
        match &self.commands[index] {
            Command::Launch(kernel) => kernel.name(),
            Command::Copy { .. } => "copy",
        }
    }
}
