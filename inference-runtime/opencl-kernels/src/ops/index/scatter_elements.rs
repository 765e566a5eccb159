//! `ScatterElements`: updates of single elements, each placed by its own index along one axis.

use super::gather_elements::check_alignment;
use super::position::{checked, index_option, integers, require_indices};
use super::reduction::{self, Reduction, type_option};
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::elements::{Elements, for_each_index, position, strides};
use crate::ops::movement::strided::{Axis, GROUP, StridedCopy, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "scatter_elements.cl",
    text: include_str!("scatter_elements.cl"),
};

/// ONNX operator spec, Scatter-9 and `ScatterElements-11` to `-18`. Where the specification leaves the result of
/// duplicate indices open, the last update counts, as in ONNX Runtime.
#[derive(Debug)]
struct ScatterElements {
    axis: usize,
    reduction: Option<Reduction>,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let attributes: &[&str] = if view.node().since_version < 16 {
        &["axis"]
    } else {
        &["axis", "reduction"]
    };
    only_attributes(view, attributes)?;
    require_indices(view, 1)?;
    let axis = axis(view.int("axis", 0), view.rank(0)?)?;
    let reduction = Reduction::of(view)?;
    Ok(Box::new(ScatterElements { axis, reduction }))
}

impl ScatterElements {
    fn positions(&self, data: &TensorType, indices: &HostTensor) -> Result<Vec<usize>, Reason> {
        let places = integers(indices)?
            .into_iter()
            .map(|index| checked(index, data.shape[self.axis]))
            .collect::<Result<Vec<_>, _>>()?;
        let mut positions = Vec::with_capacity(places.len());
        for_each_index(indices.shape(), |at, index| {
            let mut to = index.to_vec();
            to[self.axis] = places[at];
            positions.push(position(&data.shape, &to));
        });
        Ok(positions)
    }

    fn emit_replacing(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let count = indices.elements();
        let strides = strides(&data.shape);
        let across: Vec<isize> = (0..data.rank())
            .map(|a| if a == self.axis { 0 } else { strides[a] as isize })
            .collect();
        let across = StridedCopy::to_dense(&indices.shape, &across, 0)
            .merged()
            .axis_args()?;
        let launch = |kernel, count, args| Launch {
            source: SOURCE,
            kernel,
            options: vec![element_option(data.dtype.size()), index_option(indices.dtype)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        };
        let bids = emitter.scratch(data.elements() * 4);
        let clear = vec![bids.clone(), Arg::U32(data.elements() as u32)];
        emitter.launch(launch("clear_bids", data.elements(), clear));

        let mut targets = emitter.fault(data.shape[self.axis]).to_vec();
        targets.push(Arg::U32(count as u32));
        targets.extend(across.reading());
        targets.push(Arg::I32(data.shape[self.axis] as i32));
        targets.push(Arg::I32(strides[self.axis] as i32));

        let bid = [vec![emitter.read(1), bids.clone()], targets.clone()].concat();
        emitter.launch(launch("bid", count, bid));
        let buffers = vec![emitter.read(2), emitter.read(1), bids, emitter.write(0)];
        emitter.launch(launch("scatter_elements", count, [buffers, targets].concat()));
        Ok(())
    }

    fn emit_reducing(&self, emitter: &mut Emitter<'_>, reduction: Reduction) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let indices = emitter.input_type(1).clone();
        let (from, to) = (strides(&indices.shape), strides(&data.shape));
        let lines = StridedCopy {
            axes: (0..data.rank())
                .filter(|&a| a != self.axis)
                .map(|a| Axis {
                    extent: indices.shape[a],
                    from: from[a] as isize,
                    to: to[a] as isize,
                })
                .collect(),
            from: 0,
            to: 0,
        };
        let count: usize = lines.axes.iter().map(|axis| axis.extent).product();
        let mut args = vec![emitter.read(2), emitter.read(1), emitter.write(0)];
        args.extend(emitter.fault(data.shape[self.axis]));
        args.push(Arg::U32(count as u32));
        args.extend(lines.merged().axis_args()?.moving());
        args.extend([
            Arg::I32(indices.shape[self.axis] as i32),
            Arg::I32(from[self.axis] as i32),
            Arg::I32(data.shape[self.axis] as i32),
            Arg::I32(to[self.axis] as i32),
            reduction.arg(),
        ]);
        emitter.launch(Launch {
            source: reduction::SOURCE,
            kernel: "reduce_lines",
            options: vec![type_option(data.dtype), index_option(indices.dtype)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

impl Operator for ScatterElements {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let (data, indices, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        check_alignment(data.ty, indices.ty, self.axis)?;
        if updates.shape() != indices.shape() || updates.dtype() != data.dtype() {
            return Err(format!(
                "updates {} at indices {} of {}",
                updates.ty, indices.ty, data.ty
            ));
        }
        Ok(vec![data.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        self.infer(&operands(inputs))?;
        let (data, updates) = (required_tensor(inputs, 0)?, required_tensor(inputs, 2)?);
        let positions = self.positions(data.ty(), required_tensor(inputs, 1)?)?;
        if let Some(reduction) = self.reduction {
            return Ok(vec![reduction.apply(data, updates, &positions)?]);
        }
        let mut scattered = Elements::copied(data);
        for (from, to) in positions.into_iter().enumerate() {
            scattered.set(to, updates, from);
        }
        Ok(vec![scattered.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        index(emitter.input_type(0).elements())?;
        index(emitter.input_type(1).elements())?;
        if emitter.input_type(1).elements() == 0 {
            emitter.alias(0, 0);
            return Ok(());
        }
        let bytes = emitter.input_type(0).bytes();
        emitter.copy((0, 0), (0, 0), bytes);
        match self.reduction {
            None => self.emit_replacing(emitter),
            Some(reduction) => self.emit_reducing(emitter, reduction),
        }
    }
}
