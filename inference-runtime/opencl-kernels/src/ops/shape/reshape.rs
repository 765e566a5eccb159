//! Reshape, Flatten, Squeeze and Unsqueeze: the same elements in the same order under another shape.

use crate::ops::movement::arguments::{
    Integers, axis, distinct_axes, only_attributes, operands, required, required_tensor,
};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, Shape, TensorType};

/// What makes the new shape from the old one.
#[derive(Debug)]
enum Target {
    /// ONNX operator spec, Reshape-1 to Reshape-25.
    Reshape { shape: Integers, allow_zero: bool },
    /// ONNX operator spec, Flatten-1 to Flatten-25: two axes, the second from this axis on.
    Flatten { axis: usize },
    /// ONNX operator spec, Squeeze-1 to Squeeze-25: without these axes of extent 1, or without any.
    Squeeze { axes: Integers },
    /// ONNX operator spec, Unsqueeze-1 to Unsqueeze-25: with axes of extent 1 at these places of the result.
    Unsqueeze { axes: Integers },
}

/// A tensor under another shape: costs nothing.
#[derive(Debug)]
struct Reshape(Target);

pub(super) fn reshape(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = view.node().since_version;
    let attributes: &[&str] = match version {
        // `consumed_inputs` is a hint for memory reuse without effect on the result.
        ..5 => &["consumed_inputs", "shape"],
        5..14 => &[],
        _ => &["allowzero"],
    };
    only_attributes(view, attributes)?;
    let shape = if version < 5 {
        Integers::attribute(view, "shape")
    } else {
        Integers::input(view, 1)
    };
    if shape == Integers::Absent {
        return Err("'shape' is missing".to_owned());
    }
    Ok(Box::new(Reshape(Target::Reshape {
        shape,
        allow_zero: view.int("allowzero", 0) != 0,
    })))
}

pub(super) fn flatten(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["axis"])?;
    let rank = view.rank(0)?;
    let given = view.int("axis", 1);
    // One more than an axis: everything before the end.
    let axis = if given == rank as i64 {
        rank
    } else {
        axis(given, rank)?
    };
    Ok(Box::new(Reshape(Target::Flatten { axis })))
}

pub(super) fn squeeze(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let axes = axes(view)?;
    Ok(Box::new(Reshape(Target::Squeeze { axes })))
}

pub(super) fn unsqueeze(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    match axes(view)? {
        Integers::Absent => Err("'axes' is missing".to_owned()),
        axes => Ok(Box::new(Reshape(Target::Unsqueeze { axes }))),
    }
}

/// The axes of Squeeze and Unsqueeze: an attribute until version 13 made them an input.
fn axes(view: &NodeView<'_>) -> Result<Integers, String> {
    if view.node().since_version < 13 {
        only_attributes(view, &["axes"])?;
        Ok(Integers::attribute(view, "axes"))
    } else {
        only_attributes(view, &[])?;
        Ok(Integers::input(view, 1))
    }
}

/// The shape that a Reshape asks for: 0 keeps an extent (unless zeros are allowed), one -1 takes what is left.
fn requested(data: &TensorType, wanted: &[i64], allow_zero: bool) -> Result<Shape, Reason> {
    let refuse = |why: &str| format!("{data} reshaped to {wanted:?}: {why}");
    let mut shape = Vec::with_capacity(wanted.len());
    let mut rest = None;
    for (at, &extent) in wanted.iter().enumerate() {
        shape.push(match extent {
            -1 if rest.replace(at).is_some() => return Err(refuse("more than one -1")),
            -1 => 1,
            0 if !allow_zero => *data
                .shape
                .get(at)
                .ok_or_else(|| refuse("0 keeps an axis that is not there"))?,
            _ => usize::try_from(extent).map_err(|_| refuse("a negative extent"))?,
        });
    }
    if let Some(rest) = rest {
        let others: usize = shape.iter().product();
        if others == 0 {
            return Err(refuse("-1 beside a zero can be anything"));
        }
        if !data.elements().is_multiple_of(others) {
            return Err(refuse("the number of elements does not divide"));
        }
        shape[rest] = data.elements() / others;
    }
    if shape.iter().product::<usize>() == data.elements() {
        Ok(shape)
    } else {
        Err(refuse("the number of elements differs"))
    }
}

fn squeezed(data: &TensorType, axes: &[i64]) -> Result<Shape, Reason> {
    // Named twice is named once here, as in ONNX Runtime; naming none means all that can be.
    let axes = axes
        .iter()
        .map(|&given| axis(given, data.rank()))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(axis) = axes.iter().find(|&&axis| data.shape[axis] != 1) {
        return Err(format!("axis {axis} of {data} cannot be squeezed"));
    }
    let kept = |axis: &usize| data.shape[*axis] != 1 || !(axes.is_empty() || axes.contains(axis));
    Ok((0..data.rank())
        .filter(kept)
        .map(|axis| data.shape[axis])
        .collect())
}

fn unsqueezed(data: &TensorType, axes: &[i64]) -> Result<Shape, Reason> {
    let rank = data.rank() + axes.len();
    let new = distinct_axes(axes, rank)?;
    let mut old = data.shape.iter().copied();
    let extent = |axis| if new.contains(&axis) { Some(1) } else { old.next() };
    Ok((0..rank).map_while(extent).collect())
}

impl Reshape {
    fn shape(&self, inputs: &[Option<Operand<'_>>]) -> Result<Shape, Reason> {
        let data = required(inputs, 0)?.ty;
        match &self.0 {
            Target::Reshape { shape, allow_zero } => {
                let wanted = shape.get(inputs, "the new shape")?.unwrap_or_default();
                requested(data, &wanted, *allow_zero)
            }
            Target::Flatten { axis } => {
                let (outer, inner) = data.shape.split_at(*axis);
                Ok(vec![outer.iter().product(), inner.iter().product()])
            }
            Target::Squeeze { axes } => squeezed(
                data,
                &axes.get(inputs, "the axes to squeeze")?.unwrap_or_default(),
            ),
            Target::Unsqueeze { axes } => {
                unsqueezed(data, &axes.get(inputs, "the axes to add")?.unwrap_or_default())
            }
        }
    }
}

impl Operator for Reshape {
    fn static_inputs(&self) -> &'static [usize] {
        match &self.0 {
            Target::Reshape { shape: given, .. }
            | Target::Squeeze { axes: given }
            | Target::Unsqueeze { axes: given }
                if matches!(given, Integers::Input(_)) =>
            {
                &[1]
            }
            _ => &[],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        Ok(vec![TensorType::new(
            required(inputs, 0)?.dtype(),
            self.shape(inputs)?,
        )])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let shape = self.shape(&operands(inputs))?;
        Ok(vec![required_tensor(inputs, 0)?.reshaped(shape)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        emitter.alias(0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn ints(values: &[i64]) -> HostTensor {
        HostTensor::i64([values.len()], values)
    }

    fn reshape(from: &[usize], to: &[i64]) -> Case {
        Case::new("Reshape", 13)
            .input(numbered(DType::F32, from))
            .constant(ints(to))
            .output(DType::F32, to.len())
    }

    fn shape(case: &Case) -> Vec<usize> {
        case.check()[0].shape().to_vec()
    }

    #[test]
    fn zero_keeps_an_extent_and_minus_one_takes_the_rest() {
        assert_eq!(shape(&reshape(&[2, 3, 4], &[0, -1])), [2, 12]);
        assert_eq!(shape(&reshape(&[2, 3, 4], &[4, -1, 3])), [4, 2, 3]);
        assert_eq!(shape(&reshape(&[1, 1], &[])), [0; 0]);
        assert_eq!(shape(&reshape(&[], &[-1])), [1]);
        assert_eq!(shape(&reshape(&[0, 3], &[-1, 3])), [0, 3]);
        assert_eq!(shape(&reshape(&[0, 3], &[3, -1])), [3, 0]);
        assert_eq!(shape(&reshape(&[2, 2, 2, 2, 2, 2, 2, 2], &[16, 16])), [16, 16]);
    }

    #[test]
    fn allowed_zeros_are_zeros() {
        let case = Case::new("Reshape", 14)
            .attr("allowzero", Attribute::Int(1))
            .input(numbered(DType::F32, &[0, 3]))
            .constant(ints(&[3, 0]));
        assert_eq!(shape(&case), [3, 0]);
    }

    #[test]
    fn elements_stay_in_order_for_every_size() {
        for dtype in EVERY_SIZE {
            let input = numbered(dtype, &[2, 6]);
            let case = Case::new("Reshape", 25)
                .input(input.clone())
                .constant(ints(&[3, 4]));
            assert_eq!(case.check()[0].bytes(), input.bytes());
        }
    }

    #[test]
    fn version_1_takes_attributes() {
        let case = Case::new("Reshape", 1)
            .attr("shape", Attribute::Ints(vec![-1, 2]))
            .attr("consumed_inputs", Attribute::Ints(vec![]))
            .input(numbered(DType::F32, &[4]))
            .output(DType::F32, 2);
        assert_eq!(shape(&case), [2, 2]);
    }

    #[test]
    fn shapes_that_cannot_be_are_refused() {
        let refusal = |from: &[usize], to: &[i64]| reshape(from, to).refusal().to_string();
        assert!(
            refusal(&[2, 3], &[4, -1]).contains("float32[2, 3] reshaped to [4, -1]: the number of elements")
        );
        assert!(refusal(&[2, 3], &[-1, -1]).contains("more than one -1"));
        assert!(refusal(&[2, 3], &[2, 3, 0]).contains("0 keeps an axis that is not there"));
        assert!(refusal(&[2, 3], &[-2, -3]).contains("a negative extent"));
        assert!(refusal(&[2, 3], &[7]).contains("the number of elements differs"));
        assert!(refusal(&[0, 3], &[0, -1]).contains("-1 beside a zero can be anything"));
        let runtime = Case::new("Reshape", 13)
            .input(numbered(DType::F32, &[4]))
            .input(ints(&[2, 2]));
        assert!(
            runtime
                .refusal()
                .to_string()
                .contains("depends on the request's data")
        );
    }

    #[test]
    fn flattening_makes_two_axes_at_any_place() {
        let flattened = |from: &[usize], axis| {
            let case = Case::new("Flatten", 13).attr("axis", Attribute::Int(axis));
            shape(&case.input(numbered(DType::F32, from)).output(DType::F32, 2))
        };
        assert_eq!(flattened(&[2, 3, 4], 0), [1, 24]);
        assert_eq!(flattened(&[2, 3, 4], 1), [2, 12]);
        assert_eq!(flattened(&[2, 3, 4], 3), [24, 1]);
        assert_eq!(flattened(&[2, 3, 4], -1), [6, 4]);
        assert_eq!(flattened(&[], 0), [1, 1]);
        assert_eq!(flattened(&[2, 0], 1), [2, 0]);
        let beyond = Case::new("Flatten", 13).attr("axis", Attribute::Int(3));
        let refusal = beyond
            .input(numbered(DType::F32, &[2, 3]))
            .output(DType::F32, 2)
            .refusal();
        assert!(
            refusal.to_string().contains("axis 3 of a tensor with 2 axes"),
            "{refusal}"
        );
    }

    #[test]
    fn squeezing_drops_axes_of_one() {
        let squeezed = |from: &[usize], axes: Option<&[i64]>, rank| {
            let case = Case::new("Squeeze", 13)
                .input(numbered(DType::F32, from))
                .output(DType::F32, rank);
            shape(
                &axes
                    .into_iter()
                    .fold(case, |case, axes| case.constant(ints(axes))),
            )
        };
        assert_eq!(squeezed(&[1, 2, 1], None, 1), [2]);
        assert_eq!(squeezed(&[1, 2, 1], Some(&[-1]), 2), [1, 2]);
        assert_eq!(squeezed(&[1, 2, 1], Some(&[0, 2]), 1), [2]);
        assert_eq!(squeezed(&[1, 2, 1], Some(&[]), 1), [2], "no axes mean all");
        assert_eq!(squeezed(&[1], Some(&[0]), 0), [0; 0]);
        let old = Case::new("Squeeze", 1).attr("axes", Attribute::Ints(vec![0]));
        assert_eq!(
            shape(&old.input(numbered(DType::F32, &[1, 1])).output(DType::F32, 1)),
            [1]
        );
        let wide = Case::new("Squeeze", 11).attr("axes", Attribute::Ints(vec![1]));
        let refusal = wide
            .input(numbered(DType::F32, &[1, 2]))
            .output(DType::F32, 1)
            .refusal();
        assert!(
            refusal
                .to_string()
                .contains("axis 1 of float32[1, 2] cannot be squeezed"),
            "{refusal}"
        );
    }

    #[test]
    fn unsqueezing_counts_axes_of_the_result() {
        let unsqueezed = |from: &[usize], axes: &[i64]| {
            let case = Case::new("Unsqueeze", 13)
                .input(numbered(DType::F32, from))
                .constant(ints(axes));
            case.output(DType::F32, from.len() + axes.len())
        };
        assert_eq!(shape(&unsqueezed(&[2, 3], &[0, -1])), [1, 2, 3, 1]);
        assert_eq!(shape(&unsqueezed(&[2, 3], &[3, 1])), [2, 1, 3, 1]);
        assert_eq!(shape(&unsqueezed(&[], &[0])), [1]);
        let refusal = unsqueezed(&[2], &[0, -3]).refusal().to_string();
        assert!(refusal.contains("axis -3 is given twice"), "{refusal}");
        let old = Case::new("Unsqueeze", 11).attr("axes", Attribute::Ints(vec![-1]));
        assert_eq!(
            shape(&old.input(numbered(DType::F32, &[2])).output(DType::F32, 2)),
            [2, 1]
        );
    }
}
