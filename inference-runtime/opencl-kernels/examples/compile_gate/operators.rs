//! Every registered operator alone: with each element type it takes, and with operands that lie as differently as its
//! kernels tell apart.

use std::error::Error;

use opencl_kernels::ir::{Attribute, Node};
use opencl_kernels::ops::{Registration, registrations};
use opencl_kernels::runtime::DeviceTraits;
use opencl_kernels::tensor::{DType, HostTensor, TensorType};
use opencl_kernels::testing::Case;

use crate::{Subject, Variants};

/// Element types that differ in size or in arithmetic.
const TYPES: [DType; 7] = [
    DType::F32,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::Bool,
    DType::I8,
    DType::F16,
];

/// Adds the launches of every operator.
///
/// # Errors
/// If an operator has no case that compiles: a new operator must not pass the gate unseen.
pub(crate) fn add(variants: &mut Variants, device: &DeviceTraits) -> Result<(), Box<dyn Error>> {
    for registration in registrations() {
        let mut refused = Err(format!("{} has no case in this file", registration.op_type).into());
        for case in cases(registration) {
            let (graph, tensors) = case.graph(false);
            let shapes = tensors.iter().map(|tensor| tensor.shape().to_vec()).collect();
            let fuse = false;
            match (Subject { graph, shapes, fuse }).launches(device) {
                Ok(launches) => {
                    variants.add(launches);
                    refused = Ok(());
                }
                // Not every operator takes every type. One that takes none at all is an error.
                Err(error) => refused = refused.map_err(|_: Box<dyn Error>| error.into()),
            }
        }
        refused?;
    }
    Ok(())
}

fn zeros(dtype: DType, shape: &[usize]) -> HostTensor {
    HostTensor::zeros(TensorType::new(dtype, shape.to_vec()))
}

fn ints(values: &[i64]) -> HostTensor {
    HostTensor::i64([values.len()], values)
}

fn text(value: &str) -> Attribute {
    Attribute::String(value.to_owned())
}

/// Shapes of two operands: equal, repeated along an inner axis, and repeated along axes that do not merge.
const PAIRS: [[&[usize]; 2]; 3] = [
    [&[4, 64], &[4, 64]],
    [&[4, 8, 64], &[4, 1, 64]],
    [&[2, 3, 4, 5, 6], &[2, 1, 4, 1, 6]],
];

/// The cases of one operator, over all element types; some of them are refused.
fn cases(registration: &Registration) -> Vec<Case> {
    let node = || {
        if registration.domain == Node::FUSED {
            Case::fused(registration.op_type)
        } else {
            Case::new(registration.op_type, *registration.versions.end())
        }
    };
    match registration.op_type {
        "Conv" | "ConvEpilogue" | "ConvTranspose" => {
            let windows: [(&[usize], &[usize]); 4] = [
                (&[1, 16, 56, 56], &[16, 16, 3, 3]),
                (&[1, 3, 20], &[3, 3, 3]),
                (&[1, 16, 8, 8, 8], &[16, 16, 3, 3, 3]),
                (&[1, 2, 8, 8, 8], &[2, 2, 3, 3, 3]),
            ];
            let case = |(x, w): (&[usize], &[usize])| {
                node().input(zeros(DType::F32, x)).constant(zeros(DType::F32, w))
            };
            windows.into_iter().map(case).collect()
        }
        "MatMul" | "MatMulEpilogue" | "Gemm" => {
            let pair = |m, n| {
                node()
                    .input(zeros(DType::F32, &[m, 96]))
                    .input(zeros(DType::F32, &[96, n]))
            };
            [[1, 64], [5, 64], [64, 64], [64, 1]]
                .map(|[m, n]| pair(m, n))
                .to_vec()
        }
        "MaxPool" | "AveragePool" | "LpPool" => pools(&node),
        "GlobalMaxPool" | "GlobalAveragePool" | "GlobalLpPool" => {
            vec![node().input(zeros(DType::F32, &[1, 64, 14, 14]))]
        }
        "Softmax" | "LogSoftmax" => {
            let case = |axis, length| {
                node()
                    .attr("axis", Attribute::Int(axis))
                    .input(zeros(DType::F32, &[8, 12, length]))
            };
            vec![case(-1, 128), case(-1, 2048), case(1, 128)]
        }
        "ScaledMaskedSoftmax" => {
            let case = |length| {
                node()
                    .attr("scale", Attribute::Float(0.5))
                    .input(zeros(DType::F32, &[2, 4, 8, length]))
            };
            let masked = |length| case(length).input(zeros(DType::F32, &[2, 1, 1, length]));
            vec![case(64), case(2048), masked(64), masked(2048)]
        }
        "LayerNormalization" | "RMSNormalization" | "SkipLayerNorm" => norms(&node),
        op => TYPES
            .into_iter()
            .flat_map(|dtype| typed(op, dtype, &node))
            .collect(),
    }
}

fn pools(node: &dyn Fn() -> Case) -> Vec<Case> {
    let case = |shape: &[usize]| {
        node()
            .attr("kernel_shape", Attribute::Ints(vec![3; shape.len() - 2]))
            .input(zeros(DType::F32, shape))
    };
    let image = || case(&[1, 64, 28, 28]);
    vec![
        image(),
        case(&[1, 8, 40]),
        case(&[1, 8, 9, 9, 9]),
        image().attr("strides", Attribute::Ints(vec![2, 2])),
        image().output(DType::F32, 4).output(DType::I64, 4),
    ]
}

fn norms(node: &dyn Fn() -> Case) -> Vec<Case> {
    let mut cases = Vec::new();
    for width in [384, 4096] {
        let row = || zeros(DType::F32, &[8, width]);
        let weight = || zeros(DType::F32, &[width]);
        let two = || node().input(row()).constant(weight());
        let three = || two().constant(weight());
        let skip = || node().input(row()).input(row());
        cases.extend([
            two(),
            three(),
            three().output(DType::F32, 2).output(DType::F32, 2),
            three()
                .output(DType::F32, 2)
                .output(DType::F32, 2)
                .output(DType::F32, 2),
            skip(),
            skip().constant(weight()),
            skip().constant(weight()).constant(weight()),
            skip()
                .constant(weight())
                .constant(weight())
                .output(DType::F32, 2)
                .output(DType::F32, 2),
        ]);
    }
    cases
}

/// The cases of an operator that takes several element types, with this one.
fn typed(op: &str, dtype: DType, node: &dyn Fn() -> Case) -> Vec<Case> {
    let x = |shape: &[usize]| zeros(dtype, shape);
    let axis = |axis| node().attr("axis", Attribute::Int(axis));
    let index_types = [DType::I64, DType::I32];
    match op {
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "PRelu" | "BitwiseAnd" | "BitwiseOr"
        | "BitwiseXor" | "BitShift" | "And" | "Or" | "Xor" | "Min" | "Max" | "Mean" | "Sum" => {
            let node = || match op {
                "Mod" if dtype == DType::F32 => node().attr("fmod", Attribute::Int(1)),
                "BitShift" => node().attr("direction", text("LEFT")),
                _ => node(),
            };
            PAIRS.map(|[a, b]| node().input(x(a)).input(x(b))).to_vec()
        }
        "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
            let case = |[a, b]: [&[usize]; 2]| node().input(x(a)).input(x(b)).output(DType::Bool, a.len());
            PAIRS.map(case).to_vec()
        }
        "Where" => {
            let case = |[a, b]: [&[usize]; 2]| {
                let condition = zeros(DType::Bool, b);
                node()
                    .input(condition)
                    .input(x(a))
                    .input(x(b))
                    .output(dtype, a.len())
            };
            PAIRS.map(case).to_vec()
        }
        "Cast" => TYPES
            .into_iter()
            .zip([1, 6, 7, 2, 9, 3, 10])
            .map(|(to, code)| {
                node()
                    .attr("to", Attribute::Int(code))
                    .input(x(&[4, 64]))
                    .output(to, 2)
            })
            .collect(),
        "CastLike" => vec![
            node()
                .input(x(&[4, 64]))
                .input(zeros(DType::F32, &[1]))
                .output(DType::F32, 2),
        ],
        "IsNaN" | "IsInf" => vec![node().input(x(&[4, 64])).output(DType::Bool, 2)],
        "Clip" => vec![
            node().input(x(&[4, 64])).constant(x(&[])).constant(x(&[])),
            node().input(x(&[4, 64])).input(x(&[])).input(x(&[])),
        ],
        "Concat" => [0, 1, 2]
            .map(|at| axis(at).input(x(&[2, 3, 5])).input(x(&[2, 3, 5])))
            .to_vec(),
        "DepthToSpace" | "SpaceToDepth" => {
            vec![
                node()
                    .attr("blocksize", Attribute::Int(2))
                    .input(x(&[1, 8, 6, 6])),
            ]
        }
        "Expand" => vec![
            node()
                .input(x(&[3, 1, 5]))
                .constant(ints(&[2, 3, 4, 5]))
                .output(dtype, 4),
        ],
        "Pad" => ["constant", "reflect", "edge", "wrap"]
            .map(|mode| {
                node()
                    .attr("mode", text(mode))
                    .input(x(&[4, 5]))
                    .constant(ints(&[1, 2, 1, 2]))
            })
            .to_vec(),
        "Resize" => ["nearest", "linear"]
            .map(|mode| {
                let case = node().attr("mode", text(mode)).input(x(&[1, 2, 8, 8]));
                case.absent().absent().constant(ints(&[1, 2, 13, 17]))
            })
            .to_vec(),
        "Upsample" => {
            let case = Case::new(op, 9).input(x(&[1, 2, 8, 8]));
            vec![case.constant(HostTensor::f32([4], &[1.0, 1.0, 2.0, 2.0]))]
        }
        "ReverseSequence" => vec![node().input(x(&[5, 4, 3])).input(zeros(DType::I64, &[4]))],
        "Slice" => [[1, 1], [-1, 2]]
            .map(|steps| {
                let case = node()
                    .input(x(&[7, 9]))
                    .constant(ints(&[5, 1]))
                    .constant(ints(&[-1, 8]));
                case.constant(ints(&[0, 1])).constant(ints(&steps))
            })
            .to_vec(),
        "Split" => vec![
            axis(1)
                .input(x(&[4, 7]))
                .constant(ints(&[3, 4]))
                .output(dtype, 2)
                .output(dtype, 2),
        ],
        "Tile" => vec![node().input(x(&[3, 5])).constant(ints(&[2, 3]))],
        "Transpose" => [[1, 0, 2], [2, 1, 0], [0, 2, 1]]
            .map(|order| {
                node()
                    .attr("perm", Attribute::Ints(order.to_vec()))
                    .input(x(&[64, 65, 33]))
            })
            .to_vec(),
        "Gather" | "GatherElements" => index_types
            .map(|index| {
                axis(1)
                    .input(x(&[4, 5]))
                    .input(zeros(index, &[4, 3]))
                    .output(dtype, if op == "Gather" { 3 } else { 2 })
            })
            .to_vec(),
        "GatherND" => vec![
            node()
                .input(x(&[4, 5]))
                .input(zeros(DType::I64, &[3, 1]))
                .output(dtype, 2),
        ],
        "OneHot" => index_types
            .map(|index| {
                let case = node().input(zeros(index, &[6])).constant(ints(&[10]));
                case.input(x(&[2])).output(dtype, 2)
            })
            .to_vec(),
        "Scatter" | "ScatterElements" => scatters(dtype, node),
        "ScatterND" => ["none", "add", "mul", "min", "max"]
            .map(|reduction| {
                let case = node().attr("reduction", text(reduction)).input(x(&[6, 4]));
                case.input(zeros(DType::I64, &[3, 1])).input(x(&[3, 4]))
            })
            .to_vec(),
        "TopK" => [0, 1]
            .map(|largest| {
                let case = axis(-1)
                    .attr("largest", Attribute::Int(largest))
                    .input(x(&[4, 50]));
                case.constant(ints(&[5])).output(dtype, 2).output(DType::I64, 2)
            })
            .to_vec(),
        "BatchNormalization" => {
            let case = node().input(x(&[1, 8, 6, 6]));
            vec![(0..4).fold(case, |case, _| case.constant(zeros(DType::F32, &[8])))]
        }
        "InstanceNormalization" | "GroupNormalization" => {
            let node = || match op {
                "GroupNormalization" => node().attr("num_groups", Attribute::Int(2)),
                _ => node(),
            };
            let parameter = || zeros(DType::F32, &[8]);
            vec![
                node()
                    .input(x(&[1, 8, 6, 6]))
                    .constant(parameter())
                    .constant(parameter()),
            ]
        }
        "LRN" => vec![node().attr("size", Attribute::Int(3)).input(x(&[1, 8, 6, 6]))],
        "LpNormalization" | "Hardmax" => [0, -1].map(|at| axis(at).input(x(&[40, 64]))).to_vec(),
        "ArgMax" | "ArgMin" => [0, -1]
            .map(|at| axis(at).input(x(&[40, 64])).output(DType::I64, 2))
            .to_vec(),
        "CumSum" => [0, 1]
            .map(|at| node().input(x(&[40, 64])).constant(HostTensor::i64([], &[at])))
            .to_vec(),
        reduce if reduce.starts_with("Reduce") => {
            let over: [&[i64]; 3] = [&[2], &[0], &[0, 2]];
            over.map(|axes| node().input(x(&[8, 40, 64])).constant(ints(axes)))
                .to_vec()
        }
        "Range" => {
            let number = |value: i64| match dtype {
                DType::F32 => HostTensor::f32(Vec::new(), &[value as f32]),
                DType::I32 => HostTensor::i32(Vec::new(), &[value as i32]),
                _ => HostTensor::i64(Vec::new(), &[value]),
            };
            let case = node().constant(number(0)).constant(number(200_000));
            vec![case.constant(number(1)).output(number(0).dtype(), 1)]
        }
        "Constant" => vec![node().attr("value", Attribute::Tensor(x(&[2]))).output(dtype, 1)],
        "ConstantOfShape" => vec![node().constant(ints(&[300, 300])).output(DType::F32, 2)],
        "Shape" => vec![node().input(x(&[2, 3])).output(DType::I64, 1)],
        "Size" => vec![node().input(x(&[2, 3])).output(DType::I64, 0)],
        "Reshape" => vec![node().input(x(&[2, 3])).constant(ints(&[6])).output(dtype, 1)],
        "Squeeze" => vec![node().input(x(&[1, 3])).constant(ints(&[0])).output(dtype, 1)],
        "Unsqueeze" => vec![node().input(x(&[3])).constant(ints(&[0])).output(dtype, 2)],
        // Functions of one operand.
        _ => vec![node().input(x(&[4, 64]))],
    }
}

fn scatters(dtype: DType, node: &dyn Fn() -> Case) -> Vec<Case> {
    let case = |index| {
        let case = node()
            .attr("axis", Attribute::Int(1))
            .input(zeros(dtype, &[4, 5]));
        case.input(zeros(index, &[4, 3])).input(zeros(dtype, &[4, 3]))
    };
    let mut cases = vec![case(DType::I64), case(DType::I32)];
    for reduction in ["add", "mul", "min", "max"] {
        cases.extend([DType::I64, DType::I32].map(|index| case(index).attr("reduction", text(reduction))));
    }
    cases
}
