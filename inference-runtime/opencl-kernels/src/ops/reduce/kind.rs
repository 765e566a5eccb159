//! The kinds of reductions: their names here and in `reduce.cl`, their types, their references.

use crate::ops::elementwise::numbers::INTEGERS;
use crate::tensor::DType;

/// What a set of numbers is reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    L1,
    L2,
    LogSum,
    LogSumExp,
    Max,
    Mean,
    Min,
    Prod,
    Sum,
    SumSquare,
}

impl Kind {
    /// The kind that an operator names.
    pub(super) fn of(op_type: &str) -> Option<Self> {
        Some(match op_type {
            "ReduceL1" => Self::L1,
            "ReduceL2" => Self::L2,
            "ReduceLogSum" => Self::LogSum,
            "ReduceLogSumExp" => Self::LogSumExp,
            "ReduceMax" => Self::Max,
            "ReduceMean" => Self::Mean,
            "ReduceMin" => Self::Min,
            "ReduceProd" => Self::Prod,
            "ReduceSum" => Self::Sum,
            "ReduceSumSquare" => Self::SumSquare,
            _ => return None,
        })
    }

    /// The value of macro `KIND` of `reduce.cl`.
    pub(super) fn macro_name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::LogSum => "LOG_SUM",
            Self::LogSumExp => "LOG_SUM_EXP",
            Self::Max => "MAX",
            Self::Mean => "MEAN",
            Self::Min => "MIN",
            Self::Prod => "PROD",
            Self::Sum => "SUM",
            Self::SumSquare => "SUM_SQUARE",
        }
    }

    /// Whether there is a kernel for elements of this type.
    pub(super) fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::L1 | Self::Mean | Self::Prod | Self::Sum | Self::SumSquare => {
                dtype == DType::F32 || INTEGERS.contains(&dtype)
            }
            Self::Max | Self::Min => matches!(dtype, DType::F32 | DType::Bool) || INTEGERS.contains(&dtype),
            Self::L2 | Self::LogSum | Self::LogSumExp => dtype == DType::F32,
        }
    }

    /// Whether terms are added.
    pub(super) fn is_sum(self) -> bool {
        !matches!(self, Self::Max | Self::Min | Self::Prod)
    }

    /// The reduction of floats. Nothing reduces to what ONNX says: 0, 1, or an infinity; the mean of nothing is 0, as
    /// ONNX Runtime has it.
    pub(super) fn of_floats(self, values: &[f64]) -> f64 {
        let sum = |term: fn(f64) -> f64| values.iter().copied().map(term).sum::<f64>();
        let extreme = |better: fn(f64, f64) -> bool, worst: f64| {
            values
                .iter()
                .copied()
                .fold(worst, |a, b| if a.is_nan() || better(a, b) { a } else { b })
        };
        match self {
            Self::L1 => sum(f64::abs),
            Self::L2 => sum(|v| v * v).sqrt(),
            Self::LogSum => sum(|v| v).ln(),
            Self::LogSumExp => {
                let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let shift = if largest.is_finite() { largest } else { 0.0 };
                shift + values.iter().map(|v| (v - shift).exp()).sum::<f64>().ln()
            }
            Self::Max => extreme(|a, b| a > b, f64::NEG_INFINITY),
            Self::Mean if values.is_empty() => 0.0,
            Self::Mean => sum(|v| v) / values.len() as f64,
            Self::Min => extreme(|a, b| a < b, f64::INFINITY),
            Self::Prod => values.iter().product(),
            Self::Sum => sum(|v| v),
            Self::SumSquare => sum(|v| v * v),
        }
    }

    /// The reduction of integers of a type with these limits; the caller wraps the result into the type. A mean is
    /// truncated.
    pub(super) fn of_integers(self, values: &[i128], (lowest, highest): (i128, i128)) -> i128 {
        let wrap = |a: i128, b: i128| a.wrapping_add(b);
        match self {
            Self::L1 => values.iter().map(|v| v.abs()).fold(0, wrap),
            Self::Max => values.iter().copied().fold(lowest, i128::max),
            Self::Min => values.iter().copied().fold(highest, i128::min),
            Self::Mean => {
                // The device's sum has wrapped when it is divided.
                let range = highest - lowest + 1;
                let sum = (values.iter().copied().fold(0, wrap) - lowest).rem_euclid(range) + lowest;
                sum.checked_div(values.len() as i128).unwrap_or(0)
            }
            Self::Prod => values.iter().fold(1, |a, b| a.wrapping_mul(*b)),
            Self::Sum => values.iter().copied().fold(0, wrap),
            Self::SumSquare => values.iter().map(|v| v.wrapping_mul(*v)).fold(0, wrap),
            Self::L2 | Self::LogSum | Self::LogSumExp => unreachable!("{self:?} accepts no integers"),
        }
    }
}

/// The lowest and highest number of an integer type, or false and true.
pub(super) fn limits(dtype: DType) -> (i128, i128) {
    let bits = 8 * dtype.size() as u32;
    match dtype {
        DType::Bool => (0, 1),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (0, (1 << bits) - 1),
        _ => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
    }
}

/// OpenCL C's names of the lowest and highest number of a type.
pub(super) fn limit_names(dtype: DType) -> [&'static str; 2] {
    match dtype {
        DType::I8 => ["CHAR_MIN", "CHAR_MAX"],
        DType::I16 => ["SHRT_MIN", "SHRT_MAX"],
        DType::I32 => ["INT_MIN", "INT_MAX"],
        DType::I64 => ["LONG_MIN", "LONG_MAX"],
        DType::U8 => ["0", "UCHAR_MAX"],
        DType::U16 => ["0", "USHRT_MAX"],
        DType::U32 => ["0", "UINT_MAX"],
        DType::U64 => ["0", "ULONG_MAX"],
        DType::Bool => ["0", "1"],
        DType::F32 | DType::F16 | DType::BF16 | DType::F64 => ["-INFINITY", "INFINITY"],
    }
}
