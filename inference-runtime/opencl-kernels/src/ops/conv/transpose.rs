//! `ConvTranspose` (ONNX operator spec, ConvTranspose-1, -11, -22), and its launch.

use super::launch::{int4, int4_of};
use super::reference::floats;
use super::window::{Axis, Padding, Sliding, lengths, three};
use crate::ops::NodeView;
use crate::ops::matmul::{coordinates, countable, refuse_unknown};
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::{Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "convolve_transposed.cl",
    text: include_str!("transpose.cl"),
};

/// Output channels per work-item.
const ROWS: usize = 8;

const X: usize = 0;
const W: usize = 1;
const BIAS: usize = 2;

/// The transpose of a convolution over one to three spatial axes, in groups of channels, plus a bias.
#[derive(Debug)]
pub(super) struct Transpose {
    groups: usize,
    sliding: Sliding,
    kernel_shape: Option<Vec<usize>>,
    output_padding: Vec<usize>,
    output_shape: Option<Vec<usize>>,
}

pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    refuse_unknown(
        node,
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
    )?;
    for i in [X, W] {
        node.require_dtype(i, &[DType::F32])?;
    }
    if node.has_input(BIAS) {
        node.require_dtype(BIAS, &[DType::F32])?;
    }
    let rank = node.rank(X)?;
    if !(3..=5).contains(&rank) || node.rank(W)? != rank {
        return Err(format!(
            "input of rank {rank} with weights of rank {}: one to three spatial axes are known",
            node.rank(W)?
        ));
    }
    let axes = rank - 2;
    let per_axis = |name: &str| match lengths(node, name)? {
        Some(list) if list.len() != axes => Err(format!("{name} {list:?} do not suit {axes} spatial axes")),
        other => Ok(other),
    };
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    if groups == 0 {
        return Err("group must be positive".to_owned());
    }
    Ok(Box::new(Transpose {
        groups,
        sliding: Sliding::parse(node, axes)?,
        kernel_shape: lengths(node, "kernel_shape")?,
        output_padding: per_axis("output_padding")?.unwrap_or_else(|| vec![0; axes]),
        output_shape: per_axis("output_shape")?,
    }))
}

/// A transposed convolution with every extent decided. In its axes, `input` and `output` are those of the transposed
/// operation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Geometry {
    images: usize,
    rows: usize,
    depth: usize,
    axes: Vec<Axis>,
}

impl Transpose {
    fn geometry(&self, x: &[usize], w: &[usize]) -> Result<Geometry, Reason> {
        let refuse = |why: &str| Err(format!("X {x:?}, W {w:?}, group {}: {why}", self.groups));
        if x.len() != w.len() || x.len() != self.output_padding.len() + 2 {
            return refuse("ranks differ");
        }
        if x[1] != w[0] || !x[1].is_multiple_of(self.groups) {
            return refuse("the weights are for another number of channels");
        }
        if self.kernel_shape.as_ref().is_some_and(|shape| *shape != w[2..]) {
            return refuse("kernel_shape is another one");
        }
        let axes = (0..x.len() - 2).map(|i| self.axis(i, x[i + 2], w[i + 2]));
        Ok(Geometry {
            images: x[0],
            rows: w[1],
            depth: x[1] / self.groups,
            axes: axes
                .collect::<Option<_>>()
                .ok_or_else(|| format!("X {x:?}, W {w:?}: no padding gives that output"))?,
        })
    }

    /// Output extent and padding (the equations of the operator's spec: the odd element goes in front unless told
    /// `SAME_UPPER`). `None`, as ONNX Runtime refuses, where the convolution that this one transposes would not give the
    /// input's extent back.
    fn axis(&self, i: usize, input: usize, kernel: usize) -> Option<Axis> {
        let (stride, dilation) = (self.sliding.strides[i], self.sliding.dilations[i]);
        let reach = (kernel.checked_sub(1)?) * dilation + 1;
        let natural = input.checked_sub(1)? * stride + self.output_padding[i] + reach;
        let shared = |output: usize| {
            let total = natural.saturating_sub(output);
            match self.sliding.padding {
                Padding::SameUpper => [total / 2, total - total / 2],
                _ => [total - total / 2, total / 2],
            }
        };
        let [before, after] = match (&self.output_shape, &self.sliding.padding) {
            (Some(shape), _) => shared(shape[i]),
            (None, Padding::SameUpper | Padding::SameLower) => shared(input * stride),
            (None, Padding::Explicit(pads)) => pads[i],
            (None, Padding::Valid) => [0, 0],
        };
        let output = match &self.output_shape {
            Some(shape) => shape[i],
            None => natural.checked_sub(before + after).filter(|&output| output > 0)?,
        };
        let room = (output + before + after).checked_sub(reach)?;
        if room / stride + 1 != input {
            return None;
        }
        Some(Axis {
            input,
            output,
            kernel,
            stride,
            dilation,
            before,
            after,
        })
    }

    fn output(&self, geometry: &Geometry) -> Vec<usize> {
        let mut shape = vec![geometry.images, self.groups * geometry.rows];
        shape.extend(geometry.axes.iter().map(|axis| axis.output));
        shape
    }
}

impl Operator for Transpose {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shape = |i: usize| {
            inputs
                .get(i)
                .copied()
                .flatten()
                .map(|operand| operand.ty.shape.as_slice())
        };
        let x = shape(X).ok_or("X is missing")?;
        let w = shape(W).ok_or("W is missing")?;
        let output = self.output(&self.geometry(x, w)?);
        if let Some(bias) = shape(BIAS)
            && bias != [output[1]]
        {
            return Err(format!("bias {bias:?} for {} output channels", output[1]));
        }
        Ok(vec![countable(output)?])
    }

    /// As the definition reads: every input element is scattered through the window.
    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let input = |i: usize| inputs.get(i).copied().flatten();
        let x = input(X).ok_or("X is missing")?;
        let w = input(W).ok_or("W is missing")?;
        let geometry = self.geometry(x.shape(), w.shape())?;
        let Geometry {
            rows, depth, axes, ..
        } = &geometry;
        let shape = self.output(&geometry);
        let pixels: usize = axes.iter().map(|axis| axis.output).product();
        let taps: usize = axes.iter().map(|axis| axis.kernel).product();
        let window: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
        let (values, weights) = (floats(x)?, floats(w)?);
        let mut sums = vec![0.0; shape.iter().product()];
        for (at, value) in coordinates(x.shape()).zip(values) {
            let (image, channel) = (at[0], at[1]);
            let group = channel / depth;
            for (t, tap) in coordinates(&window).enumerate() {
                let place = axes
                    .iter()
                    .zip(at[2..].iter().zip(&tap))
                    .try_fold(0, |place, (axis, (i, t))| {
                        let o = (i * axis.stride + t * axis.dilation).checked_sub(axis.before)?;
                        (o < axis.output).then_some(place * axis.output + o)
                    });
                let Some(place) = place else { continue };
                for row in 0..*rows {
                    let out = (image * self.groups + group) * rows + row;
                    let weight = weights[(channel * rows + row) * taps + t];
                    sums[out * pixels + place] += f64::from(value) * f64::from(weight);
                }
            }
        }
        if let Some(bias) = input(BIAS).map(floats).transpose()? {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += f64::from(bias[i / pixels % bias.len()]);
            }
        }
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        Ok(vec![HostTensor::f32(shape, &sums)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let geometry = self.geometry(&emitter.input_type(X).shape, &emitter.input_type(W).shape)?;
        let axes = three(&geometry.axes);
        let taps = axes.iter().map(|axis| axis.kernel).product();
        let pixels: usize = axes.iter().map(|axis| axis.output).product();
        let (x, weights, y) = (emitter.read(X), emitter.read(W), emitter.write(0));
        let has_bias = emitter.input(BIAS).is_some();
        let bias = if has_bias { emitter.read(BIAS) } else { x.clone() };
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "convolve_transposed",
            options: Vec::new(),
            args: vec![
                x,
                weights,
                y,
                bias,
                int4(self.groups, geometry.rows, geometry.depth, usize::from(has_bias))?,
                int4_of(axes.map(|axis| axis.input), 0)?,
                int4_of(axes.map(|axis| axis.output), 0)?,
                int4_of(axes.map(|axis| axis.kernel), taps)?,
                int4_of(axes.map(|axis| axis.stride), 1)?,
                int4_of(axes.map(|axis| axis.dilation), 1)?,
                int4_of(axes.map(|axis| axis.before), 0)?,
            ],
            global: [
                pixels.next_multiple_of(64),
                geometry.rows.div_ceil(ROWS),
                geometry.images * self.groups,
            ],
            local: [64, 1, 1],
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::tensor::HostTensor;
    use crate::testing::{Case, tensor};

    fn ints(values: &[i64]) -> Attribute {
        Attribute::Ints(values.to_vec())
    }

    #[test]
    fn a_window_is_stamped_once_per_input_element() {
        let outputs = Case::new("ConvTranspose", 11)
            .attr("strides", ints(&[3]))
            .input(HostTensor::f32([1, 1, 2], &[1.0, 10.0]))
            .constant(HostTensor::f32([1, 1, 2], &[1.0, 2.0]))
            .check();
        assert_eq!(outputs[0].to_f32().unwrap(), [1.0, 2.0, 0.0, 10.0, 20.0]);
    }

    #[test]
    fn groups_strides_dilations_and_padding_give_the_reference() {
        for (x, w, group, strides, dilations, pads) in [
            (
                &[2, 6, 5, 4][..],
                &[6, 9, 3, 3][..],
                1,
                [2, 2],
                [1, 1],
                [1, 1, 1, 1],
            ),
            (&[1, 4, 5, 6], &[4, 3, 2, 3], 2, [3, 1], [2, 1], [0, 1, 1, 0]),
            (&[2, 3, 4, 4], &[3, 1, 4, 4], 3, [2, 2], [1, 2], [1, 0, 2, 3]),
        ] {
            for output_padding in [[0, 0], [1, 0]] {
                Case::new("ConvTranspose", 22)
                    .attr("group", Attribute::Int(group))
                    .attr("strides", ints(&strides))
                    .attr("dilations", ints(&dilations))
                    .attr("pads", ints(&pads))
                    .attr("output_padding", ints(&output_padding))
                    .input(tensor(x, 1))
                    .constant(tensor(w, 2))
                    .constant(tensor(&[w[1] * group as usize], 3))
                    .check();
            }
        }
    }

    #[test]
    fn an_output_shape_decides_the_padding() {
        for auto_pad in ["NOTSET", "SAME_UPPER", "SAME_LOWER"] {
            for extent in [7, 8, 9, 10] {
                let outputs = Case::new("ConvTranspose", 11)
                    .attr("auto_pad", Attribute::String(auto_pad.to_owned()))
                    .attr("strides", ints(&[2]))
                    .attr("output_shape", ints(&[extent]))
                    .input(tensor(&[1, 2, 4], 1))
                    .constant(tensor(&[2, 3, 4], 2))
                    .check();
                assert_eq!(outputs[0].shape(), [1, 3, extent as usize]);
            }
        }
    }

    #[test]
    fn one_and_three_axes_and_automatic_padding_work() {
        Case::new("ConvTranspose", 11)
            .attr("auto_pad", Attribute::String("SAME_UPPER".to_owned()))
            .attr("strides", ints(&[2, 1, 2]))
            .input(tensor(&[1, 2, 3, 4, 3], 1))
            .input(tensor(&[2, 2, 3, 2, 3], 2))
            .check();
        let refusal = Case::new("ConvTranspose", 11)
            .attr("pads", ints(&[5, 5]))
            .input(tensor(&[1, 2, 3], 1))
            .constant(tensor(&[2, 1, 2], 2))
            .refusal();
        assert!(refusal.to_string().contains("no padding gives"), "{refusal}");
    }
}
