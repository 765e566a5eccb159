//! `Conv` (ONNX operator spec, Conv-1, -11, -22) and its fused form.

use super::window::{Axis, Sliding, lengths};
use super::{direct, implicit, reference, taps};
use crate::ops::NodeView;
use crate::ops::matmul::{ACTIVATION_ATTRIBUTES, Activation, Matrix, Product, countable, refuse_unknown};
use crate::ops::operator::{Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::runtime::DeviceKind;
use crate::tensor::{DType, HostTensor, TensorType};

/// `act(conv(X, W) + b + residual)`: cross-correlation over one to three spatial axes, in groups of channels.
#[derive(Debug)]
pub(super) struct Conv {
    groups: usize,
    sliding: Sliding,
    /// As the attribute says; W's own extents otherwise.
    kernel_shape: Option<Vec<usize>>,
    pub(super) activation: Activation,
    pub(super) weights_are_constant: bool,
}

pub(super) const X: usize = 0;
pub(super) const W: usize = 1;
pub(super) const BIAS: usize = 2;
pub(super) const RESIDUAL: usize = 3;

const ATTRIBUTES: [&str; 6] = [
    "auto_pad",
    "dilations",
    "group",
    "kernel_shape",
    "pads",
    "strides",
];

/// ONNX's operator.
pub(super) fn plain(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    refuse_unknown(node, &ATTRIBUTES)?;
    Ok(Box::new(construct(node, Activation::None)?))
}

/// `ConvEpilogue`: X, W, bias?, residual? (of the output's shape).
pub(super) fn with_epilogue(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let known = ATTRIBUTES.into_iter().chain(ACTIVATION_ATTRIBUTES);
    refuse_unknown(node, &known.collect::<Vec<_>>())?;
    if node.has_input(RESIDUAL) {
        node.require_dtype(RESIDUAL, &[DType::F32])?;
    }
    Ok(Box::new(construct(node, Activation::parse(node)?)?))
}

fn construct(node: &NodeView<'_>, activation: Activation) -> Result<Conv, String> {
    node.require_dtype(X, &[DType::F32])?;
    node.require_dtype(W, &[DType::F32])?;
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
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    if groups == 0 {
        return Err("group must be positive".to_owned());
    }
    Ok(Conv {
        groups,
        sliding: Sliding::parse(node, rank - 2)?,
        kernel_shape: lengths(node, "kernel_shape")?,
        activation,
        weights_are_constant: node.constant(W).is_some(),
    })
}

/// A convolution with every extent decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Geometry {
    pub images: usize,
    pub groups: usize,
    /// Output channels per group.
    pub rows: usize,
    /// Input channels per group.
    pub depth: usize,
    pub axes: Vec<Axis>,
}

impl Geometry {
    /// Elements of one output plane.
    pub(super) fn pixels(&self) -> usize {
        self.axes.iter().map(|axis| axis.output).product()
    }

    /// Elements of one input plane.
    pub(super) fn in_plane(&self) -> usize {
        self.axes.iter().map(|axis| axis.input).product()
    }

    /// Elements of one window.
    pub(super) fn taps(&self) -> usize {
        self.axes.iter().map(|axis| axis.kernel).product()
    }

    pub(super) fn output(&self) -> Vec<usize> {
        let mut shape = vec![self.images, self.groups * self.rows];
        shape.extend(self.axes.iter().map(|axis| axis.output));
        shape
    }
}

impl Conv {
    pub(super) fn geometry(&self, x: &[usize], w: &[usize]) -> Result<Geometry, Reason> {
        let refuse = |why: &str| Err(format!("X {x:?}, W {w:?}, group {}: {why}", self.groups));
        if x.len() != w.len() || x.len() < 3 {
            return refuse("ranks differ");
        }
        if self.sliding.strides.len() != x.len() - 2 {
            return refuse("the attributes were given for another rank");
        }
        let (channels, rows, depth) = (x[1], w[0], w[1]);
        if channels != depth * self.groups {
            return refuse("the weights are for another number of channels");
        }
        if rows % self.groups != 0 {
            return refuse("output channels do not divide into groups");
        }
        if self.kernel_shape.as_ref().is_some_and(|shape| *shape != w[2..]) {
            return refuse(&format!(
                "kernel_shape is {:?}",
                self.kernel_shape.as_deref().unwrap_or(&[])
            ));
        }
        Ok(Geometry {
            images: x[0],
            groups: self.groups,
            rows: rows / self.groups,
            depth,
            axes: self.sliding.axes(&x[2..], &w[2..])?,
        })
    }

    /// A window of one element that visits every pixel: a matrix product per image and group. For larger windows, what
    /// it says of the output, bias and residual still holds.
    pub(super) fn product(&self, geometry: &Geometry, bias: bool, residual: bool) -> Product {
        let Geometry {
            images,
            groups,
            rows,
            depth,
            ..
        } = *geometry;
        let pixels = geometry.pixels();
        Product {
            m: rows,
            n: pixels,
            k: depth,
            batch: vec![images, groups],
            a: Matrix {
                input: W,
                batch: vec![0, rows * depth],
                row: depth,
                column: 1,
            },
            b: Matrix {
                input: X,
                batch: vec![groups * depth * pixels, depth * pixels],
                row: pixels,
                column: 1,
            },
            b_is_constant: false,
            bias: bias.then(|| Matrix {
                input: BIAS,
                batch: vec![0, rows],
                row: 1,
                column: 0,
            }),
            residual: residual.then(|| Matrix {
                input: RESIDUAL,
                batch: vec![groups * rows * pixels, rows * pixels],
                row: pixels,
                column: 1,
            }),
            alpha: 1.0,
            beta: 1.0,
            activation: self.activation,
        }
    }
}

impl Operator for Conv {
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
        let output = self.geometry(x, w)?.output();
        if let Some(bias) = shape(BIAS)
            && bias != [output[1]]
        {
            return Err(format!("bias {bias:?} for {} output channels", output[1]));
        }
        if let Some(residual) = shape(RESIDUAL)
            && *residual != output
        {
            return Err(format!("residual {residual:?} for an output of {output:?}"));
        }
        Ok(vec![countable(output)?])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let input = |i: usize| inputs.get(i).copied().flatten();
        let x = input(X).ok_or("X is missing")?;
        let w = input(W).ok_or("W is missing")?;
        let geometry = self.geometry(x.shape(), w.shape())?;
        let values = reference::convolve(&geometry, [x, w], [input(BIAS), input(RESIDUAL)], self.activation)?;
        Ok(vec![HostTensor::f32(geometry.output(), &values)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let geometry = self.geometry(&emitter.input_type(X).shape, &emitter.input_type(W).shape)?;
        if geometry.axes.iter().all(Axis::is_identity) {
            let (bias, residual) = (emitter.input(BIAS).is_some(), emitter.input(RESIDUAL).is_some());
            return self.product(&geometry, bias, residual).emit(emitter);
        }
        match emitter.device().kind {
            DeviceKind::Cpu if taps::suits(&geometry) => taps::emit(self, &geometry, emitter),
            DeviceKind::Gpu if implicit::suits(&geometry) => implicit::emit(self, &geometry, emitter),
            _ => direct::emit(self, &geometry, emitter),
        }
    }
}
