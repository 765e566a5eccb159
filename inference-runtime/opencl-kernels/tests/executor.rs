//! What an executor promises, with operators that only move elements.

use std::sync::Arc;
use std::time::Duration;

use opencl_kernels::ir::{Attribute, Attributes, Graph};
use opencl_kernels::runtime::{
    DeviceContext, DiskCache, Executor, ExecutorOptions, InputView, OutputSink, default_device,
};
use opencl_kernels::tensor::{DType, HostTensor, TensorType};
use opencl_kernels::testing::{Case, tensor};
use opencl_kernels::{CompileOptions, Error, Program};

/// A device of its own, so that its memory counter shows this test's allocations only.
fn fresh_device() -> Arc<DeviceContext> {
    let device = default_device().expect("tests need an OpenCL device");
    DeviceContext::open_with(device, DiskCache::none()).expect("the device opens")
}

fn compile(graph: Graph) -> Arc<Program> {
    Arc::new(Program::compile(graph, &CompileOptions::default()).expect("the graph compiles"))
}

/// `[a, b]` → `[b, a]` → `[a, b]` … several times over, so that the plan has values to put into an arena.
fn turning(times: usize) -> Graph {
    let mut graph = Graph::new("turning");
    let mut value = graph.input("x", DType::F32, &[None, None]);
    for _ in 0..times {
        let perm = Attributes::default().with("perm", Attribute::Ints(vec![1, 0]));
        value = graph.node(
            "Transpose",
            13,
            perm,
            &[value],
            (DType::F32, Some(vec![None, None])),
        );
    }
    graph.outputs.push(value);
    graph
}

/// Rows of a table, picked by the request's indices.
fn lookup(table: HostTensor) -> Graph {
    let mut graph = Graph::new("lookup");
    let table = graph.constant("table", table);
    let indices = graph.input("indices", DType::I64, &[None]);
    let dims = Some(vec![None, None]);
    let rows = graph.node(
        "Gather",
        13,
        Attributes::default(),
        &[table, indices],
        (DType::F32, dims),
    );
    graph.outputs.push(rows);
    graph
}

#[test]
fn one_program_serves_many_shapes_with_a_bounded_number_of_plans() {
    let options = ExecutorOptions { plans: 3 };
    let mut executor = Executor::with_options(fresh_device(), compile(turning(3)), options).unwrap();
    let program = Arc::clone(executor.program());
    // Small and large in turn, so that the arena grows under plans that are used again afterwards.
    for (rows, columns) in [
        (2, 3),
        (50, 70),
        (2, 3),
        (1, 1),
        (80, 90),
        (50, 70),
        (2, 3),
        (7, 0),
        (80, 90),
    ] {
        let x = tensor(&[rows, columns], (rows * 1000 + columns) as u64);
        let expected = program.evaluate(std::slice::from_ref(&x)).unwrap();
        assert_eq!(
            executor.run_tensors(&[x]).unwrap(),
            expected,
            "{rows} x {columns}"
        );
        assert!(executor.plans() <= 3);
    }
    assert_eq!(executor.plans(), 3);
}

#[test]
fn values_that_are_not_alive_together_share_the_arena() {
    let mut executor = Executor::new(fresh_device(), compile(turning(9))).unwrap();
    let x = tensor(&[64, 64], 1);
    executor.run_tensors(&[x]).unwrap();
    let one = 64 * 64 * 4;
    assert_eq!(
        executor.memory().arena,
        2 * one,
        "ten values, two alive at a time"
    );
}

#[test]
fn dropping_an_executor_gives_all_memory_back() {
    let device = fresh_device();
    for round in 0..3 {
        let mut executor = Executor::new(Arc::clone(&device), compile(lookup(tensor(&[100, 8], 1)))).unwrap();
        for indices in [vec![1], vec![99, 0, 50]] {
            executor
                .run_tensors(&[HostTensor::i64([indices.len()], &indices)])
                .unwrap();
        }
        assert_eq!(device.memory().held(), executor.memory().total(), "round {round}");
        assert_eq!(executor.memory().constants, 100 * 8 * 4);
        drop(executor);
        assert_eq!(device.memory().held(), 0, "round {round}");
    }
    assert!(device.memory().peak() > 100 * 8 * 4);
}

#[test]
fn a_constant_read_by_two_nodes_is_uploaded_once() {
    let mut graph = lookup(tensor(&[100, 8], 1));
    let (table, indices) = (*graph.constants.keys().next().unwrap(), graph.inputs[0]);
    let dims = Some(vec![None, None]);
    let again = graph.node(
        "Gather",
        13,
        Attributes::default(),
        &[table, indices],
        (DType::F32, dims),
    );
    graph.outputs.push(again);
    let mut executor = Executor::new(fresh_device(), compile(graph)).unwrap();
    let outputs = executor.run_tensors(&[HostTensor::i64([2], &[5, 7])]).unwrap();
    assert_eq!(outputs[0], outputs[1]);
    assert_eq!(executor.memory().constants, 100 * 8 * 4);
}

#[test]
fn an_index_out_of_range_fails_its_run_and_no_other() {
    let mut executor = Executor::new(fresh_device(), compile(lookup(tensor(&[10, 4], 1)))).unwrap();
    let good = HostTensor::i64([2], &[9, -10]);
    let expected = executor.run_tensors(std::slice::from_ref(&good)).unwrap();
    for index in [10, -11, i64::MAX, i64::MIN] {
        let error = executor
            .run_tensors(&[HostTensor::i64([2], &[3, index])])
            .unwrap_err();
        let Error::IndexOutOfRange {
            op,
            index: reported,
            length,
            ..
        } = error
        else {
            panic!("index {index}: {error}");
        };
        assert_eq!((op.as_str(), reported, length), ("Gather", index, 10));
        let after = executor.run_tensors(std::slice::from_ref(&good)).unwrap();
        assert_eq!(after, expected, "the run after index {index}");
    }
}

#[test]
fn executors_in_many_threads_share_a_device() {
    let device = fresh_device();
    let program = compile(turning(5));
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let mut executor = Executor::new(Arc::clone(&device), Arc::clone(&program)).unwrap();
            scope.spawn(move || {
                for round in 0..50 {
                    let x = tensor(&[thread + 2, round + 1], round as u64);
                    let expected = executor.program().evaluate(std::slice::from_ref(&x)).unwrap();
                    let outputs = executor.run_tensors(&[x]).unwrap();
                    assert_eq!(outputs, expected, "thread {thread}, round {round}");
                }
            });
        }
    });
    assert_eq!(device.memory().held(), 0);
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    let mut executor = Executor::new(fresh_device(), compile(turning(1))).unwrap();
    let mut sink = Refusing;
    let mut message = |inputs: &[InputView<'_>]| executor.run(inputs, &mut sink).unwrap_err().to_string();
    let short = InputView {
        shape: &[2, 3],
        bytes: &[0; 23],
    };
    assert_eq!(
        message(&[short]),
        "input 'x': 23 bytes given, float32[2, 3] needs 24"
    );
    let flat = InputView {
        shape: &[6],
        bytes: &[0; 24],
    };
    assert_eq!(
        message(&[flat]),
        "input 'x': shape [6] does not fit the declared [?, ?]"
    );
    assert_eq!(message(&[]), "input 'turning': 0 inputs given, 1 wanted");
    let huge = InputView {
        shape: &[1 << 40, 1 << 40],
        bytes: &[],
    };
    assert!(message(&[huge]).contains("has more than 2147483647 elements"));
}

#[test]
fn a_caller_that_cannot_take_the_output_stops_the_run_but_not_the_executor() {
    let mut executor = Executor::new(fresh_device(), compile(turning(1))).unwrap();
    let x = tensor(&[3, 5], 1);
    let error = executor.run(&[InputView::from(&x)], &mut Refusing).unwrap_err();
    assert!(
        matches!(error, Error::NoDevice(_)),
        "the sink's own error comes back: {error}"
    );
    assert_eq!(executor.run_tensors(&[x]).unwrap()[0].shape(), [5, 3]);
}

/// Takes nothing.
struct Refusing;

impl OutputSink for Refusing {
    fn output(&mut self, _: usize, _: &TensorType) -> opencl_kernels::Result<&mut [u8]> {
        Err(Error::NoDevice("the sink is gone".to_owned()))
    }
}

#[test]
fn more_memory_than_the_device_allows_is_refused_with_numbers() {
    let mut executor = Executor::new(fresh_device(), compile(turning(1))).unwrap();
    let limit = executor.context().device().info().max_allocation;
    let rows = usize::try_from(limit / 4 / 1024).unwrap() * 3 / 4;
    let bytes = rows * 1024 * 4;
    let error = executor.prepare(&[&[rows, 1024]]).unwrap_err();
    match error {
        Error::OutOfMemory {
            wanted,
            limit: reported,
            ..
        } => {
            assert_eq!(reported, limit);
            assert!(wanted >= 2 * bytes as u64, "input and output at once");
        }
        // A device that allows more than 2^31 elements meets the other limit first.
        Error::Invalid { reason, .. } => assert!(reason.contains("more than"), "{reason}"),
        other => panic!("{other}"),
    }
    assert!(executor.run_tensors(&[tensor(&[2, 2], 1)]).is_ok());
}

#[test]
fn a_profile_names_every_step() {
    let mut executor = Executor::new(fresh_device(), compile(turning(4))).unwrap();
    let x = tensor(&[30, 40], 1);
    let steps = executor.profile(&[InputView::from(&x)]).unwrap();
    assert_eq!(steps.len(), 4);
    assert!(
        steps
            .iter()
            .all(|step| step.op == "Transpose" && !step.kernel.is_empty())
    );
}

#[test]
fn an_observed_run_answers_as_any_other_and_says_what_the_device_did_when() {
    let mut executor = Executor::new(fresh_device(), compile(turning(4))).unwrap();
    let x = tensor(&[30, 40], 1);
    let mut cached = Vec::new();
    for _ in 0..2 {
        let mut answer = One(Vec::new());
        let observed = executor
            .run_observed(&[InputView::from(&x)], &mut answer)
            .unwrap();
        assert_eq!(answer.0, x.bytes(), "turned four times");
        assert_eq!(observed.steps.len(), 4);
        cached.push(observed.plan_cached);
        let mut before = observed.planned;
        for step in &observed.steps {
            assert!(step.begin >= before, "one after the other: {observed:?}");
            before = step.begin + Duration::from_nanos(step.nanoseconds);
            assert!(step.global.iter().product::<usize>() > 0, "{step:?}");
        }
        assert!(before <= observed.ended, "within the run: {observed:?}");
    }
    assert_eq!(cached, [false, true]);
    assert_eq!(executor.run_tensors(std::slice::from_ref(&x)).unwrap(), [x]);
}

/// One output's bytes.
struct One(Vec<u8>);

impl OutputSink for One {
    fn output(&mut self, _: usize, ty: &TensorType) -> opencl_kernels::Result<&mut [u8]> {
        self.0 = vec![0; ty.bytes()];
        Ok(&mut self.0)
    }
}

#[test]
fn outputs_that_need_no_device_are_copied() {
    let mut graph = Graph::new("no work");
    let x = graph.input("x", DType::F32, &[None, None]);
    let shape = graph.node(
        "Shape",
        15,
        Attributes::default(),
        &[x],
        (DType::I64, Some(vec![Some(2)])),
    );
    let constant = graph.constant("c", HostTensor::f32([2], &[1.0, 2.0]));
    graph.outputs.extend([x, shape, constant]);
    let device = fresh_device();
    let mut executor = Executor::new(Arc::clone(&device), compile(graph)).unwrap();
    let x = tensor(&[3, 5], 1);
    let outputs = executor.run_tensors(std::slice::from_ref(&x)).unwrap();
    assert_eq!(outputs[0], x);
    assert_eq!(outputs[1].to_i64().unwrap(), [3, 5]);
    assert_eq!(outputs[2].to_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(executor.memory().constants, 0, "nothing was uploaded");
}

#[test]
fn a_case_without_elements_runs() {
    let perm = Attribute::Ints(vec![1, 0]);
    let outputs = Case::new("Transpose", 13)
        .attr("perm", perm)
        .input(tensor(&[0, 4], 1))
        .check();
    assert_eq!(outputs[0].shape(), [4, 0]);
}
