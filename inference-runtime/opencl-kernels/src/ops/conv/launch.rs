//! Arguments that all convolution kernels take.

use super::operator::{BIAS, Conv, RESIDUAL};
use crate::ops::matmul::int;
use crate::ops::operator::Reason;
use crate::plan::{Arg, Emitter};

/// Where a kernel writes and what it adds and applies.
pub(super) struct ConvArguments {
    pub y: Arg,
    pub bias: Arg,
    pub residual: Arg,
    /// `FLAG_BIAS`, `FLAG_RESIDUAL`
    pub flags: usize,
    /// `act_p`, `act_q`
    pub activation: [f32; 2],
}

impl ConvArguments {
    /// `absent` is some buffer in place of an operand that is not there; the flags keep kernels from reading it.
    pub(super) fn new(conv: &Conv, absent: &Arg, emitter: &mut Emitter<'_>) -> Self {
        let mut flags = 0;
        let mut addend = |input: usize, flag: usize| {
            if emitter.input(input).is_none() {
                return absent.clone();
            }
            flags |= flag;
            emitter.read(input)
        };
        let (bias, residual) = (addend(BIAS, 1), addend(RESIDUAL, 2));
        Self {
            y: emitter.write(0),
            bias,
            residual,
            flags,
            activation: conv.activation.parameters(),
        }
    }
}

/// `int4` of lengths.
pub(super) fn int4(x: usize, y: usize, z: usize, w: usize) -> Result<Arg, Reason> {
    Ok(Arg::Int4([int(x)?, int(y)?, int(z)?, int(w)?]))
}

/// `int4` of one length per spatial axis and one more.
pub(super) fn int4_of([x, y, z]: [usize; 3], w: usize) -> Result<Arg, Reason> {
    int4(x, y, z, w)
}
