//! CPU references of the family: plain loops in double precision.

use super::activation::Activation;

/// A float32 tensor whose missing axes and axes of extent 1 repeat.
pub(in crate::ops) struct Repeating<'a> {
    shape: &'a [usize],
    values: Vec<f32>,
}

impl<'a> Repeating<'a> {
    pub(in crate::ops) fn new(tensor: &'a crate::tensor::HostTensor) -> Result<Self, String> {
        Ok(Self {
            shape: tensor.shape(),
            values: tensor
                .to_f32()
                .ok_or_else(|| format!("expected float32, got {}", tensor.ty()))?,
        })
    }

    /// The element at these coordinates, aligned at the last axis.
    pub(in crate::ops) fn at(&self, coordinates: &[usize]) -> f64 {
        f64::from(self.values[self.index(coordinates)])
    }

    /// The `count` elements from these coordinates on along the last axis but `axis`.
    fn line(&self, coordinates: &[usize], axis: usize, count: usize) -> impl Iterator<Item = f64> + '_ {
        let step = self.shape[self.shape.len() - axis..].iter().product();
        let elements = self.values.iter().skip(self.index(coordinates)).step_by(step);
        elements.take(count).map(|&v| f64::from(v))
    }

    fn index(&self, coordinates: &[usize]) -> usize {
        let skip = coordinates.len() - self.shape.len();
        self.shape
            .iter()
            .zip(&coordinates[skip..])
            .fold(0, |index, (&extent, &c)| {
                index * extent + if extent == 1 { 0 } else { c }
            })
    }
}

/// Every coordinate of a shape, in row-major order.
pub(in crate::ops) fn coordinates(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    let count = shape.iter().product();
    (0..count).map(move |mut index: usize| {
        let mut at = vec![0; shape.len()];
        for (c, &extent) in at.iter_mut().zip(&shape).rev() {
            *c = index % extent;
            index /= extent;
        }
        at
    })
}

/// What is added to a product and applied to it.
pub(super) struct Ending<'a> {
    pub alpha: f32,
    pub beta: f32,
    pub bias: Option<Repeating<'a>>,
    pub residual: Option<Repeating<'a>>,
    pub activation: Activation,
}

/// `act(alpha · A B + beta · bias + residual)` for operands of rank ≥ 2. `full` is the result's shape with both matrix
/// axes; `visible` says which of the last two are part of the tensor that bias and residual broadcast to.
pub(super) fn multiply(
    (a, trans_a): (&Repeating<'_>, bool),
    (b, trans_b): (&Repeating<'_>, bool),
    k: usize,
    full: &[usize],
    visible: [bool; 2],
    ending: &Ending<'_>,
) -> Vec<f32> {
    let axes = full.len();
    coordinates(full)
        .map(|at| {
            // The line of A holds the row's coordinates and starts at k = 0; B's likewise.
            let (mut left, mut right) = (at.clone(), at.clone());
            left[axes - 1] = 0;
            right[axes - 2] = 0;
            if trans_a {
                left.swap(axes - 2, axes - 1);
            }
            if trans_b {
                right.swap(axes - 2, axes - 1);
            }
            let a = a.line(&left, usize::from(trans_a), k);
            let b = b.line(&right, usize::from(!trans_b), k);
            let sum: f64 = a.zip(b).map(|(a, b)| a * b).sum();
            let mut shown = at.clone();
            if !visible[1] {
                shown.remove(axes - 1);
            }
            if !visible[0] {
                shown.remove(axes - 2);
            }
            let bias = ending.bias.as_ref().map_or(0.0, |bias| bias.at(&shown));
            let residual = ending.residual.as_ref().map_or(0.0, |r| r.at(&shown));
            let y = f64::from(ending.alpha) * sum + f64::from(ending.beta) * bias + residual;
            ending.activation.apply(y) as f32
        })
        .collect()
}
