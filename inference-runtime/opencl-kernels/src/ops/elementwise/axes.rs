//! Index spaces as kernel arguments: extents with the magic numbers to divide by them, and strides.

use crate::ops::Reason;
use crate::ops::movement::divisor::Divisor;
use crate::plan::Arg;
use crate::tensor::MAX_RANK;

/// `int inner, int8 extents, int8 magics, int8 shifts` of an index space with these extents, innermost first: what
/// `locate` of `axes.cl` divides by.
pub(in crate::ops) fn divisor_args(extents: &[usize]) -> Result<[Arg; 4], Reason> {
    let inner = extents.len().saturating_sub(1);
    let [mut lanes, mut magics, mut shifts] = [[0_i32; MAX_RANK]; 3];
    for (lane, &extent) in extents[..inner].iter().enumerate() {
        let divisor = Divisor::new(extent);
        lanes[lane] = int(extent)?;
        magics[lane] = divisor.magic.cast_signed();
        shifts[lane] = divisor.shift.cast_signed();
    }
    Ok([
        Arg::I32(int(inner)?),
        Arg::Int8(lanes),
        Arg::Int8(magics),
        Arg::Int8(shifts),
    ])
}

/// `int8 strides` of one operand, innermost first; the outermost axis is in the last lane.
pub(in crate::ops) fn stride_arg(strides: &[usize]) -> Result<Arg, Reason> {
    let mut lanes = [0; MAX_RANK];
    if let Some((outermost, inner)) = strides.split_last() {
        for (lane, &stride) in lanes.iter_mut().zip(inner) {
            *lane = int(stride)?;
        }
        lanes[MAX_RANK - 1] = int(*outermost)?;
    }
    Ok(Arg::Int8(lanes))
}

/// A number that kernels take as `int`.
pub(in crate::ops) fn int(value: usize) -> Result<i32, Reason> {
    i32::try_from(value).map_err(|_| format!("{value} elements are more than kernels can index"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_axis_needs_no_division() {
        let [inner, extents, ..] = divisor_args(&[5, 7, 3]).unwrap();
        assert_eq!(inner, Arg::I32(2));
        assert_eq!(extents, Arg::Int8([5, 7, 0, 0, 0, 0, 0, 0]));
        assert_eq!(
            stride_arg(&[1, 5, 35]).unwrap(),
            Arg::Int8([1, 5, 0, 0, 0, 0, 0, 35])
        );
        assert_eq!(stride_arg(&[4]).unwrap(), Arg::Int8([0, 0, 0, 0, 0, 0, 0, 4]));
        assert_eq!(divisor_args(&[]).unwrap()[0], Arg::I32(0));
    }

    #[test]
    fn all_axes_fit() {
        let Arg::Int8(lanes) = stride_arg(&[1, 2, 3, 4, 5, 6, 7, 8]).unwrap() else {
            panic!("strides are lanes")
        };
        assert_eq!(lanes, [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
