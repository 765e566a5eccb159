//! What every operator can do.

use std::fmt::Debug;

use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, Shape, TensorType};

/// Why shapes or values do not fit, in words; the planner adds the node's name.
pub type Reason = String;

/// An input as the planner sees it: its type and, where it does not depend on the request's data, its value.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// Element type and concrete shape.
    pub ty: &'a TensorType,
    /// The value, for constants and everything computed from constants and shapes.
    pub known: Option<&'a HostTensor>,
}

impl Operand<'_> {
    /// Extents.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// The known value as integers; the error names what is missing.
    pub fn ints(&self, what: &str) -> Result<Vec<i64>, Reason> {
        self.known
            .ok_or_else(|| format!("{what} depends on the request's data"))?
            .to_i64()
            .ok_or_else(|| format!("{what} must be int64 or int32, is {}", self.ty))
    }
}

/// A lowered node: attributes parsed and defaulted, types checked.
///
/// `infer` and `evaluate` are pure. `emit` only records launches; nothing touches a device before a plan is run.
pub trait Operator: Debug + Send + Sync {
    /// Inputs (by index) whose *values* decide output shapes or the launch; compiling refuses a graph where one of
    /// these depends on the request's data.
    fn static_inputs(&self) -> &'static [usize] {
        &[]
    }

    /// Whether the outputs depend on the inputs' shapes only, never on their data (`Shape`, `Size`).
    fn reads_only_shapes(&self) -> bool {
        false
    }

    /// Types of all outputs, wanted or not, for concrete input types.
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason>;

    /// The CPU reference: plain, slow, obviously right. Tests compare kernels with it, and the planner folds values
    /// known at plan time with it.
    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason>;

    /// Records the launches that compute the wanted outputs. Called only if some output has elements.
    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason>;
}
