//! `ReduceSum`, `ReduceMean` and their kin.

use super::axes::{Split, named, reduced_shape};
use super::kind::{Kind, limit_names, limits};
use super::rows::Rows;
use crate::ops::elementwise::attributes::{flag, only};
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::numbers::{float_tensor, floats, integer_tensor, integers};
use crate::ops::elementwise::unary::cl_name;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "reduce.cl",
    text: concat!(include_str!("../elementwise/axes.cl"), include_str!("reduce.cl")),
};

/// Reductions shorter than this are not worth a work-group.
const SHORTEST_FOR_A_GROUP: usize = 32;

/// As many outputs fill a GPU with one work-item each.
const OUTPUTS_THAT_FILL_A_GPU: usize = 1 << 14;

/// Work-group size of `reduce_serial`: a compromise between many short reductions and few long ones.
const SERIAL: [usize; 3] = [16, 1, 1];

/// ReduceL1-1 … ReduceSumSquare-1 and later. Axes are an attribute, or an input from version 13 (`ReduceSum`) or 18 on.
#[derive(Debug, Clone, PartialEq)]
struct Reduce {
    kind: Kind,
    dtype: DType,
    keep: bool,
    axes: Axes,
}

/// Where the axes come from.
#[derive(Debug, Clone, PartialEq)]
enum Axes {
    /// An attribute; without one all axes are reduced.
    Attribute(Option<Vec<i64>>),
    /// Input 1; without one, or if it is empty, all axes or none are reduced.
    Input { none_if_empty: bool },
}

/// Lowers every `Reduce…` operator.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let op_type = node.node().op_type.as_str();
    let kind = Kind::of(op_type).ok_or_else(|| format!("'{op_type}' is not a reduction"))?;
    let dtype = node.dtype(0)?;
    if !kind.accepts(dtype) {
        return Err(format!("input 0 is {dtype}"));
    }
    let since_input = if kind == Kind::Sum { 13 } else { 18 };
    let axes = if node.node().since_version >= since_input {
        only(node, &["keepdims", "noop_with_empty_axes"])?;
        Axes::Input {
            none_if_empty: flag(node, "noop_with_empty_axes", false)?,
        }
    } else {
        only(node, &["keepdims", "axes"])?;
        let axes = node.attributes().ints("axes").map(<[i64]>::to_vec);
        named(axes.as_deref().unwrap_or(&[]), node.rank(0)?)?;
        Axes::Attribute(axes)
    };
    Ok(Box::new(Reduce {
        kind,
        dtype,
        keep: flag(node, "keepdims", true)?,
        axes,
    }))
}

impl Reduce {
    /// For each axis whether it is reduced; `given` is the axes input's value.
    fn reduced(&self, rank: usize, given: Option<&[i64]>) -> Result<Vec<bool>, Reason> {
        match (&self.axes, given) {
            (Axes::Attribute(Some(axes)), _) if !axes.is_empty() => named(axes, rank),
            (Axes::Attribute(_), _) => Ok(vec![true; rank]),
            (Axes::Input { .. }, Some(axes)) if !axes.is_empty() => named(axes, rank),
            (Axes::Input { none_if_empty }, _) => Ok(vec![!none_if_empty; rank]),
        }
    }

    fn reduced_of(&self, rank: usize, axes: Option<Operand<'_>>) -> Result<Vec<bool>, Reason> {
        let given = axes.map(|axes| axes.ints("axes")).transpose()?;
        self.reduced(rank, given.as_deref())
    }

    fn options(&self) -> Result<Vec<String>, Reason> {
        let [lowest, highest] = limit_names(self.dtype);
        let mut options = vec![
            format!("-DTYPE={}", cl_name(self.dtype)?),
            format!("-DKIND={}", self.kind.macro_name()),
            format!("-DLOWEST={lowest}"),
            format!("-DHIGHEST={highest}"),
        ];
        if self.dtype.is_float() && self.kind.is_sum() {
            options.push("-DCOMPENSATED".to_owned());
        }
        if self.kind == Kind::LogSumExp {
            options.push("-DSHIFTED".to_owned());
        }
        Ok(options)
    }
}

impl Operator for Reduce {
    fn static_inputs(&self) -> &'static [usize] {
        match self.axes {
            Axes::Attribute(_) => &[],
            Axes::Input { .. } => &[1],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        let reduced = self.reduced_of(x.ty.rank(), inputs.get(1).copied().flatten())?;
        let shape = reduced_shape(x.shape(), &reduced, self.keep);
        Ok(vec![TensorType::new(self.dtype, shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let Some(Some(x)) = inputs.first() else {
            return Err("input 0 is missing".to_owned());
        };
        let axes = inputs.get(1).copied().flatten();
        let axes = axes
            .map(|axes| axes.to_i64().ok_or("axes are not integers"))
            .transpose()?;
        let reduced = self.reduced(x.shape().len(), axes.as_deref())?;
        let shape = reduced_shape(x.shape(), &reduced, self.keep);
        let split = Split::new(x.shape(), &reduced);
        let outputs = 0..shape.iter().product();
        Ok(vec![if self.dtype.is_float() {
            let x = floats(x)?;
            let sets = outputs.map(|output| gather(&x, &split, output));
            float_tensor(shape, sets.map(|set| self.kind.of_floats(&set)))
        } else {
            let x = integers(x)?;
            let sets = outputs.map(|output| gather(&x, &split, output));
            let limits = limits(self.dtype);
            integer_tensor(
                self.dtype,
                shape,
                sets.map(|set| self.kind.of_integers(&set, limits)),
            )
        }])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.input_type(0).shape.clone();
        let reduced = self.reduced_of(shape.len(), emitter.input(1))?;
        let split = Split::new(&shape, &reduced);
        let outputs = emitter.output_type(0).elements();
        let n = split.reduced.count();

        let device = emitter.device().kind;
        let rows = Rows::new(device, n);
        // Where neighbouring outputs read neighbouring elements, one work-item each is as good as it gets.
        let side_by_side = split.kept.is_contiguous() && outputs >= OUTPUTS_THAT_FILL_A_GPU;
        let grouped = device == DeviceKind::Gpu && n >= SHORTEST_FOR_A_GROUP && !side_by_side;

        let mut options = self.options()?;
        let mut args = vec![emitter.write(0), emitter.read(0)];
        args.extend([Arg::U32(int(outputs)? as u32), Arg::I32(int(n)?)]);
        args.extend(split.kept.args()?);
        args.extend(split.reduced.args()?);
        let (kernel, (global, local)) = if grouped {
            options.extend(rows.option());
            ("reduce_group", rows.work(outputs))
        } else {
            ("reduce_serial", ([outputs, 1, 1], SERIAL))
        };
        emitter.launch(Launch {
            source: SOURCE,
            kernel,
            options,
            args,
            global,
            local,
        });
        Ok(())
    }
}

/// The elements that one output is made of.
fn gather<T: Copy>(x: &[T], split: &Split, output: usize) -> Vec<T> {
    let start = split.kept.position(output);
    (0..split.reduced.count())
        .map(|r| x[start + split.reduced.position(r)])
        .collect()
}

#[cfg(test)]
mod tests;
