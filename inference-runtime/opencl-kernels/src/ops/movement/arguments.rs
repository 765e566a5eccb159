//! Reading attributes, axes and shape arguments.

use crate::ops::{NodeView, Operand, Reason};
use crate::tensor::HostTensor;

/// A list of integers that a node gives in one of the ways that ONNX's history knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) enum Integers {
    /// Not given.
    Absent,
    /// Given as an attribute.
    Attribute(Vec<i64>),
    /// Given as the input at this index, whose value must not depend on the request's data.
    Input(usize),
}

impl Integers {
    /// An optional attribute.
    pub(in crate::ops) fn attribute(view: &NodeView<'_>, name: &str) -> Self {
        view.attributes()
            .ints(name)
            .map_or(Self::Absent, |values| Self::Attribute(values.to_vec()))
    }

    /// An optional input.
    pub(in crate::ops) fn input(view: &NodeView<'_>, index: usize) -> Self {
        if view.has_input(index) {
            Self::Input(index)
        } else {
            Self::Absent
        }
    }

    /// The integers, if given; `what` names them in the error.
    pub(in crate::ops) fn get(
        &self,
        inputs: &[Option<Operand<'_>>],
        what: &str,
    ) -> Result<Option<Vec<i64>>, Reason> {
        match self {
            Self::Absent => Ok(None),
            Self::Attribute(values) => Ok(Some(values.clone())),
            Self::Input(index) => required(inputs, *index)?.ints(what).map(Some),
        }
    }
}

/// Refuses attributes other than these: a meaning we do not know must not be dropped silently.
pub(in crate::ops) fn only_attributes(view: &NodeView<'_>, known: &[&str]) -> Result<(), String> {
    match view.attributes().names().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("attribute '{name}' is not known here")),
        None => Ok(()),
    }
}

/// An input that must be there.
pub(in crate::ops) fn required<'a>(
    inputs: &[Option<Operand<'a>>],
    index: usize,
) -> Result<Operand<'a>, Reason> {
    inputs
        .get(index)
        .copied()
        .flatten()
        .ok_or_else(|| format!("input {index} is missing"))
}

/// A tensor that must be there, for CPU references.
pub(in crate::ops) fn required_tensor<'a>(
    inputs: &[Option<&'a HostTensor>],
    index: usize,
) -> Result<&'a HostTensor, Reason> {
    inputs
        .get(index)
        .copied()
        .flatten()
        .ok_or_else(|| format!("input {index} is missing"))
}

/// The operands of a CPU reference: every value is known.
pub(in crate::ops) fn operands<'a>(inputs: &[Option<&'a HostTensor>]) -> Vec<Option<Operand<'a>>> {
    let operand = |tensor: &'a HostTensor| Operand {
        ty: tensor.ty(),
        known: Some(tensor),
    };
    inputs.iter().map(|input| input.map(operand)).collect()
}

/// An axis counted from the front; negative ones are counted from the back.
pub(in crate::ops) fn axis(axis: i64, rank: usize) -> Result<usize, Reason> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|a| *a < rank)
        .ok_or_else(|| format!("axis {axis} of a tensor with {rank} axes"))
}

/// Distinct axes counted from the front.
pub(in crate::ops) fn distinct_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Reason> {
    let mut seen = vec![false; rank];
    axes.iter()
        .map(|&given| {
            let axis = axis(given, rank)?;
            if std::mem::replace(&mut seen[axis], true) {
                return Err(format!("axis {given} is given twice in {axes:?}"));
            }
            Ok(axis)
        })
        .collect()
}

/// An extent; negative ones are the model's mistake.
pub(in crate::ops) fn extent(value: i64, what: &str) -> Result<usize, Reason> {
    usize::try_from(value).map_err(|_| format!("{what} is {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_count_from_both_ends() {
        assert_eq!(axis(0, 3), Ok(0));
        assert_eq!(axis(-1, 3), Ok(2));
        assert_eq!(axis(-3, 3), Ok(0));
        assert_eq!(axis(3, 3), Err("axis 3 of a tensor with 3 axes".to_owned()));
        assert_eq!(axis(-4, 3), Err("axis -4 of a tensor with 3 axes".to_owned()));
        assert_eq!(axis(0, 0), Err("axis 0 of a tensor with 0 axes".to_owned()));
    }

    #[test]
    fn an_axis_named_twice_is_refused() {
        assert_eq!(distinct_axes(&[2, -3], 3), Ok(vec![2, 0]));
        assert_eq!(
            distinct_axes(&[2, -1], 3),
            Err("axis -1 is given twice in [2, -1]".to_owned())
        );
    }
}
