//! What a scatter does with what is already there.

use crate::ops::{NodeView, Reason};
use crate::plan::{Arg, Source};
use crate::tensor::{DType, HostTensor};

/// Kernels that combine updates with their targets, in order.
pub(super) const SOURCE: Source = Source {
    name: "scatter_reduce.cl",
    text: include_str!("scatter_reduce.cl"),
};

/// How an update and its target become one. The numbers are those of `scatter_reduce.cl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reduction {
    Add = 0,
    Multiply = 1,
    Maximum = 2,
    Minimum = 3,
}

impl Reduction {
    /// The node's reduction; `None` replaces. Reductions calculate, so their types are few.
    pub(super) fn of(view: &NodeView<'_>) -> Result<Option<Self>, String> {
        let reduction = match view.attributes().string("reduction") {
            None | Some("none") => return Ok(None),
            Some("add") => Self::Add,
            Some("mul") => Self::Multiply,
            Some("max") if view.node().since_version >= 18 => Self::Maximum,
            Some("min") if view.node().since_version >= 18 => Self::Minimum,
            Some(other) => return Err(format!("reduction '{other}'")),
        };
        view.require_dtype(0, &[DType::F32, DType::I32, DType::I64])?;
        Ok(Some(reduction))
    }

    pub(super) fn arg(self) -> Arg {
        Arg::I32(self as i32)
    }

    /// Combines the updates, each with the element at its position, in order.
    pub(super) fn apply(
        self,
        data: &HostTensor,
        updates: &HostTensor,
        positions: &[usize],
    ) -> Result<HostTensor, Reason> {
        let shape = data.shape().to_vec();
        if let (Some(mut values), Some(new)) = (data.to_f32(), updates.to_f32()) {
            self.fold(&mut values, &new, positions, |a, b| a + b, |a, b| a * b);
            return Ok(HostTensor::f32(shape, &values));
        }
        if let (Some(mut values), Some(new)) = (data.to_i32(), updates.to_i32()) {
            self.fold(&mut values, &new, positions, i32::wrapping_add, i32::wrapping_mul);
            return Ok(HostTensor::i32(shape, &values));
        }
        if let (Some(mut values), Some(new)) = (data.to_i64(), updates.to_i64()) {
            self.fold(&mut values, &new, positions, i64::wrapping_add, i64::wrapping_mul);
            return Ok(HostTensor::i64(shape, &values));
        }
        Err(format!("updates {} of {}", updates.ty(), data.ty()))
    }

    fn fold<T: Copy + PartialOrd>(
        self,
        values: &mut [T],
        updates: &[T],
        positions: &[usize],
        add: fn(T, T) -> T,
        multiply: fn(T, T) -> T,
    ) {
        for (&at, &b) in positions.iter().zip(updates) {
            let a = values[at];
            values[at] = match self {
                Self::Add => add(a, b),
                Self::Multiply => multiply(a, b),
                Self::Maximum if a < b => b,
                Self::Maximum => a,
                Self::Minimum if a < b => a,
                Self::Minimum => b,
            };
        }
    }
}

/// The build option that sets the type that reductions calculate with.
pub(super) fn type_option(dtype: DType) -> String {
    format!("-DTYPE={}", dtype.cl_name().unwrap_or("float"))
}
