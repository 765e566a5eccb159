//! CPU reference of convolutions: the definition, in double precision.

use super::operator::Geometry;
use crate::ops::matmul::{Activation, coordinates};
use crate::tensor::HostTensor;

pub(super) fn floats(tensor: &HostTensor) -> Result<Vec<f32>, String> {
    tensor
        .to_f32()
        .ok_or_else(|| format!("expected float32, got {}", tensor.ty()))
}

pub(super) fn convolve(
    geometry: &Geometry,
    [x, w]: [&HostTensor; 2],
    [bias, residual]: [Option<&HostTensor>; 2],
    activation: Activation,
) -> Result<Vec<f32>, String> {
    let (x, w) = (floats(x)?, floats(w)?);
    let bias = bias.map(floats).transpose()?;
    let residual = residual.map(floats).transpose()?;
    let Geometry {
        groups, rows, depth, ..
    } = *geometry;
    let (in_plane, taps) = (geometry.in_plane(), geometry.taps());
    let windows: Vec<usize> = geometry.axes.iter().map(|axis| axis.kernel).collect();
    let windows: Vec<Vec<usize>> = coordinates(&windows).collect();
    let values = coordinates(&geometry.output()).enumerate().map(|(i, at)| {
        let (image, channel) = (at[0], at[1]);
        let group = channel / rows;
        let mut sum = 0.0;
        for (t, window) in windows.iter().enumerate() {
            let place = geometry
                .axes
                .iter()
                .zip(at[2..].iter().zip(window))
                .try_fold(0, |place, (axis, (&o, &t))| {
                    Some(place * axis.input + axis.reads(o, t)?)
                });
            let Some(place) = place else { continue };
            for c in 0..depth {
                let from = (image * groups * depth + group * depth + c) * in_plane + place;
                sum += f64::from(x[from]) * f64::from(w[(channel * depth + c) * taps + t]);
            }
        }
        sum += bias.as_ref().map_or(0.0, |bias| f64::from(bias[channel]));
        sum += residual.as_ref().map_or(0.0, |residual| f64::from(residual[i]));
        activation.apply(sum) as f32
    });
    Ok(values.collect())
}
