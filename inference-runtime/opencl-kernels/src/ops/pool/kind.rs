//! What becomes of the elements under a window.

/// How elements are joined into one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// The largest; a NaN wins.
    Max,
    /// The mean.
    Average {
        /// Whether padding counts as elements of value 0.
        count_padding: bool,
    },
    /// (Σ|x|ᵖ)^(1/p)
    Norm {
        /// Exponent.
        p: f32,
    },
}

impl Kind {
    /// The build option that selects it.
    pub(super) fn option(self) -> String {
        let code = match self {
            Self::Max => 1,
            Self::Average { .. } => 2,
            Self::Norm { .. } => 3,
        };
        format!("-DPOOL={code}")
    }

    /// The kernel argument `p`.
    pub(super) fn exponent(self) -> f32 {
        match self {
            Self::Norm { p } => p,
            Self::Max | Self::Average { .. } => 1.0,
        }
    }

    /// The reference: joins the elements of one window, of which padding makes `counted` in all.
    pub(super) fn join(self, elements: &[f32], counted: usize) -> f64 {
        let numbers = elements.iter().map(|&v| f64::from(v));
        match self {
            Self::Max => {
                if elements.iter().any(|v| v.is_nan()) {
                    return f64::NAN;
                }
                // A window that holds nothing: as ONNX Runtime answers.
                numbers.reduce(f64::max).unwrap_or(f64::from(f32::MIN))
            }
            Self::Average { count_padding } => {
                let count = if count_padding { counted } else { elements.len() };
                // A window that holds nothing (its taps step over a short axis): as ONNX Runtime answers.
                if count == 0 {
                    return 0.0;
                }
                numbers.sum::<f64>() / count as f64
            }
            Self::Norm { p } => numbers
                .map(|v| v.abs().powf(f64::from(p)))
                .sum::<f64>()
                .powf(1.0 / f64::from(p)),
        }
    }
}
