//! `DepthToSpace` and `SpaceToDepth`: blocks of pixels from channels and back.

use super::arguments::{only_attributes, operands, required, required_tensor};
use super::elements::{pick, strides};
use super::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{HostTensor, TensorType};

/// How the position within a block and the channel outside make the deep channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// `(row · block + column) · channels + channel`
    DepthColumnRow,
    /// `channel · block² + row · block + column`
    ColumnRowDepth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToSpace,
    ToDepth,
}

/// ONNX operator spec, `DepthToSpace-1` to `-28` and `SpaceToDepth-1` to `-28`.
#[derive(Debug)]
struct Blocks {
    direction: Direction,
    block: usize,
    order: Order,
}

pub(super) fn to_space(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    construct(view, Direction::ToSpace, 11)
}

pub(super) fn to_depth(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    construct(view, Direction::ToDepth, 28)
}

fn construct(
    view: &NodeView<'_>,
    direction: Direction,
    mode_since: i32,
) -> Result<Box<dyn Operator>, String> {
    if view.node().since_version < mode_since {
        only_attributes(view, &["blocksize"])?;
    } else {
        only_attributes(view, &["blocksize", "mode"])?;
    }
    let order = match view.attributes().string("mode") {
        None | Some("DCR") => Order::DepthColumnRow,
        Some("CRD") => Order::ColumnRowDepth,
        Some(other) => return Err(format!("mode '{other}'")),
    };
    let block = view.int("blocksize", 0);
    if view.rank(0)? != 4 {
        return Err(format!("an input with {} axes, not 4", view.rank(0)?));
    }
    Ok(Box::new(Blocks {
        direction,
        // Beyond 2^15 the square of the block size leaves 32 bits.
        block: usize::try_from(block)
            .ok()
            .filter(|block| (1..=1 << 15).contains(block))
            .ok_or_else(|| format!("a block size of {block}"))?,
        order,
    }))
}

impl Blocks {
    /// The deep channel of a position within a block and a channel outside.
    fn deep(&self, channels: usize, channel: usize, row: usize, column: usize) -> usize {
        match self.order {
            Order::DepthColumnRow => (row * self.block + column) * channels + channel,
            Order::ColumnRowDepth => (channel * self.block + row) * self.block + column,
        }
    }
}

/// The four axes of an image batch.
fn four(values: &[usize]) -> Result<[usize; 4], Reason> {
    values
        .try_into()
        .map_err(|_| format!("{} axes instead of 4", values.len()))
}

impl Operator for Blocks {
    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        let [n, c, h, w] = four(data.shape())?;
        let (block, area) = (self.block, self.block * self.block);
        let shape = match self.direction {
            Direction::ToSpace if c.is_multiple_of(area) => [n, c / area, h * block, w * block],
            Direction::ToDepth if h.is_multiple_of(block) && w.is_multiple_of(block) => {
                [n, c * area, h / block, w / block]
            }
            _ => {
                return Err(format!(
                    "{} does not divide into blocks of {block} x {block}",
                    data.ty
                ));
            }
        };
        Ok(vec![TensorType::new(data.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let data = required_tensor(inputs, 0)?;
        let block = self.block;
        let out_channels = ty.shape[1];
        let result = match self.direction {
            Direction::ToSpace => pick(ty, data, |to, from| {
                let deep = self.deep(out_channels, to[1], to[2] % block, to[3] % block);
                from.copy_from_slice(&[to[0], deep, to[2] / block, to[3] / block]);
            }),
            Direction::ToDepth => pick(ty, data, |to, from| {
                let channels = data.shape()[1];
                let (inside, channel) = match self.order {
                    Order::DepthColumnRow => (to[1] / channels, to[1] % channels),
                    Order::ColumnRowDepth => (to[1] % (block * block), to[1] / (block * block)),
                };
                let (row, column) = (inside / block, inside % block);
                from.copy_from_slice(&[to[0], channel, to[2] * block + row, to[3] * block + column]);
            }),
        };
        Ok(vec![result])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        if self.block == 1 {
            emitter.alias(0, 0);
            return Ok(());
        }
        let data = emitter.input_type(0);
        let block = self.block;
        let [batch, plane, line, pixel] = four(&strides(&data.shape))?.map(|stride| stride as isize);
        let [n, channels, height, width] = four(&emitter.output_type(0).shape)?;
        let (extents, from) = match self.direction {
            Direction::ToSpace => {
                // How far the deep channel moves with the channel, the row and the column.
                let step = |channel, row, column| plane * self.deep(channels, channel, row, column) as isize;
                (
                    vec![n, channels, height / block, block, width / block, block],
                    vec![batch, step(1, 0, 0), line, step(0, 1, 0), pixel, step(0, 0, 1)],
                )
            }
            Direction::ToDepth => {
                let channels = data.shape[1];
                let (down, right) = (line * block as isize, pixel * block as isize);
                match self.order {
                    Order::DepthColumnRow => (
                        vec![n, block, block, channels, height, width],
                        vec![batch, line, pixel, plane, down, right],
                    ),
                    Order::ColumnRowDepth => (
                        vec![n, channels, block, block, height, width],
                        vec![batch, plane, line, pixel, down, right],
                    ),
                }
            }
        };
        let size = data.dtype.size();
        StridedCopy::to_dense(&extents, &from, 0).emit(emitter, 0, 0, size)
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn case(op: &str, mode: &str, block: i64, input: HostTensor) -> Case {
        Case::new(op, 28)
            .attr("blocksize", Attribute::Int(block))
            .attr("mode", Attribute::String(mode.to_owned()))
            .input(input)
    }

    #[test]
    fn channels_become_blocks_of_pixels_in_both_orders() {
        // Eight channels of one row of two pixels, numbered 10 · channel + pixel.
        let values: Vec<i32> = (0..8)
            .flat_map(|channel| [channel * 10, channel * 10 + 1])
            .collect();
        let deep = HostTensor::i32([1, 8, 1, 2], &values);
        let spread = |mode| {
            case("DepthToSpace", mode, 2, deep.clone())
                .check()
                .remove(0)
                .to_i32()
                .unwrap()
        };
        let depth_first = [0, 20, 1, 21, 40, 60, 41, 61, 10, 30, 11, 31, 50, 70, 51, 71];
        assert_eq!(spread("DCR"), depth_first);
        let column_first = [0, 10, 1, 11, 20, 30, 21, 31, 40, 50, 41, 51, 60, 70, 61, 71];
        assert_eq!(spread("CRD"), column_first);
    }

    #[test]
    fn there_and_back_changes_nothing_for_every_element_size() {
        for dtype in EVERY_SIZE {
            for mode in ["DCR", "CRD"] {
                for (block, shape) in [(1, [2, 3, 4, 5]), (2, [2, 3, 4, 6]), (3, [1, 2, 6, 3])] {
                    let image = numbered(dtype, &shape);
                    let deep = case("SpaceToDepth", mode, block, image.clone()).check().remove(0);
                    assert_eq!(case("DepthToSpace", mode, block, deep).check(), [image]);
                }
            }
        }
    }

    #[test]
    fn an_image_without_pixels_has_none_afterwards() {
        let empty = case("DepthToSpace", "DCR", 2, numbered(DType::F32, &[1, 4, 0, 3])).check();
        assert_eq!(empty[0].shape(), [1, 1, 0, 6]);
    }

    #[test]
    fn shapes_that_do_not_divide_are_refused() {
        let refusal = case("DepthToSpace", "DCR", 2, numbered(DType::F32, &[1, 6, 2, 2])).refusal();
        assert!(
            refusal
                .to_string()
                .contains("does not divide into blocks of 2 x 2"),
            "{refusal}"
        );
        let refusal = case("SpaceToDepth", "DCR", 0, numbered(DType::F32, &[1, 6, 2, 2])).refusal();
        assert!(refusal.to_string().contains("a block size of 0"), "{refusal}");
        let old = Case::new("SpaceToDepth", 13)
            .attr("blocksize", Attribute::Int(2))
            .attr("mode", Attribute::String("CRD".to_owned()))
            .input(numbered(DType::F32, &[1, 1, 2, 2]));
        assert!(
            old.refusal()
                .to_string()
                .contains("attribute 'mode' is not known here")
        );
    }
}
