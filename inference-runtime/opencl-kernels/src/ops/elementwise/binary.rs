//! Functions of two operands with broadcasting.

use super::attributes::only;
use super::broadcast::{broadcast, broadcasts_to, positions};
use super::function::Function;
use super::map::Map;
use super::numbers::{bool_tensor, float_tensor, floats, integer_tensor, integers};
use super::operation::Operation;
use super::unary::{self, cl_name};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "binary.cl",
    text: concat!(include_str!("binary.cl"), include_str!("broadcast.cl")),
};

/// An operation on elements of two types.
#[derive(Debug, Clone, PartialEq)]
struct Binary {
    operation: Operation,
    first: DType,
    second: DType,
}

/// Lowers every operator that is a function of two operands.
pub(super) fn construct(node: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let operation = parse(node)?;
    let (first, second) = (node.dtype(0)?, node.dtype(1)?);
    if !operation.accepts(first, second) {
        return Err(format!("inputs are {first} and {second}"));
    }
    Ok(Box::new(Binary {
        operation,
        first,
        second,
    }))
}

fn parse(node: &NodeView<'_>) -> Result<Operation, String> {
    let op_type = node.node().op_type.as_str();
    let known: &[&str] = match op_type {
        "Mod" => &["fmod"],
        "BitShift" => &["direction"],
        _ => &[],
    };
    only(node, known)?;
    Ok(match op_type {
        "Add" => Operation::Add,
        "And" => Operation::And,
        "BitShift" => match node.attributes().string("direction") {
            Some("LEFT") => Operation::ShiftLeft,
            Some("RIGHT") => Operation::ShiftRight,
            other => return Err(format!("direction is {other:?}")),
        },
        "BitwiseAnd" => Operation::BitwiseAnd,
        "BitwiseOr" => Operation::BitwiseOr,
        "BitwiseXor" => Operation::BitwiseXor,
        "Div" => Operation::Div,
        "Equal" => Operation::Equal,
        "Greater" => Operation::Greater,
        "GreaterOrEqual" => Operation::GreaterOrEqual,
        "Less" => Operation::Less,
        "LessOrEqual" => Operation::LessOrEqual,
        "Mod" => match node.int("fmod", 0) {
            0 if node.node().since_version < 28 && node.dtype(0)?.is_float() => {
                return Err("floats need fmod = 1".to_owned());
            }
            0 => Operation::FloorMod,
            1 => Operation::FMod,
            other => return Err(format!("fmod is {other}, neither 0 nor 1")),
        },
        "Mul" => Operation::Mul,
        "Or" => Operation::Or,
        "Pow" => Operation::Pow,
        "PRelu" => Operation::PRelu,
        "Sub" => Operation::Sub,
        "Xor" => Operation::Xor,
        other => return Err(format!("'{other}' is not a function of two operands")),
    })
}

impl Operator for Binary {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let [Some(a), Some(b)] = inputs else {
            return Err(format!("two inputs expected, {} given", inputs.len()));
        };
        if self.operation == Operation::PRelu {
            broadcasts_to(b.shape(), a.shape(), "slope")?;
        }
        let shape = broadcast(&[a.shape(), b.shape()])?;
        Ok(vec![TensorType::new(self.operation.output(self.first), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let [Some(a), Some(b)] = inputs else {
            return Err(format!("two inputs expected, {} given", inputs.len()));
        };
        Ok(vec![evaluate(self.operation, 1.0, a, b)?])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let shape = emitter.output_type(0).shape.clone();
        let shapes = [0, 1].map(|i| emitter.input_type(i).shape.clone());
        let [a, b] = [0, 1].map(|i| emitter.read(i));
        let output = emitter.write(0);
        if let Some(function) = self.power(emitter)
            && shapes[0] == shape
        {
            return unary::emit(emitter, function, [0.0; 2], self.first, &shape, a, output);
        }
        let launch = Launch {
            operation: self.operation,
            types: (self.first, self.second),
            parameter: 0.0,
        };
        launch.emit(emitter, (output, &shape), [(a, &shapes[0]), (b, &shapes[1])])
    }
}

impl Binary {
    /// The product that a power with a known exponent comes to; exact where `pow` may be some units off, and cheaper.
    fn power(&self, emitter: &Emitter<'_>) -> Option<Function> {
        if self.operation != Operation::Pow || self.first != DType::F32 {
            return None;
        }
        let exponent = emitter.input(1)?.known?;
        let value = match exponent.to_i64() {
            Some(values) => values.first().copied()? as f64,
            None => f64::from(exponent.to_f32()?.first().copied()?),
        };
        let is_one_element = exponent.ty().elements() == 1;
        match value {
            2.0 if is_one_element => Some(Function::Square),
            3.0 if is_one_element => Some(Function::Cube),
            _ => None,
        }
    }
}

/// One launch of `binary.cl`.
#[derive(Debug, Clone, Copy)]
pub(in crate::ops) struct Launch {
    /// What to calculate.
    pub(in crate::ops) operation: Operation,
    /// The operands' element types.
    pub(in crate::ops) types: (DType, DType),
    /// `p` of [`Operation::ScaledSum`]
    pub(in crate::ops) parameter: f32,
}

impl Launch {
    /// A launch over float32 operands.
    pub(in crate::ops) fn of_floats(operation: Operation) -> Self {
        Self {
            operation,
            types: (DType::F32, DType::F32),
            parameter: 0.0,
        }
    }

    /// Records `output = operation(a, b)`; `output` may be one of the operands that has the output's shape.
    pub(in crate::ops) fn emit(
        self,
        emitter: &mut Emitter<'_>,
        output: (Arg, &[usize]),
        [a, b]: [(Arg, &[usize]); 2],
    ) -> Result<(), Reason> {
        let (first, second) = self.types;
        let result = self.operation.output(first);
        let mut options = vec![
            format!("-DFUNCTION={}", self.operation.macro_name(first)),
            format!("-DFIRST={}", cl_name(first)?),
            format!("-DSECOND={}", cl_name(second)?),
            format!("-DRESULT={}", cl_name(result)?),
        ];
        if !first.is_float() {
            options.push("-DINTEGERS".to_owned());
        }
        let map = Map {
            source: SOURCE,
            options,
            parameters: [self.parameter, 0.0],
        };
        let unused = a.clone();
        map.emit(emitter, output, [a, b, unused])
    }
}

/// The reference of one operation; `p` as for [`Operation::of_floats`].
pub(super) fn evaluate(
    operation: Operation,
    p: f64,
    a: &HostTensor,
    b: &HostTensor,
) -> Result<HostTensor, Reason> {
    let shape = broadcast(&[a.shape(), b.shape()])?;
    let places = positions(&shape, a.shape()).zip(positions(&shape, b.shape()));
    let output = operation.output(a.dtype());
    if a.dtype().is_float() {
        let a = floats(a)?;
        let b = if b.dtype().is_float() {
            floats(b)?
        } else {
            integers(b)?.into_iter().map(|b| b as f64).collect()
        };
        let values = places.map(|(i, j)| operation.of_floats(a[i], b[j], p));
        Ok(if output == DType::Bool {
            bool_tensor(shape.clone(), values.map(|y| y != 0.0))
        } else {
            float_tensor(shape.clone(), values)
        })
    } else {
        let bits = 8 * a.dtype().size() as u32;
        let (a, b) = (integers(a)?, integers(b)?);
        let values = places.map(|(i, j)| operation.of_integers(a[i], b[j], bits));
        Ok(integer_tensor(output, shape.clone(), values))
    }
}

#[cfg(test)]
mod tests;
