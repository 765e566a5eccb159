//! Functions of one number: their names here and in `unary.cl`, their types, their references.

use super::erf::erf;
use super::numbers::{INTEGERS, is_signed};
use crate::tensor::DType;

/// A function of one number and up to two parameters `p` and `q`.
///
/// Formulas are those of the ONNX operator spec; what it leaves open (NaN, infinities) is as ONNX Runtime's CPU
/// kernels have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ops) enum Function {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    BitwiseNot,
    Ceil,
    /// p = alpha
    Celu,
    Cos,
    Cosh,
    /// x³
    Cube,
    /// p = alpha
    Elu,
    Erf,
    Exp,
    Floor,
    Gelu,
    GeluTanh,
    /// p = alpha, q = beta
    HardSigmoid,
    HardSwish,
    /// p: whether +∞ counts, q: whether −∞ counts
    IsInf,
    IsNan,
    /// p = alpha
    LeakyRelu,
    Log,
    Mish,
    Neg,
    Not,
    Reciprocal,
    Relu,
    /// Half to even
    Round,
    /// p = alpha, q = gamma
    Selu,
    /// p = lambd, q = bias
    Shrink,
    Sigmoid,
    Sign,
    Sin,
    Sinh,
    Softplus,
    Softsign,
    Sqrt,
    /// x²
    Square,
    /// p = alpha
    Swish,
    Tan,
    Tanh,
    /// p = alpha
    ThresholdedRelu,
}

impl Function {
    /// The macro of `unary.cl` for elements of this type.
    pub(in crate::ops) fn macro_name(self, dtype: DType) -> &'static str {
        match self {
            Self::Abs if dtype.is_float() => "ABS",
            Self::Abs => "ABS_INTEGER",
            Self::Acos => "ACOS",
            Self::Acosh => "ACOSH",
            Self::Asin => "ASIN",
            Self::Asinh => "ASINH",
            Self::Atan => "ATAN",
            Self::Atanh => "ATANH",
            Self::BitwiseNot => "BITWISE_NOT",
            Self::Ceil => "CEIL",
            Self::Celu => "CELU",
            Self::Cos => "COS",
            Self::Cosh => "COSH",
            Self::Cube => "CUBE",
            Self::Elu => "ELU",
            Self::Erf => "ERF",
            Self::Exp => "EXP",
            Self::Floor => "FLOOR",
            Self::Gelu => "GELU",
            Self::GeluTanh => "GELU_TANH",
            Self::HardSigmoid => "HARD_SIGMOID",
            Self::HardSwish => "HARD_SWISH",
            Self::IsInf => "IS_INF",
            Self::IsNan => "IS_NAN",
            Self::LeakyRelu => "LEAKY_RELU",
            Self::Log => "LOG",
            Self::Mish => "MISH",
            Self::Neg => "NEG",
            Self::Not => "NOT",
            Self::Reciprocal => "RECIPROCAL",
            Self::Relu => "RELU",
            Self::Round => "ROUND",
            Self::Selu => "SELU",
            Self::Shrink => "SHRINK",
            Self::Sigmoid => "SIGMOID",
            Self::Sign => "SIGN",
            Self::Sin => "SIN",
            Self::Sinh => "SINH",
            Self::Softplus => "SOFTPLUS",
            Self::Softsign => "SOFTSIGN",
            Self::Sqrt => "SQRT",
            Self::Square => "SQUARE",
            Self::Swish => "SWISH",
            Self::Tan => "TAN",
            Self::Tanh => "TANH",
            Self::ThresholdedRelu => "THRESHOLDED_RELU",
        }
    }

    /// Whether there is a kernel for elements of this type.
    pub(in crate::ops) fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Abs | Self::Sign => dtype == DType::F32 || INTEGERS.contains(&dtype),
            Self::Neg | Self::Relu => dtype == DType::F32 || (INTEGERS.contains(&dtype) && is_signed(dtype)),
            Self::BitwiseNot => INTEGERS.contains(&dtype),
            Self::Not => dtype == DType::Bool,
            _ => dtype == DType::F32,
        }
    }

    /// The type of the result.
    pub(in crate::ops) fn output(self, dtype: DType) -> DType {
        match self {
            Self::IsNan | Self::IsInf | Self::Not => DType::Bool,
            _ => dtype,
        }
    }

    /// The function of a float; predicates give 1 or 0.
    pub(in crate::ops) fn of_float(self, x: f64, p: f64, q: f64) -> f64 {
        let truth = |condition: bool| f64::from(u8::from(condition));
        match self {
            Self::Abs => x.abs(),
            Self::Acos => x.acos(),
            Self::Acosh => x.acosh(),
            Self::Asin => x.asin(),
            Self::Asinh => x.asinh(),
            Self::Atan => x.atan(),
            Self::Atanh => x.atanh(),
            Self::Ceil => x.ceil(),
            Self::Celu => {
                if x > 0.0 {
                    x
                } else {
                    p * (x / p).exp_m1()
                }
            }
            Self::Cos => x.cos(),
            Self::Cosh => x.cosh(),
            Self::Cube => x * x * x,
            Self::Elu => {
                if x < 0.0 {
                    p * x.exp_m1()
                } else {
                    x
                }
            }
            Self::Erf => erf(x),
            Self::Exp => x.exp(),
            Self::Floor => x.floor(),
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::HardSigmoid => (p * x + q).clamp(0.0, 1.0),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::IsInf => truth((p != 0.0 && x == f64::INFINITY) || (q != 0.0 && x == f64::NEG_INFINITY)),
            Self::IsNan => truth(x.is_nan()),
            Self::LeakyRelu => {
                if x < 0.0 {
                    p * x
                } else {
                    x
                }
            }
            Self::Log => x.ln(),
            Self::Mish => x * softplus(x).tanh(),
            Self::Neg => -x,
            Self::Not | Self::BitwiseNot => unreachable!("no floats are accepted"),
            Self::Reciprocal => 1.0 / x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Round => x.round_ties_even(),
            Self::Selu => q * if x > 0.0 { x } else { p * x.exp_m1() },
            Self::Shrink => {
                if x < -p {
                    x + q
                } else if x > p {
                    x - q
                } else {
                    0.0
                }
            }
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else if x == 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Sin => x.sin(),
            Self::Sinh => x.sinh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Sqrt => x.sqrt(),
            Self::Square => x * x,
            Self::Swish => x / (1.0 + (-p * x).exp()),
            Self::Tan => x.tan(),
            Self::Tanh => x.tanh(),
            Self::ThresholdedRelu => {
                if x > p {
                    x
                } else {
                    0.0
                }
            }
        }
    }

    /// The function of an integer or a bool; the caller wraps the result into the type.
    pub(in crate::ops) fn of_integer(self, x: i128) -> i128 {
        match self {
            Self::Abs => x.abs(),
            Self::Neg => -x,
            Self::Sign => x.signum(),
            Self::Relu => x.max(0),
            Self::BitwiseNot => !x,
            Self::Not => i128::from(x == 0),
            _ => unreachable!("{self:?} accepts no integers"),
        }
    }
}

fn softplus(x: f64) -> f64 {
    if x > 0.0 {
        x + (-x).exp().ln_1p()
    } else {
        x.exp().ln_1p()
    }
}
