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
