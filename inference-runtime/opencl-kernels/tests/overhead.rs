//! Ten thousand runs of a tiny model give the same answer without growing. The time of one is printed, not judged.

use std::sync::Arc;
use std::time::Instant;

use opencl_kernels::ir::Attribute;
use opencl_kernels::runtime::{Executor, InputView, OutputSink};
use opencl_kernels::tensor::TensorType;
use opencl_kernels::testing::{Case, device, tensor};
use opencl_kernels::{CompileOptions, Program};

struct Fixed(Vec<u8>);
impl OutputSink for Fixed {
    fn output(&mut self, _: usize, ty: &TensorType) -> opencl_kernels::Result<&mut [u8]> {
        Ok(&mut self.0[..ty.bytes()])
    }
}

#[test]
fn a_tiny_model_runs_ten_thousand_times_in_the_same_memory() {
    let case = Case::new("Transpose", 13)
        .attr("perm", Attribute::Ints(vec![1, 0]))
        .input(tensor(&[3, 5], 1));
    let (graph, inputs) = case.graph(true);
    let program = Arc::new(Program::compile(graph, &CompileOptions::default()).unwrap());
    let expected = program.evaluate(&inputs).unwrap();
    let mut executor = Executor::new(device(), program).unwrap();
    let views: Vec<InputView<'_>> = inputs.iter().map(InputView::from).collect();
    let mut sink = Fixed(vec![0; expected[0].bytes().len()]);
    executor.run(&views, &mut sink).unwrap();
    let memory = executor.memory();
    for _ in 0..5 {
        let runs = 2000;
        let started = Instant::now();
        for _ in 0..runs {
            sink.0.fill(0xff);
            executor.run(&views, &mut sink).unwrap();
            assert_eq!(sink.0, expected[0].bytes());
        }
        println!("{:?} a run", started.elapsed() / runs);
    }
    assert_eq!((executor.memory(), executor.plans()), (memory, 1));
}
