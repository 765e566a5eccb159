//! Functions of one operand, applied to every element.

use super::attributes::{flag, only};
use super::function::Function;
use super::map::Map;
use super::numbers::{bool_tensor, float_tensor, floats, integer_tensor, integers};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "unary.cl",
    text: concat!(
        include_str!("functions.cl"),
        include_str!("unary.cl"),
        include_str!("broadcast.cl")
    ),
};

/// A function with its parameters, for elements of one type.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::ops) struct Unary {
    function: Function,
    parameters: [f32; 2],
    dtype: DType,
}

/// Lowers every operator that is a function of one operand.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let (function, parameters) = parse(node)?;
    let dtype = node.dtype(0)?;
    if !function.accepts(dtype) {
        return Err(format!("input 0 is {dtype}"));
    }
    Ok(Box::new(Unary {
        function,
        parameters,
        dtype,
    }))
}

/// The function that an operator and its attributes name, with defaults filled in.
fn parse(node: &NodeView<'_>) -> Result<(Function, [f32; 2]), String> {
    let plain = |function| only(node, &[]).map(|()| (function, [0.0; 2]));
    let alpha =
        |function, default| only(node, &["alpha"]).map(|()| (function, [node.float("alpha", default), 0.0]));
    match node.node().op_type.as_str() {
        "Abs" => plain(Function::Abs),
        "Acos" => plain(Function::Acos),
        "Acosh" => plain(Function::Acosh),
        "Asin" => plain(Function::Asin),
        "Asinh" => plain(Function::Asinh),
        "Atan" => plain(Function::Atan),
        "Atanh" => plain(Function::Atanh),
        "BitwiseNot" => plain(Function::BitwiseNot),
        "Ceil" => plain(Function::Ceil),
        "Celu" => alpha(Function::Celu, 1.0),
        "Cos" => plain(Function::Cos),
        "Cosh" => plain(Function::Cosh),
        "Elu" => alpha(Function::Elu, 1.0),
        "Erf" => plain(Function::Erf),
        "Exp" => plain(Function::Exp),
        "Floor" => plain(Function::Floor),
        "Gelu" => {
            only(node, &["approximate"])?;
            match node.attributes().string("approximate").unwrap_or("none") {
                "none" => Ok((Function::Gelu, [0.0; 2])),
                "tanh" => Ok((Function::GeluTanh, [0.0; 2])),
                other => Err(format!("approximate = '{other}' is not known")),
            }
        }
        "HardSigmoid" => {
            only(node, &["alpha", "beta"])?;
            let parameters = [node.float("alpha", 0.2), node.float("beta", 0.5)];
            Ok((Function::HardSigmoid, parameters))
        }
        "HardSwish" => plain(Function::HardSwish),
        "IsInf" => {
            only(node, &["detect_positive", "detect_negative"])?;
            let counts = |name| flag(node, name, true).map(|on| f32::from(u8::from(on)));
            let parameters = [counts("detect_positive")?, counts("detect_negative")?];
            Ok((Function::IsInf, parameters))
        }
        "IsNaN" => plain(Function::IsNan),
        "LeakyRelu" => alpha(Function::LeakyRelu, 0.01),
        "Log" => plain(Function::Log),
        "Mish" => plain(Function::Mish),
        "Neg" => plain(Function::Neg),
        "Not" => plain(Function::Not),
        "Reciprocal" => plain(Function::Reciprocal),
        "Relu" => plain(Function::Relu),
        "Round" => plain(Function::Round),
        "Selu" => {
            only(node, &["alpha", "gamma"])?;
            let parameters = [node.float("alpha", 1.673_263_2), node.float("gamma", 1.050_701)];
            Ok((Function::Selu, parameters))
        }
        "Shrink" => {
            only(node, &["lambd", "bias"])?;
            let parameters = [node.float("lambd", 0.5), node.float("bias", 0.0)];
            Ok((Function::Shrink, parameters))
        }
        "Sigmoid" => plain(Function::Sigmoid),
        "Sign" => plain(Function::Sign),
        "Silu" => only(node, &[]).map(|()| (Function::Swish, [1.0, 0.0])),
        "Sin" => plain(Function::Sin),
        "Sinh" => plain(Function::Sinh),
        "Softplus" => plain(Function::Softplus),
        "Softsign" => plain(Function::Softsign),
        "Sqrt" => plain(Function::Sqrt),
        "Swish" => alpha(Function::Swish, 1.0),
        "Tan" => plain(Function::Tan),
        "Tanh" => plain(Function::Tanh),
        "ThresholdedRelu" => alpha(Function::ThresholdedRelu, 1.0),
        other => Err(format!("'{other}' is not a function of one operand")),
    }
}

impl Operator for Unary {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        Ok(vec![TensorType::new(
            self.function.output(self.dtype),
            x.shape().clone(),
        )])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(x)] = inputs else {
            return Err(format!("one input expected, {} given", inputs.len()));
        };
        let output = self.function.output(self.dtype);
        let result = if self.dtype.is_float() {
            let [p, q] = self.parameters.map(f64::from);
            let values = floats(x)?.into_iter().map(|x| self.function.of_float(x, p, q));
            if output == DType::Bool {
                bool_tensor(x.shape(), values.map(|y| y != 0.0))
            } else {
                float_tensor(x.shape(), values)
            }
        } else {
            let values = integers(x)?.into_iter().map(|x| self.function.of_integer(x));
            integer_tensor(output, x.shape(), values)
        };
        Ok(vec![result])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let input = emitter.read(0);
        let output = emitter.write(0);
        emit(
            emitter,
            self.function,
            self.parameters,
            self.dtype,
            &shape,
            input,
            output,
        )
    }
}

/// Records `output = function(input)` over dense tensors of this shape.
pub(in crate::ops) fn emit(
    emitter: &mut Emitter<'_>,
    function: Function,
    parameters: [f32; 2],
    dtype: DType,
    shape: &[usize],
    input: Arg,
    output: Arg,
) -> Result<(), Reason> {
    let map = Map {
        source: SOURCE,
        options: vec![
            format!("-DFUNCTION={}", function.macro_name(dtype)),
            format!("-DFIRST={}", cl_name(dtype)?),
            format!("-DRESULT={}", cl_name(function.output(dtype))?),
        ],
        parameters,
    };
    let operands = [(input.clone(), shape), (input.clone(), shape), (input, shape)];
    map.emit(emitter, (output, shape), operands)
}

/// OpenCL C's name of a type that kernels calculate with.
pub(in crate::ops) fn cl_name(dtype: DType) -> Result<&'static str, Reason> {
    dtype
        .cl_name()
        .ok_or_else(|| format!("kernels do not calculate with {dtype}"))
}

#[cfg(test)]
mod tests;
