//! Activations that a matrix product or a convolution applies to what it is about to store.
//!
//! They exist in fused nodes only; a model's own `Relu`, `Clip`, … are operators of `ops::elementwise`.

use crate::ops::NodeView;

/// An element-wise function at the end of a kernel; `epilogue.cl` holds the device's side of it.
///
/// Every one of them hands a NaN on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ops) enum Activation {
    /// x
    None,
    /// max(x, 0)
    Relu,
    /// x/2 · (1 + erf(x/√2))
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))
    GeluTanh,
    /// tanh(x)
    Tanh,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// x / (1 + e⁻ˣ)
    Silu,
    /// x · min(max(x + 3, 0), 6) / 6
    HardSwish,
    /// min(max(x, min), max)
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound; wins over the lower one, as ONNX's Clip says.
        max: f32,
    },
    /// x for x ≥ 0, else `alpha` x
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
}

/// Names of the attributes that [`Activation::parse`] reads.
pub(in crate::ops) const ACTIVATION_ATTRIBUTES: [&str; 4] =
    ["activation", "clip_min", "clip_max", "leaky_alpha"];

impl Activation {
    /// Reads a fused node's `activation` (absent means none) and its parameters.
    pub(in crate::ops) fn parse(node: &NodeView<'_>) -> Result<Self, String> {
        let parameter = |name: &str| {
            node.attributes()
                .float(name)
                .ok_or_else(|| format!("attribute '{name}' is missing"))
        };
        Ok(match node.attributes().string("activation").unwrap_or("None") {
            "None" => Self::None,
            "Relu" => Self::Relu,
            "Gelu" => Self::Gelu,
            "GeluTanh" => Self::GeluTanh,
            "Tanh" => Self::Tanh,
            "Sigmoid" => Self::Sigmoid,
            "Silu" => Self::Silu,
            "HardSwish" => Self::HardSwish,
            "Clip" => Self::Clip {
                min: parameter("clip_min")?,
                max: parameter("clip_max")?,
            },
            "LeakyRelu" => Self::LeakyRelu {
                alpha: parameter("leaky_alpha")?,
            },
            other => return Err(format!("activation '{other}' is not known")),
        })
    }

    /// The build option that selects it: one program per activation, parameters are arguments.
    pub(in crate::ops) fn option(self) -> String {
        let code = match self {
            Self::None => 0,
            Self::Relu => 1,
            Self::Gelu => 2,
            Self::GeluTanh => 3,
            Self::Tanh => 4,
            Self::Sigmoid => 5,
            Self::Silu => 6,
            Self::HardSwish => 7,
            Self::Clip { .. } => 8,
            Self::LeakyRelu { .. } => 9,
        };
        format!("-DACT={code}")
    }

    /// The two kernel arguments `act_p` and `act_q`.
    pub(in crate::ops) fn parameters(self) -> [f32; 2] {
        match self {
            Self::Clip { min, max } => [min, max],
            Self::LeakyRelu { alpha } => [alpha, 0.0],
            _ => [0.0, 0.0],
        }
    }

    /// The reference, in double precision.
    pub(in crate::ops) fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Self::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::Tanh => x.tanh(),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
            Self::HardSwish => {
                let gate = if x < -3.0 {
                    0.0
                } else if x > 3.0 {
                    6.0
                } else {
                    x + 3.0
                };
                x * gate / 6.0
            }
            Self::Clip { min, max } => {
                let above = if x < f64::from(min) { f64::from(min) } else { x };
                if above > f64::from(max) {
                    f64::from(max)
                } else {
                    above
                }
            }
            Self::LeakyRelu { alpha } => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
        }
    }
}

/// The error function, by its series (small arguments) or its continued fraction (large ones); about 1e-15.
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let (magnitude, sign) = (x.abs(), x.signum());
    if magnitude < 2.5 {
        // 2/√π · e^(-x²) · Σ (2x²)ⁿ x / (1·3·5…(2n+1)): all terms positive, nothing cancels.
        let mut term = magnitude;
        let mut sum = term;
        for n in 1..100 {
            term *= 2.0 * x * x / f64::from(2 * n + 1);
            sum += term;
        }
        return sign * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum;
    }
    if magnitude > 6.0 {
        return sign;
    }
    // erfc(x) = e^(-x²)/√π · 1/(x + (1/2)/(x + 1/(x + (3/2)/(x + …))))
    let fraction = (1..=200)
        .rev()
        .fold(magnitude, |tail, n| magnitude + f64::from(n) * 0.5 / tail);
    sign * (1.0 - (-x * x).exp() / (std::f64::consts::PI.sqrt() * fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_published_values() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (2.5, 0.999_593_047_982_555),
            (3.0, 0.999_977_909_503_001_4),
            (-1.0, -0.842_700_792_949_714_9),
            (7.0, 1.0),
        ] {
            let got = erf(x);
            assert!((got - expected).abs() < 1e-14, "erf({x}) = {got}");
        }
    }

    #[test]
    fn every_activation_hands_nan_on() {
        for activation in [
            Activation::None,
            Activation::Relu,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Tanh,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::HardSwish,
            Activation::Clip { min: -1.0, max: 1.0 },
            Activation::LeakyRelu { alpha: 0.1 },
        ] {
            assert!(activation.apply(f64::NAN).is_nan(), "{activation:?}");
        }
    }
}
