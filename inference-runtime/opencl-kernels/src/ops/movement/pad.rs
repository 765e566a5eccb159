//! Pad: more elements before and after each axis, or fewer.

use half::f16;

use super::arguments::{Integers, distinct_axes, only_attributes, operands, required, required_tensor};
use super::divisor::Divisor;
use super::elements::{Elements, for_each_index, position, strides};
use super::strided::{GROUP, StridedCopy, element_option, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, MAX_RANK, TensorType};

const SOURCE: Source = Source {
    name: "pad.cl",
    text: include_str!("pad.cl"),
};

/// Where padding takes its elements from.
#[derive(Debug, Clone, PartialEq)]
enum Mode {
    /// One value, given as input 2 or here.
    Constant(Option<HostTensor>),
    /// The nearest element.
    Edge,
    /// The elements mirrored at the first and last one, which are not repeated.
    Reflect,
    /// The elements from the other end.
    Wrap,
}

/// ONNX operator spec, Pad-2 to Pad-25.
#[derive(Debug)]
struct Pad {
    mode: Mode,
    pads: Integers,
    axes: Integers,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let dtype = view.dtype(0)?;
    let version = view.node().since_version;
    let attributes: &[&str] = if version < 11 {
        &["mode", "pads", "value"]
    } else {
        &["mode"]
    };
    only_attributes(view, attributes)?;
    let mode = match view.attributes().string("mode") {
        None | Some("constant") if view.has_input(2) => {
            if view.dtype(2)? != dtype {
                return Err(format!("a pad value of type {} for {dtype}", view.dtype(2)?));
            }
            Mode::Constant(None)
        }
        None | Some("constant") => Mode::Constant(Some(scalar(dtype, view.float("value", 0.0))?)),
        Some("edge") => Mode::Edge,
        Some("reflect") => Mode::Reflect,
        Some("wrap") if version >= 19 => Mode::Wrap,
        Some(other) => return Err(format!("mode '{other}'")),
    };
    let pads = if version < 11 {
        Integers::attribute(view, "pads")
    } else {
        Integers::input(view, 1)
    };
    if pads == Integers::Absent {
        return Err("'pads' is missing".to_owned());
    }
    let axes = if version < 18 {
        Integers::Absent
    } else {
        Integers::input(view, 3)
    };
    Ok(Box::new(Pad { mode, pads, axes }))
}

/// A pad value of any type; other values than 0 come as attributes of version 2, which knows floats only.
fn scalar(dtype: DType, value: f32) -> Result<HostTensor, String> {
    let bytes = match dtype {
        _ if value == 0.0 && value.is_sign_positive() => vec![0; dtype.size()],
        DType::F32 => value.to_le_bytes().to_vec(),
        DType::F64 => f64::from(value).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f32(value).to_le_bytes().to_vec(),
        _ => return Err(format!("a pad value of {value} for {dtype}")),
    };
    Ok(HostTensor::new(TensorType::new(dtype, []), bytes))
}

/// What happens to one axis: cropped first, then padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    /// Elements cut off in front.
    skipped: usize,
    /// Elements left after cropping.
    length: usize,
    /// Elements added in front.
    before: usize,
    /// Elements added behind.
    after: usize,
}

impl Axis {
    fn new(extent: usize, before: i64, after: i64, mode: &Mode) -> Result<Self, Reason> {
        let split = |pad: i64| {
            let amount = pad.unsigned_abs() as usize;
            if pad < 0 { (amount, 0) } else { (0, amount) }
        };
        let ((skipped, before), (dropped, after)) = (split(before), split(after));
        let refuse = |why: &str| {
            Err(format!(
                "an axis of {extent}, cropped by {skipped} and {dropped}, padded by {before} and {after}: {why}"
            ))
        };
        let Some(length) = extent.checked_sub(skipped).and_then(|l| l.checked_sub(dropped)) else {
            return refuse("more is cropped than there is");
        };
        let most = before.max(after);
        match mode {
            Mode::Reflect if most > 0 && most >= length => {
                refuse("a reflection is shorter than what it mirrors")
            }
            Mode::Edge | Mode::Wrap if most > 0 && length == 0 => refuse("there is nothing to repeat"),
            _ => Ok(Self {
                skipped,
                length,
                before,
                after,
            }),
        }
    }

    fn extent(self) -> usize {
        self.before + self.length + self.after
    }

    fn is_padded(self) -> bool {
        self.before + self.after > 0
    }

    /// Where the element at `i` of the output comes from, before cropping; `None` is the constant.
    fn source(self, i: usize, mode: &Mode) -> Option<usize> {
        let (at, length) = (i as isize - self.before as isize, self.length as isize);
        let cropped = match mode {
            _ if (0..length).contains(&at) => at,
            Mode::Constant(_) => return None,
            Mode::Edge => at.clamp(0, length - 1),
            Mode::Reflect if at < 0 => -at,
            Mode::Reflect => 2 * (length - 1) - at,
            Mode::Wrap => at.rem_euclid(length),
        };
        Some(self.skipped + cropped as usize)
    }
}

impl Pad {
    fn axes(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<Axis>, Reason> {
        let shape = &required(inputs, 0)?.ty.shape;
        let pads = self.pads.get(inputs, "pads")?.ok_or("'pads' is missing")?;
        let axes = match self.axes.get(inputs, "axes")? {
            Some(axes) => distinct_axes(&axes, shape.len())?,
            None => (0..shape.len()).collect(),
        };
        if pads.len() != 2 * axes.len() {
            return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
        }
        let (before, after) = pads.split_at(axes.len());
        let mut padded = vec![(0, 0); shape.len()];
        for ((axis, before), after) in axes.into_iter().zip(before).zip(after) {
            padded[axis] = (*before, *after);
        }
        shape
            .iter()
            .zip(padded)
            .map(|(&extent, (before, after))| Axis::new(extent, before, after, &self.mode))
            .collect()
    }

    fn value<'a>(&'a self, inputs: &[Option<&'a HostTensor>]) -> Result<Option<&'a HostTensor>, Reason> {
        let value = match &self.mode {
            Mode::Constant(Some(value)) => value,
            Mode::Constant(None) => required_tensor(inputs, 2)?,
            Mode::Edge | Mode::Reflect | Mode::Wrap => return Ok(None),
        };
        Ok(Some(value))
    }
}

/// An axis as the kernel sees it: cropping is an offset, neighbours that are padded as one are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lane {
    axis: Axis,
    stride: usize,
}

fn lanes(axes: &[Axis], strides: &[usize], mode: &Mode) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::with_capacity(axes.len());
    for (&axis, &stride) in axes.iter().zip(strides) {
        if axis.extent() == 1 && axis.length == 1 {
            continue;
        }
        match lanes.last_mut() {
            Some(outer)
                if !axis.is_padded()
                    && outer.stride == stride * axis.length
                    && (matches!(mode, Mode::Constant(_)) || !outer.axis.is_padded()) =>
            {
                outer.stride = stride;
                outer.axis.before *= axis.length;
                outer.axis.length *= axis.length;
                outer.axis.after *= axis.length;
            }
            _ => lanes.push(Lane { axis, stride }),
        }
    }
    lanes
}

/// `int inner, int8 extents, magics, shifts, before, lengths, strides`
fn lane_args(lanes: &[Lane]) -> [Arg; 7] {
    let mut args = [[0_i32; MAX_RANK]; 6];
    let (outermost, inner) = lanes.split_first().map_or((None, lanes), |(o, i)| (Some(o), i));
    let outermost = outermost.map(|lane| (MAX_RANK - 1, lane));
    for (at, lane) in inner.iter().rev().enumerate().chain(outermost) {
        let extent = lane.axis.extent();
        let divisor = Divisor::new(extent);
        let values = [
            extent as i32,
            divisor.magic as i32,
            divisor.shift as i32,
            lane.axis.before as i32,
            lane.axis.length as i32,
            lane.stride as i32,
        ];
        for (arg, value) in args.iter_mut().zip(values) {
            arg[at] = value;
        }
    }
    if lanes.is_empty() {
        // One element that stays one: the last lane is read all the same.
        args[4][MAX_RANK - 1] = 1;
    }
    let [extents, magics, shifts, before, lengths, strides] = args.map(Arg::Int8);
    [
        Arg::I32(inner.len() as i32),
        extents,
        magics,
        shifts,
        before,
        lengths,
        strides,
    ]
}

impl Operator for Pad {
    fn static_inputs(&self) -> &'static [usize] {
        match self.pads {
            Integers::Input(_) => &[1, 3],
            Integers::Absent | Integers::Attribute(_) => &[],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shape: Vec<usize> = self.axes(inputs)?.into_iter().map(Axis::extent).collect();
        if matches!(self.mode, Mode::Constant(None)) {
            let value = required(inputs, 2)?.ty;
            if value.elements() != 1 {
                return Err(format!("a pad value of type {value} is not one element"));
            }
        }
        Ok(vec![TensorType::new(required(inputs, 0)?.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let operands = operands(inputs);
        let ty = self.infer(&operands)?.remove(0);
        let axes = self.axes(&operands)?;
        let data = required_tensor(inputs, 0)?;
        let value = self.value(inputs)?;
        let shape = ty.shape.clone();
        let mut padded = Elements::zeroed(ty);
        for_each_index(&shape, |to, output| {
            let from: Option<Vec<usize>> = axes
                .iter()
                .zip(output)
                .map(|(axis, &i)| axis.source(i, &self.mode))
                .collect();
            match (from, value) {
                (Some(from), _) => padded.set(to, data, position(data.shape(), &from)),
                (None, Some(value)) => padded.set(to, value, 0),
                (None, None) => unreachable!("only the constant mode leaves elements without a source"),
            }
        });
        Ok(vec![padded.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let inputs: Vec<_> = (0..emitter.inputs()).map(|i| emitter.input(i)).collect();
        let axes = self.axes(&inputs)?;
        let (data, output) = (emitter.input_type(0).clone(), emitter.output_type(0).clone());
        let size = data.dtype.size();
        if data.shape == output.shape && !axes.iter().any(|a| a.is_padded()) {
            emitter.alias(0, 0);
            return Ok(());
        }
        let strides = strides(&data.shape);
        let skipped: usize = axes
            .iter()
            .zip(&strides)
            .map(|(axis, stride)| axis.skipped * stride)
            .sum();
        if !axes.iter().any(|a| a.is_padded()) {
            let strides: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
            return StridedCopy::to_dense(&output.shape, &strides, skipped as isize)
                .emit(emitter, 0, 0, size);
        }
        index(data.elements())?;
        let count = index(output.elements())?;
        let mut args = vec![emitter.read(0), emitter.write(0), Arg::U32(count as u32)];
        args.extend(lane_args(&lanes(&axes, &strides, &self.mode)));
        args.push(Arg::I32(skipped as i32));
        let kernel = match &self.mode {
            Mode::Constant(None) => {
                args.push(emitter.read(2));
                "pad_constant"
            }
            Mode::Constant(Some(value)) => {
                args.push(emitter.constant("value", || value.clone()));
                "pad_constant"
            }
            Mode::Edge => {
                args.push(Arg::I32(0));
                "pad_fold"
            }
            Mode::Reflect => {
                args.push(Arg::I32(1));
                "pad_fold"
            }
            Mode::Wrap => {
                args.push(Arg::I32(2));
                "pad_fold"
            }
        };
        emitter.launch(Launch {
            source: SOURCE,
            kernel,
            options: vec![element_option(size)],
            args,
            global: [count as usize, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    const MODES: [&str; 4] = ["constant", "edge", "reflect", "wrap"];

    fn case(input: HostTensor, mode: &str, pads: &[i64]) -> Case {
        Case::new("Pad", 19)
            .attr("mode", Attribute::String(mode.to_owned()))
            .input(input)
            .constant(HostTensor::i64([pads.len()], pads))
    }

    fn padded(mode: &str, before: i64, after: i64) -> Vec<f32> {
        let line = HostTensor::f32([3], &[5.0, 6.0, 7.0]);
        case(line, mode, &[before, after])
            .check()
            .remove(0)
            .to_f32()
            .unwrap()
    }

    #[test]
    fn modes_take_their_elements_from_where_they_should() {
        assert_eq!(padded("constant", 2, 1), [0.0, 0.0, 5.0, 6.0, 7.0, 0.0]);
        assert_eq!(padded("edge", 2, 1), [5.0, 5.0, 5.0, 6.0, 7.0, 7.0]);
        assert_eq!(padded("reflect", 2, 1), [7.0, 6.0, 5.0, 6.0, 7.0, 6.0]);
        assert_eq!(padded("wrap", 2, 1), [6.0, 7.0, 5.0, 6.0, 7.0, 5.0]);
        assert_eq!(
            padded("wrap", 4, 5),
            [7.0, 5.0, 6.0, 7.0, 5.0, 6.0, 7.0, 5.0, 6.0, 7.0, 5.0, 6.0]
        );
    }

    #[test]
    fn negative_pads_crop_before_anything_is_added() {
        // As ONNX Runtime does: what was cropped is not there to be repeated.
        assert_eq!(padded("constant", -1, 2), [6.0, 7.0, 0.0, 0.0]);
        assert_eq!(padded("constant", -3, 1), [0.0]);
        assert_eq!(padded("edge", 2, -1), [5.0, 5.0, 5.0, 6.0]);
        assert_eq!(padded("wrap", 2, -1), [5.0, 6.0, 5.0, 6.0]);
        assert_eq!(padded("reflect", 1, -1), [6.0, 5.0, 6.0]);
        assert_eq!(padded("edge", -1, -1), [6.0]);
    }

    #[test]
    fn the_value_is_whatever_the_request_brings() {
        let value = |value: HostTensor| {
            let line = HostTensor::f32([1], &[5.0]);
            let pads = HostTensor::i64([2], &[1, 0]);
            let case = Case::new("Pad", 13).input(line).constant(pads).input(value);
            case.check().remove(0).to_f32().unwrap()
        };
        assert_eq!(value(HostTensor::f32([], &[f32::INFINITY])), [f32::INFINITY, 5.0]);
        assert!(value(HostTensor::f32([1], &[f32::NAN]))[0].is_nan());
    }

    #[test]
    fn version_2_gives_everything_as_attributes() {
        let case = Case::new("Pad", 2)
            .attr("pads", Attribute::Ints(vec![0, 1, 0, 0]))
            .attr("value", Attribute::Float(-1.5))
            .input(HostTensor::f32([2, 1], &[3.0, 4.0]));
        assert_eq!(case.check(), [HostTensor::f32([2, 2], &[-1.5, 3.0, -1.5, 4.0])]);
    }

    #[test]
    fn axes_choose_what_is_padded() {
        let case = Case::new("Pad", 18)
            .input(HostTensor::f32([2, 1], &[3.0, 4.0]))
            .constant(HostTensor::i64([2], &[1, 0]))
            .absent()
            .constant(HostTensor::i64([1], &[-1]));
        assert_eq!(case.check(), [HostTensor::f32([2, 2], &[0.0, 3.0, 0.0, 4.0])]);
    }

    #[test]
    fn every_mode_rank_and_element_size_is_padded() {
        for dtype in EVERY_SIZE {
            for mode in MODES {
                case(numbered(dtype, &[5]), mode, &[4, 3]).check();
                case(numbered(dtype, &[5, 4]), mode, &[0, 2, 3, -1]).check();
                case(numbered(dtype, &[2, 3, 5, 7]), mode, &[0, 0, 1, 1, 0, 0, 1, 1]).check();
                case(numbered(dtype, &[3, 2, 4]), mode, &[1, 0, 0, 2, 0, 0]).check();
                case(numbered(dtype, &[3, 4]), mode, &[0, -1, 0, -1]).check();
                case(numbered(dtype, &[2, 3]), mode, &[0; 4]).check();
                let all = [1, 1, 0, 1, 1, 1, -1, 1, 1, 0, 1, 1, 0, 1, 1, 0];
                case(numbered(dtype, &[2, 2, 2, 2, 3, 2, 3, 2]), mode, &all).check();
            }
            case(numbered(dtype, &[]), "constant", &[]).check();
            case(numbered(dtype, &[0]), "constant", &[1, 2]).check();
            case(numbered(dtype, &[0, 2]), "edge", &[0, 1, 0, 1]).check();
        }
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        let refusal = |mode, pads: &[i64]| case(numbered(DType::F32, &[3]), mode, pads).refusal().to_string();
        assert!(refusal("reflect", &[3, 0]).contains("a reflection is shorter than what it mirrors"));
        assert!(refusal("edge", &[-3, 1]).contains("there is nothing to repeat"));
        assert!(refusal("constant", &[-2, -2]).contains("more is cropped than there is"));
        assert!(refusal("constant", &[1, 1, 1]).contains("3 pads for 1 axes"));
        assert!(refusal("circular", &[1, 1]).contains("mode 'circular'"));
    }
}
