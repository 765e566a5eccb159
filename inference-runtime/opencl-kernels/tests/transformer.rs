//! A small BERT, fused and not, on the device and by the references.

mod graphs;

use std::sync::Arc;

use graphs::Network;
use opencl_kernels::ir::{Attribute, Attributes, Graph, ValueId};
use opencl_kernels::runtime::Executor;
use opencl_kernels::tensor::{DType, HostTensor, Tolerance};
use opencl_kernels::testing::{assert_close, check_fused, check_within, device};
use opencl_kernels::{CompileOptions, Error, Program};

const WIDTH: usize = 32;
const HEADS: usize = 4;
const WORDS: usize = 50;
const POSITIONS: usize = 24;

const TOLERANCE: Tolerance = Tolerance {
    absolute: 1e-4,
    relative: 1e-4,
};

/// `[batch, tokens, WIDTH]` → `[batch, HEADS, tokens, WIDTH / HEADS]`, the shape computed as exporters do it.
fn split_heads(net: &mut Network, x: ValueId, perm: &[i64]) -> ValueId {
    let shape = net.graph.node(
        "Shape",
        15,
        Attributes::default(),
        &[x],
        (DType::I64, Some(vec![Some(3)])),
    );
    let (first, two) = (net.ints(&[0]), net.ints(&[2]));
    let known = Some(vec![Some(2)]);
    let outer = net.graph.node(
        "Slice",
        13,
        Attributes::default(),
        &[shape, first, two],
        (DType::I64, known),
    );
    let inner = net.ints(&[HEADS as i64, (WIDTH / HEADS) as i64]);
    let axis = Attributes::default().with("axis", Attribute::Int(0));
    let shape = net.graph.node(
        "Concat",
        13,
        axis,
        &[outer, inner],
        (DType::I64, Some(vec![Some(4)])),
    );
    let x = net.plain("Reshape", 14, &[x, shape], 4);
    net.op(
        "Transpose",
        13,
        Attributes::default().with("perm", Attribute::Ints(perm.to_vec())),
        &[x],
        4,
    )
}

fn attention(net: &mut Network, x: ValueId, mask: ValueId) -> ValueId {
    let (q, k, v) = (
        net.linear(x, WIDTH, WIDTH),
        net.linear(x, WIDTH, WIDTH),
        net.linear(x, WIDTH, WIDTH),
    );
    let q = split_heads(net, q, &[0, 2, 1, 3]);
    let k = split_heads(net, k, &[0, 2, 3, 1]);
    let v = split_heads(net, v, &[0, 2, 1, 3]);
    let scores = net.plain("MatMul", 13, &[q, k], 4);
    let root = net.scalar(((WIDTH / HEADS) as f32).sqrt());
    let scores = net.plain("Div", 14, &[scores, root], 4);
    let scores = net.plain("Add", 14, &[scores, mask], 4);
    let last = Attributes::default().with("axis", Attribute::Int(-1));
    let weights = net.op("Softmax", 13, last, &[scores], 4);
    let mixed = net.plain("MatMul", 13, &[weights, v], 4);
    let perm = Attributes::default().with("perm", Attribute::Ints(vec![0, 2, 1, 3]));
    let mixed = net.op("Transpose", 13, perm, &[mixed], 4);
    let shape = net.ints(&[0, 0, WIDTH as i64]);
    let mixed = net.rows("Reshape", 14, Attributes::default(), &[mixed, shape], WIDTH);
    net.linear(mixed, WIDTH, WIDTH)
}

fn layer(net: &mut Network, x: ValueId, mask: ValueId) -> ValueId {
    let attended = attention(net, x, mask);
    let x = net.rows("Add", 14, Attributes::default(), &[attended, x], WIDTH);
    let x = net.layer_norm(x, WIDTH);
    let wide = net.linear(x, WIDTH, 4 * WIDTH);
    let wide = net.gelu(wide, 4 * WIDTH);
    let narrow = net.linear(wide, 4 * WIDTH, WIDTH);
    let x = net.rows("Add", 14, Attributes::default(), &[narrow, x], WIDTH);
    net.layer_norm(x, WIDTH)
}

fn bert(layers: usize) -> Graph {
    let mut net = Network::new("bert");
    let ids = net.graph.input("input_ids", DType::I64, &[None, None]);
    let attend = net.graph.input("attention_mask", DType::I64, &[None, None]);
    let table = net.weight(&[WORDS, WIDTH], 1.0);
    let words = net.rows("Gather", 13, Attributes::default(), &[table, ids], WIDTH);
    let ends = Attributes::default()
        .with("start", Attribute::Int(1))
        .with("end", Attribute::Int(2));
    let tokens = net
        .graph
        .node("Shape", 15, ends, &[ids], (DType::I64, Some(vec![Some(1)])));
    let positions = net.weight(&[POSITIONS, WIDTH], 0.5);
    let (start, axis) = (net.ints(&[0]), net.ints(&[0]));
    let positions = net.plain("Slice", 13, &[positions, start, tokens, axis], 2);
    let x = net.rows("Add", 14, Attributes::default(), &[words, positions], WIDTH);
    let mut x = net.layer_norm(x, WIDTH);

    let axes = net.ints(&[1, 2]);
    let wide = Some(vec![None, Some(1), Some(1), None]);
    let mask = net.graph.node(
        "Unsqueeze",
        13,
        Attributes::default(),
        &[attend, axes],
        (DType::I64, wide),
    );
    let float = Attributes::default().with("to", Attribute::Int(1));
    let mask = net.op("Cast", 13, float, &[mask], 4);
    let one = net.scalar(1.0);
    let mask = net.plain("Sub", 14, &[one, mask], 4);
    let lowest = net.scalar(-1e4);
    let mask = net.plain("Mul", 14, &[mask, lowest], 4);
    for _ in 0..layers {
        x = layer(&mut net, x, mask);
    }
    net.graph.outputs.push(x);
    net.graph
}

fn request(batch: usize, tokens: usize) -> Vec<HostTensor> {
    let ids: Vec<i64> = (0..batch * tokens).map(|i| (i * 7 % WORDS) as i64).collect();
    let mask: Vec<i64> = (0..batch * tokens)
        .map(|i| i64::from(i % tokens < tokens - i / tokens % 3))
        .collect();
    vec![
        HostTensor::i64([batch, tokens], &ids),
        HostTensor::i64([batch, tokens], &mask),
    ]
}

#[test]
fn a_transformer_is_right_without_fusion() {
    check_within(bert(1), &request(2, 7), TOLERANCE);
}

#[test]
fn a_transformer_is_right_with_fusion_and_needs_few_launches() {
    let ops = check_fused(bert(2), &request(2, 7), TOLERANCE);
    let count = |name: &str| ops.iter().filter(|op| op.ends_with(name)).count();
    assert_eq!(
        count("MatMulEpilogue"),
        12,
        "q, k, v, output, wide, narrow in two layers: {ops:?}"
    );
    assert_eq!(count("ScaledMaskedSoftmax"), 2, "{ops:?}");
    for gone in ["Erf", "ReduceMean", "Sqrt", "Softmax", "Pow"] {
        assert!(!ops.iter().any(|op| op == gone), "{gone} is left in {ops:?}");
    }
}

#[test]
fn requests_of_every_length_share_one_executor() {
    let program = Arc::new(Program::compile(bert(1), &CompileOptions::default()).unwrap());
    let mut executor = Executor::new(device(), Arc::clone(&program)).unwrap();
    for (batch, tokens) in [(1, 1), (3, 5), (1, POSITIONS), (2, 9), (3, 5), (0, 4), (1, 1)] {
        let inputs = request(batch, tokens);
        let expected = program.evaluate(&inputs).unwrap();
        assert_close(&executor.run_tensors(&inputs).unwrap(), &expected, TOLERANCE);
    }
}

#[test]
fn a_request_in_a_batch_gets_the_answer_it_gets_alone() {
    let program = Arc::new(Program::compile(bert(2), &CompileOptions::default()).unwrap());
    let mut executor = Executor::new(device(), program).unwrap();
    let inputs = request(3, 6);
    let together = executor.run_tensors(&inputs).unwrap().remove(0).to_f32().unwrap();
    for row in 0..3 {
        let alone: Vec<HostTensor> = inputs
            .iter()
            .map(|tensor| HostTensor::i64([1, 6], &tensor.to_i64().unwrap()[row * 6..(row + 1) * 6]))
            .collect();
        let outputs = executor.run_tensors(&alone).unwrap();
        let expected = HostTensor::f32([1, 6, WIDTH], &together[row * 6 * WIDTH..(row + 1) * 6 * WIDTH]);
        assert_close(&outputs, &[expected], TOLERANCE);
    }
}

#[test]
fn a_word_outside_the_vocabulary_is_named() {
    let program = Arc::new(Program::compile(bert(1), &CompileOptions::default()).unwrap());
    let mut executor = Executor::new(device(), program).unwrap();
    let bad = [
        HostTensor::i64([1, 2], &[1, 50]),
        HostTensor::i64([1, 2], &[1, 1]),
    ];
    let error = executor.run_tensors(&bad).unwrap_err();
    assert!(
        matches!(
            error,
            Error::IndexOutOfRange {
                index: 50,
                length: 50,
                ..
            }
        ),
        "{error}"
    );
    assert!(executor.run_tensors(&request(1, 2)).is_ok());
}

#[test]
fn a_sentence_longer_than_the_table_of_positions_is_refused_before_it_runs() {
    let program = Arc::new(Program::compile(bert(1), &CompileOptions::default()).unwrap());
    let mut executor = Executor::new(device(), program).unwrap();
    let error = executor.run_tensors(&request(1, POSITIONS + 1)).unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
}
