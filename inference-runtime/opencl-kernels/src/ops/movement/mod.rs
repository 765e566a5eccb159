//! The movement family: elements go elsewhere, unchanged. But for the blending modes of Resize nothing here
//! looks at a value, so every element type works, whether the device can calculate with it or not.
//!
//! Most operators only describe a `strided::StridedCopy`.

mod concat;
mod depth_to_space;
mod expand;
mod pad;
mod resize;
mod reverse_sequence;
mod sampling;
mod slice;
mod split;
mod tile;
mod transpose;
mod trilu;

pub(in crate::ops) mod arguments;
pub(in crate::ops) mod divisor;
pub(in crate::ops) mod elements;
pub(in crate::ops) mod strided;

use super::Registration;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[
    Registration::onnx("Concat", 1, 13, concat::construct),
    Registration::onnx("DepthToSpace", 1, 28, depth_to_space::to_space),
    Registration::onnx("Expand", 8, 13, expand::construct),
    Registration::onnx("Pad", 2, 25, pad::construct),
    Registration::onnx("Resize", 10, 19, resize::resize),
    Registration::onnx("ReverseSequence", 10, 28, reverse_sequence::construct),
    Registration::onnx("Slice", 1, 13, slice::construct),
    Registration::onnx("SpaceToDepth", 1, 28, depth_to_space::to_depth),
    Registration::onnx("Split", 1, 18, split::construct),
    Registration::onnx("Tile", 6, 13, tile::construct),
    Registration::onnx("Transpose", 1, 25, transpose::construct),
    Registration::onnx("Trilu", 14, 14, trilu::construct),
    Registration::onnx("Upsample", 7, 10, resize::upsample),
];
