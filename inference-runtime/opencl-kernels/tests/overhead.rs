//! What a run costs beside its kernels. Prints; measures nothing that a test could fail on.

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
fn a_tiny_model_runs_many_times() {
    let case = Case::new("Transpose", 13)
        .attr("perm", Attribute::Ints(vec![1, 0]))
        .input(tensor(&[3, 5], 1));
    let (graph, inputs) = case.graph(true);
    let program = Program::compile(graph, &CompileOptions::default()).unwrap();
    let mut executor = Executor::new(device(), Arc::new(program)).unwrap();
    let views: Vec<InputView<'_>> = inputs.iter().map(InputView::from).collect();
    let mut sink = Fixed(vec![0; 60]);
    for _ in 0..5 {
        let n = 2000;
        let started = Instant::now();
        for _ in 0..n {
            executor.run(&views, &mut sink).unwrap();
        }
        println!("{:?} a run", started.elapsed() / n);
    }
}
