//! Parts of known networks, with their real widths, and every activation after every kernel that can apply one.

use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::tensor::{DType, HostTensor};
use opencl_kernels::testing::tensor;

use crate::Subject;

/// A value and its shape.
type Value = (ValueId, Vec<usize>);

/// A graph that knows the shape of every value.
struct Net {
    graph: Graph,
    shapes: Vec<Vec<usize>>,
}

impl Net {
    fn new(name: &str) -> Self {
        Self {
            graph: Graph::new(name),
            shapes: Vec::new(),
        }
    }

    fn input(&mut self, dtype: DType, shape: &[usize]) -> Value {
        let name = format!("input{}", self.shapes.len());
        let dims: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        self.shapes.push(shape.to_vec());
        (self.graph.input(name, dtype, &dims), shape.to_vec())
    }

    fn constant(&mut self, constant: HostTensor) -> Value {
        let shape = constant.shape().to_vec();
        let name = format!("constant{}", self.graph.values.len());
        (self.graph.constant(name, constant), shape)
    }

    fn weight(&mut self, shape: &[usize]) -> Value {
        self.constant(tensor(shape, self.graph.values.len() as u64))
    }

    fn number(&mut self, value: f32) -> Value {
        self.constant(HostTensor::f32(Vec::new(), &[value]))
    }

    fn node(
        &mut self,
        op: &str,
        version: i32,
        attributes: Attributes,
        inputs: &[&Value],
        shape: &[usize],
    ) -> Value {
        let ids: Vec<ValueId> = inputs.iter().map(|(id, _)| *id).collect();
        let dims = Some(shape.iter().copied().map(Some).collect());
        let id = self.graph.node(op, version, attributes, &ids, (DType::F32, dims));
        (id, shape.to_vec())
    }

    /// A function of one operand.
    fn map(&mut self, op: &str, version: i32, x: &Value) -> Value {
        self.node(op, version, Attributes::default(), &[x], &x.1.clone())
    }

    /// A function of two operands, of which the first has the result's shape.
    fn zip(&mut self, op: &str, x: &Value, y: &Value) -> Value {
        self.node(op, 14, Attributes::default(), &[x, y], &x.1.clone())
    }

    fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        let mut shape = a.1.clone();
        let columns = b.1[b.1.len() - 1];
        let last = shape.len() - 1;
        shape[last] = columns;
        self.node("MatMul", 13, Attributes::default(), &[a, b], &shape)
    }

    /// x @ W + b
    fn linear(&mut self, x: &Value, columns: usize) -> Value {
        let weights = self.weight(&[x.1[x.1.len() - 1], columns]);
        let bias = self.weight(&[columns]);
        let product = self.matmul(x, &weights);
        self.zip("Add", &product, &bias)
    }

    fn layer_norm(&mut self, x: &Value) -> Value {
        let width = [x.1[x.1.len() - 1]];
        let (scale, bias) = (self.weight(&width), self.weight(&width));
        let axis = Attributes::default().with("axis", Attribute::Int(-1));
        self.node("LayerNormalization", 17, axis, &[x, &scale, &bias], &x.1.clone())
    }

    fn reshape(&mut self, x: &Value, shape: &[usize]) -> Value {
        let extents: Vec<i64> = shape.iter().map(|&extent| extent as i64).collect();
        let extents = self.constant(HostTensor::i64([extents.len()], &extents));
        self.node("Reshape", 14, Attributes::default(), &[x, &extents], shape)
    }

    fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let shape: Vec<usize> = order.iter().map(|&axis| x.1[axis]).collect();
        let order = order.iter().map(|&axis| axis as i64).collect();
        let attributes = Attributes::default().with("perm", Attribute::Ints(order));
        self.node("Transpose", 13, attributes, &[x], &shape)
    }

    /// A convolution of this many channels with a square window, padded to keep the extents.
    fn conv(&mut self, x: &Value, channels: usize, window: usize, stride: usize, groups: usize) -> Value {
        let weights = self.weight(&[channels, x.1[1] / groups, window, window]);
        self.conv_with(x, &weights, stride, groups)
    }

    fn conv_with(&mut self, x: &Value, weights: &Value, stride: usize, groups: usize) -> Value {
        let (channels, window) = (weights.1[0], weights.1[2]);
        let bias = self.weight(&[channels]);
        let attributes = Attributes::default()
            .with("group", Attribute::Int(groups as i64))
            .with("strides", Attribute::Ints(vec![stride as i64; 2]))
            .with("pads", Attribute::Ints(vec![(window / 2) as i64; 4]));
        let mut shape = vec![x.1[0], channels];
        shape.extend(x.1[2..].iter().map(|extent| extent.div_ceil(stride)));
        self.node("Conv", 11, attributes, &[x, weights, &bias], &shape)
    }

    fn clip(&mut self, x: &Value, low: f32, high: f32) -> Value {
        let (low, high) = (self.number(low), self.number(high));
        self.node("Clip", 13, Attributes::default(), &[x, &low, &high], &x.1.clone())
    }

    /// x/2 · (1 + erf(x/√2)), written out as exporters do.
    fn gelu(&mut self, x: &Value) -> Value {
        let [root, one, half] = [std::f32::consts::SQRT_2, 1.0, 0.5].map(|value| self.number(value));
        let scaled = self.zip("Div", x, &root);
        let erf = self.map("Erf", 13, &scaled);
        let gate = self.zip("Add", &erf, &one);
        let gated = self.zip("Mul", x, &gate);
        self.zip("Mul", &gated, &half)
    }

    /// x · sigmoid(x)
    fn silu(&mut self, x: &Value) -> Value {
        let gate = self.map("Sigmoid", 13, x);
        self.zip("Mul", x, &gate)
    }

    fn gelu_tanh(&mut self, x: &Value) -> Value {
        let tanh = Attribute::String("tanh".to_owned());
        let attributes = Attributes::default().with("approximate", tanh);
        self.node("Gelu", 20, attributes, &[x], &x.1.clone())
    }

    fn finish(mut self, output: &Value) -> Subject {
        self.graph.outputs.push(output.0);
        Subject {
            graph: self.graph,
            shapes: self.shapes,
            fuse: true,
        }
    }
}

/// An activation, applied to a value.
type Activation = fn(&mut Net, &Value) -> Value;

const ACTIVATIONS: [Activation; 10] = [
    |_, x| x.clone(),
    |net, x| net.map("Relu", 14, x),
    |net, x| net.clip(x, 0.0, 6.0),
    Net::gelu,
    Net::gelu_tanh,
    Net::silu,
    |net, x| net.map("Tanh", 13, x),
    |net, x| net.map("Sigmoid", 13, x),
    |net, x| net.map("HardSwish", 14, x),
    |net, x| net.map("LeakyRelu", 16, x),
];

/// Every graph of this file.
pub(crate) fn all() -> Vec<Subject> {
    let mut all = vec![
        transformer_layer(1, 128),
        transformer_layer(8, 128),
        transformer_layer(1, 1024),
        bottleneck(),
        inverted_residual(),
    ];
    for activation in ACTIVATIONS {
        for rows in [1, 4, 128] {
            let mut net = Net::new("product");
            let x = net.input(DType::F32, &[rows, 384]);
            let y = net.linear(&x, 384);
            let y = activation(&mut net, &y);
            all.push(net.finish(&y));
        }
        // From an image's channels, dense, depthwise, and few channels out.
        for [channels, out, window, stride, groups] in [
            [3, 64, 7, 2, 1],
            [64, 64, 3, 1, 1],
            [32, 32, 3, 1, 32],
            [3, 2, 3, 1, 1],
            [3, 16, 3, 1, 1],
        ] {
            let mut net = Net::new("convolution");
            let x = net.input(DType::F32, &[1, channels, 56, 56]);
            let y = net.conv(&x, out, window, stride, groups);
            let y = activation(&mut net, &y);
            all.push(net.finish(&y));
        }
        let mut net = Net::new("convolution with computed weights");
        let x = net.input(DType::F32, &[1, 64, 28, 28]);
        let weights = net.input(DType::F32, &[64, 64, 3, 3]);
        let y = net.conv_with(&x, &weights, 1, 1);
        let y = activation(&mut net, &y);
        all.push(net.finish(&y));
    }
    all
}

/// Embeddings and one layer of all-MiniLM-L6-v2: 384 wide, 12 heads, 1536 inside.
fn transformer_layer(batch: usize, tokens: usize) -> Subject {
    let (width, heads) = (384, 12);
    let mut net = Net::new("transformer layer");
    let ids = net.input(DType::I64, &[batch, tokens]);
    let mask = net.input(DType::F32, &[batch, 1, 1, tokens]);
    let table = net.weight(&[2000, width]);
    let all = [batch, tokens, width];
    let words = net.node("Gather", 13, Attributes::default(), &[&table, &ids], &all);
    let positions = net.weight(&[1, tokens, width]);
    let embedded = net.zip("Add", &words, &positions);
    let x = net.layer_norm(&embedded);

    let mut head = |order: &[usize]| {
        let y = net.linear(&x, width);
        let y = net.reshape(&y, &[batch, tokens, heads, width / heads]);
        net.transpose(&y, order)
    };
    let (q, k, v) = (head(&[0, 2, 1, 3]), head(&[0, 2, 3, 1]), head(&[0, 2, 1, 3]));
    let scores = net.matmul(&q, &k);
    let root = net.number(((width / heads) as f32).sqrt());
    let scaled = net.zip("Div", &scores, &root);
    let masked = net.zip("Add", &scaled, &mask);
    let axis = Attributes::default().with("axis", Attribute::Int(-1));
    let weights = net.node("Softmax", 13, axis, &[&masked], &masked.1.clone());
    let attended = net.matmul(&weights, &v);
    let attended = net.transpose(&attended, &[0, 2, 1, 3]);
    let attended = net.reshape(&attended, &all);
    let attended = net.linear(&attended, width);
    let sum = net.zip("Add", &attended, &x);
    let x = net.layer_norm(&sum);

    let inside = net.linear(&x, 4 * width);
    let inside = net.gelu(&inside);
    let outside = net.linear(&inside, width);
    let sum = net.zip("Add", &outside, &x);
    let y = net.layer_norm(&sum);
    net.finish(&y)
}

/// ResNet-50: the stem, a bottleneck with a projection, and the classifier.
fn bottleneck() -> Subject {
    let mut net = Net::new("bottleneck");
    let image = net.input(DType::F32, &[1, 3, 224, 224]);
    let x = net.conv(&image, 64, 7, 2, 1);
    let x = net.map("Relu", 14, &x);
    let pool = Attributes::default()
        .with("kernel_shape", Attribute::Ints(vec![3, 3]))
        .with("strides", Attribute::Ints(vec![2, 2]))
        .with("pads", Attribute::Ints(vec![1; 4]));
    let x = net.node("MaxPool", 12, pool, &[&x], &[1, 64, 56, 56]);
    let y = net.conv(&x, 64, 1, 1, 1);
    let y = net.map("Relu", 14, &y);
    let y = net.conv(&y, 64, 3, 2, 1);
    let y = net.map("Relu", 14, &y);
    let y = net.conv(&y, 256, 1, 1, 1);
    let projected = net.conv(&x, 256, 1, 2, 1);
    let sum = net.zip("Add", &y, &projected);
    let x = net.map("Relu", 14, &sum);
    classifier(net, &x)
}

/// MobileNetV2: expansion, depthwise, projection, residual, each clipped to 0..6.
fn inverted_residual() -> Subject {
    let mut net = Net::new("inverted residual");
    let x = net.input(DType::F32, &[1, 24, 56, 56]);
    let y = net.conv(&x, 144, 1, 1, 1);
    let y = net.clip(&y, 0.0, 6.0);
    let y = net.conv(&y, 144, 3, 1, 144);
    let y = net.clip(&y, 0.0, 6.0);
    let y = net.conv(&y, 24, 1, 1, 1);
    let y = net.zip("Add", &y, &x);
    let y = net.conv(&y, 24, 3, 2, 24);
    classifier(net, &y)
}

fn classifier(mut net: Net, x: &Value) -> Subject {
    let channels = x.1[1];
    let none = Attributes::default;
    let pooled = net.node("GlobalAveragePool", 1, none(), &[x], &[1, channels, 1, 1]);
    let flat = net.node("Flatten", 13, none(), &[&pooled], &[1, channels]);
    let (weights, bias) = (net.weight(&[1000, channels]), net.weight(&[1000]));
    let transposed = none().with("transB", Attribute::Int(1));
    let logits = net.node("Gemm", 13, transposed, &[&flat, &weights, &bias], &[1, 1000]);
    net.finish(&logits)
}
