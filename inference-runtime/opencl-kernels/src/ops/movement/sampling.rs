//! Where a resized axis takes its elements from: ONNX's coordinates, filters and roundings, calculated in float32 in
//! ORT's order of operations, because a nearest neighbour at the edge between two elements depends on it.

/// How a coordinate of the output becomes one of the input (`coordinate_transformation_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    TfHalfPixelForNn,
    AlignCorners,
    Asymmetric,
}

impl Coordinates {
    pub(super) fn named(name: &str, version: i32) -> Result<Self, String> {
        Ok(match name {
            "half_pixel" => Self::HalfPixel,
            "half_pixel_symmetric" if version >= 19 => Self::HalfPixelSymmetric,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "tf_half_pixel_for_nn" if version < 13 => Self::TfHalfPixelForNn,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            _ => return Err(format!("coordinate transformation '{name}'")),
        })
    }

    /// The place in an axis of `length` elements that element `at` of the resized axis comes from.
    fn original(self, at: usize, axis: &Resized) -> f32 {
        let (at, scale) = (at as f32, axis.scale);
        let (length, resized) = (axis.before as f32, axis.after as f32);
        match self {
            Self::HalfPixel => (at + 0.5) / scale - 0.5,
            Self::HalfPixelSymmetric => {
                let adjustment = resized / (scale * length);
                length / 2.0 * (1.0 - adjustment) + (at + 0.5) / scale - 0.5
            }
            Self::PytorchHalfPixel if axis.after > 1 => (at + 0.5) / scale - 0.5,
            Self::TfHalfPixelForNn => (at + 0.5) / scale,
            Self::AlignCorners if axis.after > 1 => at * (length - 1.0) / (resized - 1.0),
            Self::PytorchHalfPixel | Self::AlignCorners => 0.0,
            Self::Asymmetric => at / scale,
        }
    }
}

/// Which of the two nearest elements is taken (`nearest_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
    /// Before version 11: up when the axis shrinks, else down.
    Simple,
}

impl Nearest {
    pub(super) fn named(name: &str) -> Result<Self, String> {
        Ok(match name {
            "round_prefer_floor" => Self::RoundPreferFloor,
            "round_prefer_ceil" => Self::RoundPreferCeil,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            _ => return Err(format!("nearest mode '{name}'")),
        })
    }

    fn round(self, place: f32, shrinks: bool) -> f32 {
        match self {
            Self::RoundPreferFloor if place - place.floor() <= 0.5 => place.floor(),
            Self::RoundPreferFloor | Self::RoundPreferCeil => (place + 0.5).floor(),
            Self::Ceil => place.ceil(),
            Self::Simple if shrinks => place.ceil(),
            Self::Simple | Self::Floor => place.floor(),
        }
    }
}

/// What is made of the elements around a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Filter {
    /// One element as it is.
    Nearest(Nearest),
    /// Two elements by their distances.
    Linear,
    /// Four elements by Keys' cubic with this coefficient, perhaps without what lies outside.
    Cubic { coefficient: f32, exclude_outside: bool },
}

/// One axis that changes its length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Resized {
    /// Elements before.
    pub(super) before: usize,
    /// Elements after.
    pub(super) after: usize,
    /// Their ratio as given; the lengths are whole numbers, this is not.
    pub(super) scale: f32,
}

/// For each element of a resized axis, `taps` elements of the original one and their weights.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Samples {
    pub(super) taps: usize,
    pub(super) indices: Vec<i32>,
    pub(super) weights: Vec<f32>,
}

impl Samples {
    /// The samples of an axis that is not empty.
    pub(super) fn new(axis: &Resized, coordinates: Coordinates, filter: Filter) -> Self {
        let mut samples = Self {
            taps: match filter {
                Filter::Nearest(_) => 1,
                Filter::Linear => 2,
                Filter::Cubic { .. } => 4,
            },
            indices: Vec::new(),
            weights: Vec::new(),
        };
        let last = axis.before as i32 - 1;
        for at in 0..axis.after {
            let place = coordinates.original(at, axis);
            match filter {
                Filter::Nearest(nearest) => {
                    let index = nearest.round(place, axis.scale < 1.0) as i32;
                    samples.push(index.clamp(0, last), 1.0);
                }
                Filter::Linear => {
                    let place = place.clamp(0.0, last as f32);
                    let first = place as i32;
                    let fraction = place - first as f32;
                    samples.push(first, 1.0 - fraction);
                    samples.push((first + 1).min(last), fraction);
                }
                Filter::Cubic {
                    coefficient,
                    exclude_outside,
                } => {
                    let first = place.floor() as i32 - 1;
                    let mut weights = cubic(place - place.floor(), coefficient);
                    if exclude_outside {
                        for (i, weight) in (first..).zip(&mut weights) {
                            if i < 0 || i > last {
                                *weight = 0.0;
                            }
                        }
                        let sum: f32 = weights.iter().sum();
                        weights = weights.map(|weight| weight / sum);
                    }
                    for (i, weight) in (first..).zip(weights) {
                        samples.push(i.clamp(0, last), weight);
                    }
                }
            }
        }
        samples
    }

    fn push(&mut self, index: i32, weight: f32) {
        self.indices.push(index);
        self.weights.push(weight);
    }
}

/// Weights of the four elements around a place that lies `s` behind the second (Keys, 1981, equation 4).
fn cubic(s: f32, a: f32) -> [f32; 4] {
    let near = |d: f32| ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    [far(s + 1.0), near(s), near(1.0 - s), far(2.0 - s)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest(resized: usize, scale: f32, coordinates: &str, nearest: Nearest) -> Vec<i32> {
        let axis = Resized {
            before: 5,
            after: resized,
            scale,
        };
        let coordinates = Coordinates::named(coordinates, 19).unwrap();
        Samples::new(&axis, coordinates, Filter::Nearest(nearest)).indices
    }

    /// All expected values of this test are what ONNX Runtime 1.31.1 computes.
    #[test]
    fn nearest_elements_are_those_of_onnx_runtime() {
        use Nearest::{Ceil, Floor, RoundPreferCeil, RoundPreferFloor};
        let grow = |coordinates, mode| nearest(7, 7.0 / 5.0, coordinates, mode);
        let shrink = |coordinates, mode| nearest(3, 0.7, coordinates, mode);
        for half_pixel in ["half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"] {
            assert_eq!(grow(half_pixel, RoundPreferFloor), [0, 1, 1, 2, 3, 3, 4]);
            assert_eq!(grow(half_pixel, RoundPreferCeil), [0, 1, 1, 2, 3, 3, 4]);
            assert_eq!(grow(half_pixel, Floor), [0, 0, 1, 2, 2, 3, 4]);
            assert_eq!(grow(half_pixel, Ceil), [0, 1, 2, 2, 3, 4, 4]);
        }
        assert_eq!(shrink("half_pixel", RoundPreferFloor), [0, 2, 3]);
        assert_eq!(shrink("half_pixel", Floor), [0, 1, 3]);
        assert_eq!(shrink("half_pixel_symmetric", RoundPreferFloor), [1, 2, 3]);
        assert_eq!(shrink("half_pixel_symmetric", Floor), [0, 2, 3]);
        assert_eq!(shrink("align_corners", Ceil), [0, 2, 4]);
        assert_eq!(grow("align_corners", RoundPreferFloor), [0, 1, 1, 2, 3, 3, 4]);
        assert_eq!(grow("asymmetric", Floor), [0, 0, 1, 2, 2, 3, 4]);
        assert_eq!(grow("asymmetric", Ceil), [0, 1, 2, 3, 3, 4, 4]);
        assert_eq!(shrink("asymmetric", RoundPreferCeil), [0, 1, 3]);
        assert_eq!(shrink("asymmetric", Nearest::Simple), [0, 2, 3]);
        assert_eq!(
            nearest(10, 2.0, "asymmetric", Nearest::Simple),
            [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        );
    }

    #[test]
    fn halves_are_rounded_as_the_mode_says() {
        let rounded = |mode: Nearest| [1.25, 1.5, 1.75].map(|place| mode.round(place, false) as i32);
        assert_eq!(rounded(Nearest::RoundPreferFloor), [1, 1, 2]);
        assert_eq!(rounded(Nearest::RoundPreferCeil), [1, 2, 2]);
    }

    #[test]
    fn weights_sum_to_one() {
        let axis = Resized {
            before: 5,
            after: 13,
            scale: 2.6,
        };
        for exclude_outside in [false, true] {
            let filter = Filter::Cubic {
                coefficient: -0.75,
                exclude_outside,
            };
            for filter in [Filter::Linear, filter] {
                let samples = Samples::new(&axis, Coordinates::HalfPixel, filter);
                for weights in samples.weights.chunks(samples.taps) {
                    let sum: f32 = weights.iter().sum();
                    assert!((sum - 1.0).abs() < 1e-6, "{weights:?}");
                }
            }
        }
    }
}
