//! `MaxPool`, `AveragePool` and `LpPool` (ONNX operator spec, MaxPool-1 to -22, AveragePool-1 to -22, LpPool-1 to -22).

use std::cmp::Ordering;

use super::kind::Kind;
use crate::ops::NodeView;
use crate::ops::conv::{Axis, Padding, Sliding, lengths, three};
use crate::ops::matmul::{coordinates, countable, int, refuse_unknown};
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "pool_windows.cl",
    text: include_str!("windows.cl"),
};

/// Work-items per group.
const GROUP: usize = 64;

/// Pooling over sliding windows of one to three spatial axes.
#[derive(Debug)]
pub(super) struct Windows {
    kind: Kind,
    kernel: Vec<usize>,
    sliding: Sliding,
    /// Whether a window may hang over the end of the padded input.
    ceil: bool,
    /// Whether the second output's indices count along the first axis fastest.
    column_major: bool,
}

const COMMON: [&str; 6] = [
    "auto_pad",
    "ceil_mode",
    "dilations",
    "kernel_shape",
    "pads",
    "strides",
];

/// `MaxPool`.
pub(super) fn max(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let known: Vec<_> = COMMON.into_iter().chain(["storage_order"]).collect();
    construct(node, &known, Kind::Max)
}

/// `AveragePool`.
pub(super) fn average(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let known: Vec<_> = COMMON.into_iter().chain(["count_include_pad"]).collect();
    let count_padding = node.int("count_include_pad", 0) != 0;
    construct(node, &known, Kind::Average { count_padding })
}

/// `LpPool`.
pub(super) fn norm(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let known: Vec<_> = COMMON.into_iter().chain(["p"]).collect();
    construct(node, &known, Kind::Norm { p: exponent(node)? })
}

/// The attribute `p`: a float in version 1, an integer since.
pub(super) fn exponent(node: &NodeView<'_>) -> Result<f32, String> {
    let p = match node.attributes().float("p") {
        Some(p) => p,
        None => node.int("p", 2) as f32,
    };
    if p > 0.0 {
        Ok(p)
    } else {
        Err(format!("a norm with exponent {p}"))
    }
}

fn construct(node: &NodeView<'_>, known: &[&str], kind: Kind) -> Result<Box<dyn Operator>, String> {
    refuse_unknown(node, known)?;
    node.require_dtype(0, &[DType::F32])?;
    let rank = node.rank(0)?;
    if !(3..=5).contains(&rank) {
        return Err(format!(
            "input of rank {rank}: one to three spatial axes are known"
        ));
    }
    let kernel = lengths(node, "kernel_shape")?.ok_or("kernel_shape is missing")?;
    if kernel.len() != rank - 2 || kernel.contains(&0) {
        return Err(format!("kernel_shape {kernel:?} for {} spatial axes", rank - 2));
    }
    let sliding = Sliding::parse(node, rank - 2)?;
    if matches!(sliding.padding, Padding::SameUpper | Padding::SameLower) {
        // ONNX's text and ONNX Runtime read these differently, and models that mean either exist.
        if sliding.dilations.iter().any(|&dilation| dilation != 1) {
            return Err("auto_pad with dilations has no agreed meaning".to_owned());
        }
        if kernel
            .iter()
            .zip(&sliding.strides)
            .any(|(kernel, stride)| kernel < stride)
        {
            return Err("auto_pad with gaps between windows has no agreed meaning".to_owned());
        }
    }
    Ok(Box::new(Windows {
        kind,
        kernel,
        sliding,
        ceil: node.int("ceil_mode", 0) != 0,
        column_major: node.int("storage_order", 0) != 0,
    }))
}

impl Windows {
    fn axes(&self, x: &[usize]) -> Result<Vec<Axis>, Reason> {
        if x.len() != self.kernel.len() + 2 {
            return Err(format!("input {x:?} for a kernel of {:?}", self.kernel));
        }
        x[2..]
            .iter()
            .enumerate()
            .map(|(i, &input)| {
                let (kernel, stride, dilation) =
                    (self.kernel[i], self.sliding.strides[i], self.sliding.dilations[i]);
                let [before, after] = self.sliding.pads(i, input, kernel);
                let output = positions(
                    input,
                    [before, after],
                    (kernel - 1) * dilation + 1,
                    stride,
                    self.ceil,
                )
                .ok_or_else(|| {
                    format!(
                        "a window of {:?} does not fit into {x:?} with its padding",
                        self.kernel
                    )
                })?;
                Ok(Axis {
                    input,
                    output,
                    kernel,
                    stride,
                    dilation,
                    before,
                    after,
                })
            })
            .collect()
    }
}

/// How many positions a window that reaches over `reach` elements takes, as ONNX Runtime counts them: a window that
/// misses less than a stride to fit counts, and with `ceil` one more that hangs over the end, unless it would start in
/// the padding behind.
fn positions(
    input: usize,
    [before, after]: [usize; 2],
    reach: usize,
    stride: usize,
    ceil: bool,
) -> Option<usize> {
    let padded = input + before + after;
    let Some(room) = padded.checked_sub(reach) else {
        // Division towards zero: less than one stride short is one position, less than two is none.
        let short = (reach - padded) / stride;
        let empty = ceil && input + before == 0;
        return (short < 2).then_some(usize::from(short == 0 && !empty));
    };
    if !ceil {
        return Some(room / stride + 1);
    }
    let last = room.div_ceil(stride);
    Some(if last * stride >= input + before {
        last
    } else {
        last + 1
    })
}

impl Operator for Windows {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let input = inputs.first().copied().flatten();
        let x = input.as_ref().ok_or("input 0 is missing")?.shape();
        let mut shape = x[..2].to_vec();
        shape.extend(self.axes(x)?.iter().map(|axis| axis.output));
        let y = countable(shape)?;
        let indices = TensorType::new(DType::I64, y.shape.clone());
        Ok(match self.kind {
            Kind::Max => vec![y, indices],
            _ => vec![y],
        })
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let x = inputs.first().copied().flatten().ok_or("input 0 is missing")?;
        let axes = self.axes(x.shape())?;
        let values = x.to_f32().ok_or_else(|| format!("input is {}", x.ty()))?;
        let plane: usize = x.shape()[2..].iter().product();
        let mut shape = x.shape()[..2].to_vec();
        shape.extend(axes.iter().map(|axis| axis.output));
        let window: Vec<Vec<usize>> = coordinates(&self.kernel).collect();
        let mut joined = Vec::new();
        let mut indices = Vec::new();
        for at in coordinates(&shape) {
            let first = (at[0] * x.shape()[1] + at[1]) * plane;
            let (mut elements, mut places, mut counted) = (Vec::new(), Vec::new(), 0);
            for taps in &window {
                let steps = || axes.iter().zip(at[2..].iter().zip(taps));
                counted += usize::from(steps().all(|(axis, (o, t))| {
                    o * axis.stride + t * axis.dilation < axis.before + axis.input + axis.after
                }));
                let inside: Option<Vec<usize>> = steps().map(|(axis, (&o, &t))| axis.reads(o, t)).collect();
                let Some(inside) = inside else { continue };
                let row_major = |order: &mut dyn Iterator<Item = (usize, usize)>| {
                    order.fold(0, |place, (at, extent)| place * extent + at)
                };
                let extents = || inside.iter().zip(&axes).map(|(&at, axis)| (at, axis.input));
                let place = row_major(&mut extents());
                elements.push(values[first + place]);
                places.push(if self.column_major {
                    row_major(&mut extents().rev())
                } else {
                    place
                });
            }
            let result = self.kind.join(&elements, counted) as f32;
            let best = elements
                .iter()
                .position(|v| v.is_nan() || v.partial_cmp(&result) == Some(Ordering::Equal));
            indices.push(best.map_or(-1, |best| (first + places[best]) as i64));
            joined.push(result);
        }
        let y = HostTensor::f32(shape.clone(), &joined);
        Ok(match self.kind {
            Kind::Max => vec![y, HostTensor::i64(shape, &indices)],
            _ => vec![y],
        })
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let x = emitter.input_type(0).shape.clone();
        let axes = three(&self.axes(&x)?);
        let planes = x[0] * x[1];
        let pixels: usize = axes.iter().map(|axis| axis.output).product();
        let lengths = |of: fn(&Axis) -> usize, last: usize| -> Result<Arg, Reason> {
            let [d, h, w] = [of(&axes[0]), of(&axes[1]), of(&axes[2])];
            Ok(Arg::Int4([int(d)?, int(h)?, int(w)?, int(last)?]))
        };
        let mut options = vec![self.kind.option()];
        let mut args = vec![emitter.read(0), emitter.write(0)];
        let indices = self.kind == Kind::Max && emitter.wants_output(1);
        if indices {
            options.push("-DINDICES".to_owned());
            args.push(emitter.write(1));
        }
        let count_padding = self.kind == Kind::Average { count_padding: true };
        args.extend([
            lengths(|axis| axis.input, planes)?,
            lengths(|axis| axis.output, 0)?,
            lengths(|axis| axis.kernel, usize::from(self.column_major))?,
            lengths(|axis| axis.stride, 0)?,
            lengths(|axis| axis.dilation, 0)?,
            lengths(|axis| axis.before, 0)?,
            lengths(|axis| axis.after, usize::from(count_padding))?,
            Arg::F32(self.kind.exponent()),
        ]);
        let (kernel, global, local) = if emitter.device().kind == DeviceKind::Cpu && !indices {
            ("pool_rows", axes[0].output * axes[1].output, 1)
        } else {
            ("pool_windows", pixels.next_multiple_of(GROUP), GROUP)
        };
        emitter.launch(Launch {
            source: SOURCE,
            kernel,
            options,
            args,
            global: [global, planes, 1],
            local: [local, 1, 1],
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::positions;

    #[test]
    fn positions_are_counted_as_onnx_runtime_counts_them() {
        // (input, pads, reach, stride, ceil) -> what ONNX Runtime 1.31.1 answers.
        for ((input, pads, reach, stride, ceil), expected) in [
            ((112, [1, 1], 3, 2, false), Some(56)),
            ((7, [0, 0], 3, 2, true), Some(3)),
            ((8, [0, 0], 3, 2, true), Some(4)),
            // The last window would start in the padding behind.
            ((4, [1, 1], 2, 4, true), Some(2)),
            ((3, [0, 2], 2, 3, true), Some(1)),
            // Windows that do not quite fit.
            ((1, [0, 1], 3, 3, false), Some(1)),
            ((2, [0, 0], 4, 2, false), Some(0)),
            ((1, [0, 0], 4, 2, false), Some(0)),
            ((1, [0, 0], 5, 2, false), None),
        ] {
            assert_eq!(
                positions(input, pads, reach, stride, ceil),
                expected,
                "{input} {pads:?} {reach} {stride} {ceil}"
            );
        }
    }
}
