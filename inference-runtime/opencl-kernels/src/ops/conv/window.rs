//! A window that slides over spatial axes: what convolutions and pools have in common.

use crate::ops::NodeView;
use crate::ops::operator::Reason;

/// How far a window reaches beyond the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) enum Padding {
    /// Elements before and after, per axis.
    Explicit(Vec<[usize; 2]>),
    /// As much as gives ⌈input / stride⌉ positions; the odd element goes behind.
    SameUpper,
    /// The same; the odd element goes in front.
    SameLower,
    /// None.
    Valid,
}

/// Strides, dilations and padding, one entry per spatial axis (ONNX operator spec, Conv-22 and MaxPool-22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Sliding {
    pub strides: Vec<usize>,
    pub dilations: Vec<usize>,
    pub padding: Padding,
}

/// One axis with everything decided. Position `o` of the window reads `o * stride + t * dilation - before` for
/// `t` in `0..kernel`, as far as that lies inside the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Padding in front.
    pub before: usize,
    /// Padding behind.
    pub after: usize,
}

impl Axis {
    /// An axis that is not there.
    pub(in crate::ops) const TRIVIAL: Self = Self {
        input: 1,
        output: 1,
        kernel: 1,
        stride: 1,
        dilation: 1,
        before: 0,
        after: 0,
    };

    /// Whether output and input positions are the same.
    pub(in crate::ops) fn is_identity(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.before == 0 && self.after == 0
    }

    /// Where tap `t` of window `o` reads, if that is inside the input.
    pub(in crate::ops) fn reads(&self, o: usize, t: usize) -> Option<usize> {
        (o * self.stride + t * self.dilation)
            .checked_sub(self.before)
            .filter(|&at| at < self.input)
    }
}

/// Axes as kernels take them: depth, height, width, the missing ones in front being trivial.
pub(in crate::ops) fn three(axes: &[Axis]) -> [Axis; 3] {
    let mut result = [Axis::TRIVIAL; 3];
    result[3 - axes.len()..].copy_from_slice(axes);
    result
}

impl Sliding {
    /// Reads `strides`, `dilations`, `pads` and `auto_pad` for this many spatial axes.
    pub(in crate::ops) fn parse(node: &NodeView<'_>, axes: usize) -> Result<Self, String> {
        let positive = |name: &str| match lengths(node, name)? {
            None => Ok(vec![1; axes]),
            Some(list) if list.len() == axes && list.iter().all(|&v| v > 0) => Ok(list),
            Some(list) => Err(format!("{name} {list:?} do not suit {axes} spatial axes")),
        };
        let padding = match node.attributes().string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" => match lengths(node, "pads")? {
                None => Padding::Explicit(vec![[0, 0]; axes]),
                Some(pads) if pads.len() == 2 * axes => {
                    Padding::Explicit((0..axes).map(|axis| [pads[axis], pads[axes + axis]]).collect())
                }
                Some(pads) => return Err(format!("pads {pads:?} do not suit {axes} spatial axes")),
            },
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            "VALID" => Padding::Valid,
            other => return Err(format!("auto_pad '{other}' is not known")),
        };
        Ok(Self {
            strides: positive("strides")?,
            dilations: positive("dilations")?,
            padding,
        })
    }

    /// Padding of one axis.
    pub(in crate::ops) fn pads(&self, axis: usize, input: usize, kernel: usize) -> [usize; 2] {
        let (stride, dilation) = (self.strides[axis], self.dilations[axis]);
        let wanted = || {
            let reach = (input.div_ceil(stride).saturating_sub(1)) * stride + (kernel - 1) * dilation + 1;
            reach.saturating_sub(input)
        };
        match &self.padding {
            Padding::Explicit(pads) => pads[axis],
            Padding::Valid => [0, 0],
            Padding::SameUpper => {
                let wanted = wanted();
                [wanted / 2, wanted - wanted / 2]
            }
            Padding::SameLower => {
                let wanted = wanted();
                [wanted - wanted / 2, wanted / 2]
            }
        }
    }

    /// Every axis of a convolution: only windows that lie wholly inside the padded input.
    pub(in crate::ops) fn axes(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<Axis>, Reason> {
        (0..input.len())
            .map(|i| {
                let (stride, dilation) = (self.strides[i], self.dilations[i]);
                if kernel[i] == 0 {
                    return Err(format!("the kernel {kernel:?} is empty"));
                }
                let [before, after] = self.pads(i, input[i], kernel[i]);
                let reach = (kernel[i] - 1) * dilation + 1;
                let room = (input[i] + before + after).checked_sub(reach).ok_or_else(|| {
                    format!("a kernel of {kernel:?} does not fit into {input:?} with its padding")
                })?;
                Ok(Axis {
                    input: input[i],
                    output: room / stride + 1,
                    kernel: kernel[i],
                    stride,
                    dilation,
                    before,
                    after,
                })
            })
            .collect()
    }
}

/// A list attribute of lengths.
pub(in crate::ops) fn lengths(node: &NodeView<'_>, name: &str) -> Result<Option<Vec<usize>>, String> {
    let Some(list) = node.attributes().ints(name) else {
        return Ok(None);
    };
    // Kernels count in 32 bits; a longer length could not be run anyway.
    list.iter()
        .map(|&v| i32::try_from(v).ok().and_then(|v| usize::try_from(v).ok()))
        .collect::<Option<Vec<_>>>()
        .map(Some)
        .ok_or_else(|| format!("{name} {list:?} are out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sliding(stride: usize, dilation: usize, padding: Padding) -> Sliding {
        Sliding {
            strides: vec![stride],
            dilations: vec![dilation],
            padding,
        }
    }

    #[test]
    fn automatic_padding_gives_the_input_divided_by_the_stride_rounded_up() {
        for padding in [Padding::SameUpper, Padding::SameLower] {
            for input in 1..12 {
                for stride in 1..4 {
                    for kernel in 1..5 {
                        for dilation in 1..3 {
                            let axes = sliding(stride, dilation, padding.clone()).axes(&[input], &[kernel]);
                            let output = axes.unwrap()[0].output;
                            assert_eq!(
                                output,
                                input.div_ceil(stride),
                                "{input} {stride} {kernel} {dilation}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_odd_element_goes_behind_for_upper_and_in_front_for_lower() {
        assert_eq!(sliding(1, 1, Padding::SameUpper).pads(0, 5, 4), [1, 2]);
        assert_eq!(sliding(1, 1, Padding::SameLower).pads(0, 5, 4), [2, 1]);
    }

    #[test]
    fn a_kernel_larger_than_the_padded_input_is_refused() {
        let explicit = sliding(1, 3, Padding::Explicit(vec![[1, 1]]));
        assert!(explicit.axes(&[4], &[3]).is_err());
        assert_eq!(explicit.axes(&[5], &[3]).unwrap()[0].output, 1);
    }
}
