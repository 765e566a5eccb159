//! What a plan is made of.

use crate::tensor::HostTensor;

/// An OpenCL C file, embedded. `prelude.cl` is put in front of it when it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source {
    /// File name without folder, for messages and for overriding from a folder at run time.
    pub name: &'static str,
    /// The text.
    pub text: &'static str,
}

/// Index of a storage within its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageId(pub u32);

/// A piece of device memory that a plan uses.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Size; at least 1, since OpenCL has no empty buffers.
    pub bytes: usize,
    /// Where it lives.
    pub kind: StorageKind,
}

/// Where a storage lives.
#[derive(Debug, Clone)]
pub enum StorageKind {
    /// In the plan's arena, sharing addresses with storages that are not alive at the same time.
    Arena,
    /// A constant of the program, uploaded once under this key and shared by all plans. The bytes are absent where
    /// the planner was told that the key is already on the device.
    Constant(String, Option<HostTensor>),
    /// A value that is known for this plan only (it depends on the input shapes), uploaded with the plan.
    PlanConstant(HostTensor),
    /// The two-word fault record (see [`crate::plan::Emitter::fault`]).
    Fault,
}

/// One argument of a kernel.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    /// A buffer.
    Buffer(StorageId),
    /// `int`
    I32(i32),
    /// `uint`
    U32(u32),
    /// `long`
    I64(i64),
    /// `float`
    F32(f32),
    /// `int4`
    Int4([i32; 4]),
    /// `int8`: up to eight extents or strides by value.
    Int8([i32; 8]),
    /// Work-group local memory of this many bytes.
    Local(usize),
}

/// One kernel launch.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub source: Source,
    /// The kernel in it.
    pub kernel: &'static str,
    /// Build options, e.g. `-DACTIVATION=1`. Keep the number of distinct combinations small: each is a program
    /// to build, and shapes belong into arguments, not options.
    pub options: Vec<String>,
    /// Arguments in order.
    pub args: Vec<Arg>,
    /// Work-items per dimension; rounded up to a multiple of `local`, so kernels check their bounds.
    pub global: [usize; 3],
    /// Work-group size. Use few distinct ones: CPU runtimes compile a kernel anew for each.
    pub local: [usize; 3],
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub enum Step {
    /// Run a kernel.
    Launch(Launch),
    /// Copy bytes between storages.
    Copy {
        /// Source and byte offset in it.
        from: (StorageId, usize),
        /// Destination and byte offset in it.
        to: (StorageId, usize),
        /// Number of bytes.
        bytes: usize,
    },
}

impl Step {
    /// Every storage that the step reads or writes.
    pub fn storages(&self) -> impl Iterator<Item = StorageId> + '_ {
        let (args, copy): (&[Arg], _) = match self {
            Self::Launch(launch) => (&launch.args, None),
            Self::Copy { from, to, .. } => (&[], Some([from.0, to.0])),
        };
        let buffers = args.iter().filter_map(|arg| match arg {
            Arg::Buffer(id) => Some(*id),
            _ => None,
        });
        buffers.chain(copy.into_iter().flatten())
    }
}
