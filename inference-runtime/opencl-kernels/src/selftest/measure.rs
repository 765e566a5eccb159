//! How fast a device is, measured with the kernels that serve requests. Takes about a second.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::ir::{Attributes, Graph};
use crate::program::{CompileOptions, Program};
use crate::runtime::{DeviceContext, Executor, InputView, transfer_times};
use crate::tensor::{DType, HostTensor, sample};

/// What a device reaches. Upper limits for models, lower than what the hardware's sheet says.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Measurement {
    /// Float32 matrix product, 10⁹ operations per second (a multiply-add counts as two).
    pub gflops: f64,
    /// Element-wise kernel over a large tensor, 10⁹ bytes read and written per second.
    pub copy_gb_per_s: f64,
    /// Host to device, 10⁹ bytes per second.
    pub upload_gb_per_s: f64,
    /// Device to host, 10⁹ bytes per second.
    pub download_gb_per_s: f64,
    /// One launch of a kernel that does next to nothing, in microseconds, many in a row.
    pub launch_us: f64,
}

/// Each measurement goes on for this long, so that clocks ramp up and noise averages out.
const LONG_ENOUGH: Duration = Duration::from_millis(150);

/// Bytes per transfer: large enough that a riser's latency does not count, small for a riser's bandwidth.
const TRANSFER_BYTES: usize = 8 << 20;

/// Measures a device. The values are this moment's: another process on the device shows in them.
pub fn measure(context: &Arc<DeviceContext>) -> Result<Measurement> {
    let (upload, download) = transfer_times(context, TRANSFER_BYTES)?;
    let bandwidth = |time: Duration| TRANSFER_BYTES as f64 / time.as_secs_f64() / 1e9;
    Ok(Measurement {
        gflops: gflops(context)?,
        copy_gb_per_s: copy_gb_per_s(context)?,
        upload_gb_per_s: bandwidth(upload),
        download_gb_per_s: bandwidth(download),
        launch_us: launch_us(context)?,
    })
}

fn gflops(context: &Arc<DeviceContext>) -> Result<f64> {
    let size = 512;
    let inputs = [sample(&[size, size], 1), sample(&[size, size], 2)];
    let time = seconds(context, "MatMul", 13, &inputs)?;
    Ok(2.0 * (size * size * size) as f64 / time / 1e9)
}

fn copy_gb_per_s(context: &Arc<DeviceContext>) -> Result<f64> {
    let elements = 4 << 20;
    let time = seconds(context, "Relu", 14, &[sample(&[elements], 3)])?;
    Ok(2.0 * (elements * size_of::<f32>()) as f64 / time / 1e9)
}

fn launch_us(context: &Arc<DeviceContext>) -> Result<f64> {
    Ok(seconds(context, "Relu", 14, &[sample(&[16], 4)])? * 1e6)
}

/// Seconds for one operator on these inputs, whose first one gives the output's shape.
fn seconds(
    context: &Arc<DeviceContext>,
    op_type: &str,
    since_version: i32,
    inputs: &[HostTensor],
) -> Result<f64> {
    let mut graph = Graph::new(op_type);
    let dims = |tensor: &HostTensor| tensor.shape().iter().copied().map(Some).collect::<Vec<_>>();
    let ids: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(i, tensor)| graph.input(format!("input{i}"), DType::F32, &dims(tensor)))
        .collect();
    let first = inputs.first().map(dims);
    let output = graph.node(
        op_type,
        since_version,
        Attributes::default(),
        &ids,
        (DType::F32, first),
    );
    graph.outputs.push(output);
    let program = Program::compile(graph, &CompileOptions::default())?;
    let mut executor = Executor::new(Arc::clone(context), Arc::new(program))?;
    let views: Vec<InputView<'_>> = inputs.iter().map(InputView::from).collect();
    // Once to warm up (CPU runtimes compile at the first launch), then more and more until it took long enough.
    executor.time_steps(&views, 1)?;
    let mut repeats = 1;
    loop {
        let elapsed = executor.time_steps(&views, repeats)?;
        if elapsed >= LONG_ENOUGH || repeats >= 1 << 20 {
            return Ok(elapsed.as_secs_f64() / f64::from(repeats));
        }
        repeats *= 2;
    }
}
