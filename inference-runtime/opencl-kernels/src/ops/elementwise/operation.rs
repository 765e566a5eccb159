//! Functions of two numbers: their names here and in `binary.cl`, their types, their references.

use super::numbers::INTEGERS;
use crate::tensor::DType;

/// A function of two numbers.
///
/// What the ONNX operator spec leaves open is as ONNX Runtime's CPU kernels have it, but for integer divisions by
/// zero, which give 0 where that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ops) enum Operation {
    Add,
    And,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    /// Integers truncate.
    Div,
    Equal,
    /// The remainder with the divisor's sign
    FloorMod,
    /// The remainder with the dividend's sign
    FMod,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    /// NaN wins.
    Max,
    /// NaN wins.
    Min,
    Mul,
    Or,
    Pow,
    PRelu,
    /// (a + b) · p
    ScaledSum,
    ShiftLeft,
    ShiftRight,
    Sub,
    Xor,
}

impl Operation {
    /// The macro of `binary.cl` for elements of this type.
    pub(in crate::ops) fn macro_name(self, dtype: DType) -> &'static str {
        let float = dtype.is_float();
        match self {
            Self::Add => "ADD",
            Self::And => "AND",
            Self::BitwiseAnd => "BITWISE_AND",
            Self::BitwiseOr => "BITWISE_OR",
            Self::BitwiseXor => "BITWISE_XOR",
            Self::Div if float => "DIV",
            Self::Div => "DIV_INTEGER",
            Self::Equal => "EQUAL",
            Self::FloorMod if float => "FLOOR_MOD",
            Self::FloorMod => "FLOOR_MOD_INTEGER",
            Self::FMod if float => "FMOD",
            Self::FMod => "FMOD_INTEGER",
            Self::Greater => "GREATER",
            Self::GreaterOrEqual => "GREATER_OR_EQUAL",
            Self::Less => "LESS",
            Self::LessOrEqual => "LESS_OR_EQUAL",
            Self::Max => "MAX",
            Self::Min => "MIN",
            Self::Mul => "MUL",
            Self::Or => "OR",
            Self::Pow if float => "POW",
            Self::Pow => "POW_INTEGER",
            Self::PRelu => "PRELU",
            Self::ScaledSum => "SCALED_SUM",
            Self::ShiftLeft => "SHIFT_LEFT",
            Self::ShiftRight => "SHIFT_RIGHT",
            Self::Sub => "SUB",
            Self::Xor => "XOR",
        }
    }

    /// Whether there is a kernel for operands of these types.
    pub(in crate::ops) fn accepts(self, first: DType, second: DType) -> bool {
        let integers = INTEGERS.contains(&first);
        let numbers = integers || first == DType::F32;
        let unsigned = matches!(first, DType::U8 | DType::U16 | DType::U32 | DType::U64);
        match self {
            // A power of an integer by a float would be calculated in double precision, which the device lacks.
            Self::Pow if first == DType::F32 => second == DType::F32 || INTEGERS.contains(&second),
            Self::Pow => integers && INTEGERS.contains(&second),
            _ if first != second => false,
            Self::And | Self::Or | Self::Xor => first == DType::Bool,
            Self::BitwiseAnd | Self::BitwiseOr | Self::BitwiseXor => integers,
            Self::ShiftLeft | Self::ShiftRight => unsigned,
            Self::Equal => numbers || first == DType::Bool,
            Self::ScaledSum => first == DType::F32,
            Self::Add
            | Self::Div
            | Self::FloorMod
            | Self::FMod
            | Self::Greater
            | Self::GreaterOrEqual
            | Self::Less
            | Self::LessOrEqual
            | Self::Max
            | Self::Min
            | Self::Mul
            | Self::PRelu
            | Self::Sub => numbers,
        }
    }

    /// The type of the result.
    pub(in crate::ops) fn output(self, first: DType) -> DType {
        match self {
            Self::Equal | Self::Greater | Self::GreaterOrEqual | Self::Less | Self::LessOrEqual => {
                DType::Bool
            }
            _ => first,
        }
    }

    /// The function of two floats; predicates give 1 or 0.
    pub(in crate::ops) fn of_floats(self, a: f64, b: f64, p: f64) -> f64 {
        let truth = |condition: bool| f64::from(u8::from(condition));
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::FMod => a % b,
            Self::FloorMod => {
                let remainder = a % b;
                if remainder == 0.0 {
                    0.0_f64.copysign(b)
                } else if (remainder < 0.0) == (b < 0.0) {
                    remainder
                } else {
                    remainder + b
                }
            }
            Self::PRelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
            Self::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Self::ScaledSum => (a + b) * p,
            #[expect(clippy::float_cmp, reason = "Equal is exact")]
            Self::Equal => truth(a == b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            _ => unreachable!("{self:?} accepts no floats"),
        }
    }

    /// The function of two integers or bools; the caller wraps the result into the type, `bits` wide.
    pub(in crate::ops) fn of_integers(self, a: i128, b: i128, bits: u32) -> i128 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a.wrapping_mul(b),
            Self::Div => a.checked_div(b).unwrap_or(0),
            Self::FMod => a.checked_rem(b).unwrap_or(0),
            Self::FloorMod => {
                let remainder = a.checked_rem(b).unwrap_or(0);
                if remainder != 0 && (remainder < 0) != (b < 0) {
                    remainder + b
                } else {
                    remainder
                }
            }
            Self::Pow => power(a, b),
            Self::PRelu => {
                if a < 0 {
                    a * b
                } else {
                    a
                }
            }
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::And => i128::from(a != 0 && b != 0),
            Self::Or => i128::from(a != 0 || b != 0),
            Self::Xor => i128::from((a != 0) != (b != 0)),
            Self::Equal => i128::from(a == b),
            Self::Greater => i128::from(a > b),
            Self::GreaterOrEqual => i128::from(a >= b),
            Self::Less => i128::from(a < b),
            Self::LessOrEqual => i128::from(a <= b),
            Self::BitwiseAnd => a & b,
            Self::BitwiseOr => a | b,
            Self::BitwiseXor => a ^ b,
            Self::ShiftLeft | Self::ShiftRight if b >= i128::from(bits) => 0,
            Self::ShiftLeft => a << b,
            Self::ShiftRight => a >> b,
            Self::ScaledSum => unreachable!("means are of floats"),
        }
    }
}

/// a^b, wrapping; a negative power is a fraction, of which truncation leaves something for 1 and -1 only.
fn power(mut a: i128, mut b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b.abs() % 2),
            _ => 0,
        };
    }
    let mut result = 1_i128;
    while b > 0 {
        if b % 2 == 1 {
            result = result.wrapping_mul(a);
        }
        a = a.wrapping_mul(a);
        b /= 2;
    }
    result
}
