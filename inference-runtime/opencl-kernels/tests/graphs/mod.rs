//! Small networks in the form that exporters write, with weights that look random.

use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::tensor::{DType, HostTensor};
use opencl_kernels::testing::numbers;

/// Builds a graph whose batch and length are dynamic while feature widths are known, as shape inference leaves it.
pub(crate) struct Network {
    pub(crate) graph: Graph,
    seed: u64,
}

#[allow(dead_code, reason = "each test file uses its own half")]
impl Network {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            graph: Graph::new(name),
            seed: 0,
        }
    }

    /// A constant of this shape with numbers up to `scale`.
    pub(crate) fn weight(&mut self, shape: &[usize], scale: f32) -> ValueId {
        self.seed += 1;
        let values: Vec<f32> = numbers(shape.iter().product(), self.seed)
            .into_iter()
            .map(|x| x * scale)
            .collect();
        self.graph
            .constant(format!("weight{}", self.seed), HostTensor::f32(shape, &values))
    }

    /// A constant around 1: what scales and variances look like.
    pub(crate) fn positive(&mut self, length: usize) -> ValueId {
        self.seed += 1;
        let values: Vec<f32> = numbers(length, self.seed)
            .into_iter()
            .map(|x| 1.0 + 0.3 * x)
            .collect();
        self.graph.constant(
            format!("positive{}", self.seed),
            HostTensor::f32([length], &values),
        )
    }

    pub(crate) fn scalar(&mut self, value: f32) -> ValueId {
        self.graph
            .constant(format!("scalar {value}"), HostTensor::f32([], &[value]))
    }

    pub(crate) fn ints(&mut self, values: &[i64]) -> ValueId {
        self.graph.constant(
            format!("ints {values:?}"),
            HostTensor::i64([values.len()], values),
        )
    }

    /// A node with one float output of this rank.
    pub(crate) fn op(
        &mut self,
        op_type: &str,
        version: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        rank: usize,
    ) -> ValueId {
        self.graph.node(
            op_type,
            version,
            attributes,
            inputs,
            (DType::F32, Some(vec![None; rank])),
        )
    }

    /// A node without attributes.
    pub(crate) fn plain(&mut self, op_type: &str, version: i32, inputs: &[ValueId], rank: usize) -> ValueId {
        self.op(op_type, version, Attributes::default(), inputs, rank)
    }

    /// A node over `[batch, length, features]`.
    pub(crate) fn rows(
        &mut self,
        op_type: &str,
        version: i32,
        attributes: Attributes,
        inputs: &[ValueId],
        features: usize,
    ) -> ValueId {
        let dims = Some(vec![None, None, Some(features)]);
        self.graph
            .node(op_type, version, attributes, inputs, (DType::F32, dims))
    }

    /// `MatMul` and `Add`, as `PyTorch` exports a linear layer over rank-3 activations.
    pub(crate) fn linear(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        let w = self.weight(&[from, to], (from as f32).sqrt().recip());
        let b = self.weight(&[to], 0.1);
        let product = self.rows("MatMul", 13, Attributes::default(), &[x, w], to);
        self.rows("Add", 14, Attributes::default(), &[b, product], to)
    }

    /// Layer normalisation decomposed as exporters below operator set 17 write it.
    pub(crate) fn layer_norm(&mut self, x: ValueId, width: usize) -> ValueId {
        let none = Attributes::default;
        let last = || Attributes::default().with("axes", Attribute::Ints(vec![-1]));
        let mean = self.rows("ReduceMean", 13, last(), &[x], 1);
        let centred = self.rows("Sub", 14, none(), &[x, mean], width);
        let two = self.scalar(2.0);
        let squared = self.rows("Pow", 15, none(), &[centred, two], width);
        let variance = self.rows("ReduceMean", 13, last(), &[squared], 1);
        let epsilon = self.scalar(1e-5);
        let shifted = self.rows("Add", 14, none(), &[variance, epsilon], 1);
        let deviation = self.rows("Sqrt", 13, none(), &[shifted], 1);
        let normal = self.rows("Div", 14, none(), &[centred, deviation], width);
        let scale = self.positive(width);
        let scaled = self.rows("Mul", 14, none(), &[normal, scale], width);
        let bias = self.weight(&[width], 0.1);
        self.rows("Add", 14, none(), &[scaled, bias], width)
    }

    /// GELU by `Erf`, in the order of `PyTorch`.
    pub(crate) fn gelu(&mut self, x: ValueId, width: usize) -> ValueId {
        let none = Attributes::default;
        let root = self.scalar(std::f32::consts::SQRT_2);
        let scaled = self.rows("Div", 14, none(), &[x, root], width);
        let erf = self.rows("Erf", 13, none(), &[scaled], width);
        let one = self.scalar(1.0);
        let gate = self.rows("Add", 14, none(), &[erf, one], width);
        let gated = self.rows("Mul", 14, none(), &[x, gate], width);
        let half = self.scalar(0.5);
        self.rows("Mul", 14, none(), &[gated, half], width)
    }

    /// Convolution and batch normalisation.
    pub(crate) fn conv(
        &mut self,
        x: ValueId,
        (from, to): (usize, usize),
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> ValueId {
        let w = self.weight(
            &[to, from / groups, kernel, kernel],
            (2.0 / (from / groups * kernel * kernel) as f32).sqrt(),
        );
        let pad = (kernel / 2) as i64;
        let attributes = Attributes::default()
            .with("kernel_shape", Attribute::Ints(vec![kernel as i64; 2]))
            .with("strides", Attribute::Ints(vec![stride as i64; 2]))
            .with("pads", Attribute::Ints(vec![pad; 4]))
            .with("group", Attribute::Int(groups as i64));
        let y = self.op("Conv", 11, attributes, &[x, w], 4);
        let (scale, bias) = (self.positive(to), self.weight(&[to], 0.1));
        let (mean, variance) = (self.weight(&[to], 0.1), self.positive(to));
        self.plain("BatchNormalization", 15, &[y, scale, bias, mean, variance], 4)
    }

    pub(crate) fn relu(&mut self, x: ValueId) -> ValueId {
        let rank = self.graph.info(x).rank().expect("ranks are declared");
        self.plain("Relu", 14, &[x], rank)
    }
}
