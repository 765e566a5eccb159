//! LRN: local response normalization across channels.

use crate::ops::elementwise::attributes::only;
use crate::ops::elementwise::axes::int;
use crate::ops::elementwise::map::GROUP;
use crate::ops::elementwise::numbers::{float_tensor, floats};
use crate::ops::movement::divisor::Divisor;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "local_response.cl",
    text: include_str!("local_response.cl"),
};

/// LRN-1, LRN-13: `y = x / (bias + alpha / size · Σ x²)^beta`, the sum over the `size` channels around.
#[derive(Debug, Clone, PartialEq)]
struct LocalResponse {
    size: usize,
    alpha: f32,
    beta: f32,
    bias: f32,
}

/// Lowers LRN.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only(node, &["size", "alpha", "beta", "bias"])?;
    node.require_dtype(0, &[DType::F32])?;
    if node.rank(0)? < 2 {
        return Err("the input has no channels".to_owned());
    }
    let size = usize::try_from(node.int("size", 0)).ok().filter(|&size| size > 0);
    Ok(Box::new(LocalResponse {
        size: size.ok_or("size is not positive")?,
        alpha: node.float("alpha", 1e-4),
        beta: node.float("beta", 0.75),
        bias: node.float("bias", 1.0),
    }))
}

impl LocalResponse {
    /// How many channels before and after a channel count for it.
    fn reach(&self) -> (usize, usize) {
        ((self.size - 1) / 2, self.size / 2)
    }
}

impl Operator for LocalResponse {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        Ok(vec![x.ty.clone()])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        let shape = x.shape();
        let behind: usize = shape[2..].iter().product();
        let (before, after) = self.reach();
        let values = floats(x)?;
        let normalized = (0..values.len()).map(|i| {
            let channel = i / behind % shape[1];
            let image = i - channel * behind;
            let around = channel.saturating_sub(before)..(channel + after + 1).min(shape[1]);
            let sum: f64 = around.map(|c| values[image + c * behind].powi(2)).sum();
            let base = f64::from(self.bias) + f64::from(self.alpha) / self.size as f64 * sum;
            values[i] / base.powf(f64::from(self.beta))
        });
        Ok(vec![float_tensor(shape, normalized)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let ty = emitter.output_type(0).clone();
        let behind: usize = ty.shape[2..].iter().product();
        let divisor = Divisor::new(behind);
        let (before, after) = self.reach();
        // A reach beyond all channels is as good as all channels.
        let channels = ty.shape[1];
        let launch = Launch {
            source: SOURCE,
            kernel: "local_response",
            options: Vec::new(),
            args: vec![
                emitter.write(0),
                emitter.read(0),
                Arg::U32(int(ty.elements())? as u32),
                Arg::I32(int(channels)?),
                Arg::I32(int(behind)?),
                Arg::U32(divisor.magic),
                Arg::U32(divisor.shift),
                Arg::I32(int(before.min(channels))?),
                Arg::I32(int(after.min(channels))?),
                Arg::F32(self.alpha / self.size as f32),
                Arg::F32(self.bias),
                Arg::F32(self.beta),
            ],
            global: [ty.elements(), 1, 1],
            local: GROUP,
        };
        emitter.launch(launch);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Attribute;
    use crate::testing::{Case, tensor};

    #[test]
    fn values() {
        // Sums of squares around each channel: 1+4, 1+4+9, 4+9.
        let case = Case::new("LRN", 13)
            .attr("size", Attribute::Int(3))
            .attr("alpha", Attribute::Float(3.0));
        let case = case
            .attr("beta", Attribute::Float(1.0))
            .attr("bias", Attribute::Float(0.0));
        let y = case.input(HostTensor::f32([1, 3], &[1.0, 2.0, 3.0])).check()[0]
            .to_f32()
            .unwrap();
        for (y, expected) in y.iter().zip([1.0 / 5.0, 2.0 / 14.0, 3.0 / 13.0]) {
            assert!((y - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn windows_of_every_size() {
        for size in [1, 2, 3, 4, 5, 100] {
            for shape in [&[2, 5, 3, 4][..], &[1, 1, 2], &[3, 7], &[1, 0, 2]] {
                let case = Case::new("LRN", 1).attr("size", Attribute::Int(size));
                case.attr("alpha", Attribute::Float(0.5))
                    .within(1e-7, 2e-6)
                    .input(tensor(shape, 1))
                    .check();
            }
        }
    }

    #[test]
    fn a_window_without_size_is_refused() {
        assert!(
            Case::new("LRN", 13)
                .input(tensor(&[1, 2], 1))
                .refusal()
                .to_string()
                .contains("size")
        );
    }
}
