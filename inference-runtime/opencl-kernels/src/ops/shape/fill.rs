//! `ConstantOfShape` and `EyeLike`: tensors of one value, or of ones among zeros.
//!
//! Small ones are made when a plan is; large ones on the device, where they are strided copies of a scalar.

use half::f16;

use crate::ops::movement::arguments::{extent, only_attributes, operands, required, required_tensor};
use crate::ops::movement::elements::Elements;
use crate::ops::movement::strided::StridedCopy;
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// ONNX operator spec, `ConstantOfShape-9` to `-25`: one value everywhere.
#[derive(Debug)]
struct ConstantOfShape {
    value: HostTensor,
}

pub(super) fn constant_of_shape(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["value"])?;
    let value = match view.attributes().get("value") {
        None => HostTensor::f32([1], &[0.0]),
        Some(_) => view
            .attributes()
            .tensor("value")
            .ok_or("'value' is not a tensor")?
            .clone(),
    };
    if value.ty().elements() != 1 {
        return Err(format!("a fill value of type {} is not one element", value.ty()));
    }
    Ok(Box::new(ConstantOfShape { value }))
}

impl Operator for ConstantOfShape {
    fn static_inputs(&self) -> &'static [usize] {
        &[0]
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let extents = required(inputs, 0)?.ints("the shape to fill")?;
        let shape = extents
            .into_iter()
            .map(|value| extent(value, "an extent of the shape to fill"))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(vec![TensorType::new(self.value.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let ty = self.infer(&operands(inputs))?.remove(0);
        let bytes = self.value.bytes().repeat(ty.elements());
        Ok(vec![HostTensor::new(ty, bytes)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let buffers = (emitter.constant("value", || self.value.clone()), emitter.write(0));
        let elements = emitter.output_type(0).elements();
        StridedCopy::spread(elements, 1, 0).emit_between(emitter, buffers, self.value.dtype().size())
    }
}

/// ONNX operator spec, `EyeLike-9` and `-22`: ones on a diagonal.
#[derive(Debug)]
struct EyeLike {
    one: HostTensor,
    /// The column of the one in row 0.
    k: i64,
}

pub(super) fn eye_like(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &["dtype", "k"])?;
    if view.rank(0)? != 2 {
        return Err(format!("an input with {} axes, not 2", view.rank(0)?));
    }
    let dtype = match view.attributes().int("dtype") {
        None => view.dtype(0)?,
        Some(number) => onnx_dtype(number)?,
    };
    Ok(Box::new(EyeLike {
        one: one(dtype),
        k: view.int("k", 0),
    }))
}

impl EyeLike {
    /// Where the diagonal enters the matrix: the first column of it (`sign` 1) or the first row (`sign` -1).
    fn first(&self, sign: i64) -> usize {
        usize::try_from(self.k.saturating_mul(sign)).unwrap_or(0)
    }
}

/// ONNX's `TensorProto.DataType`.
fn onnx_dtype(number: i64) -> Result<DType, String> {
    DType::from_onnx(number).ok_or_else(|| format!("element type {number}"))
}

fn one(dtype: DType) -> HostTensor {
    let bytes = match dtype {
        DType::F32 => 1_f32.to_le_bytes().to_vec(),
        DType::F64 => 1_f64.to_le_bytes().to_vec(),
        DType::F16 => f16::ONE.to_le_bytes().to_vec(),
        DType::BF16 => half::bf16::ONE.to_le_bytes().to_vec(),
        _ => {
            let mut bytes = vec![0; dtype.size()];
            bytes[0] = 1;
            bytes
        }
    };
    HostTensor::new(TensorType::new(dtype, []), bytes)
}

impl Operator for EyeLike {
    fn reads_only_shapes(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shape = required(inputs, 0)?.ty.shape.clone();
        Ok(vec![TensorType::new(self.one.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let shape = required_tensor(inputs, 0)?.shape().to_vec();
        let &[rows, columns] = shape.as_slice() else {
            return Err(format!("shape {shape:?} is no matrix"));
        };
        let mut eye = Elements::zeroed(TensorType::new(self.one.dtype(), shape));
        for row in 0..rows {
            let column = usize::try_from((row as i64).saturating_add(self.k)).ok();
            if let Some(column) = column.filter(|column| *column < columns) {
                eye.set(row * columns + column, &self.one, 0);
            }
        }
        Ok(vec![eye.finish()])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let &[rows, columns] = emitter.output_type(0).shape.as_slice() else {
            return Err(format!("{} is no matrix", emitter.output_type(0)));
        };
        let (dtype, size) = (self.one.dtype(), self.one.dtype().size());
        let zero = emitter.constant("zero", || Elements::zeroed(TensorType::new(dtype, [])).finish());
        let one = emitter.constant("one", || self.one.clone());
        let target = emitter.write(0);
        StridedCopy::spread(rows * columns, 1, 0).emit_between(emitter, (zero, target.clone()), size)?;
        let (row, column) = (self.first(-1).min(rows), self.first(1).min(columns));
        let ones = (rows - row).min(columns - column);
        StridedCopy::spread(ones, columns + 1, row * columns + column).emit_between(
            emitter,
            (one, target),
            size,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::one;
    use crate::ir::Attribute;
    use crate::ops::movement::elements::numbered;
    use crate::tensor::{DType, HostTensor, TensorType};
    use crate::testing::Case;

    /// Beyond what the planner folds.
    const LARGE: i64 = 300;

    fn filled(shape: &[i64], value: Option<HostTensor>) -> HostTensor {
        let dtype = value.as_ref().map_or(DType::F32, HostTensor::dtype);
        let case = Case::new("ConstantOfShape", 9)
            .constant(HostTensor::i64([shape.len()], shape))
            .output(dtype, shape.len());
        let case = value
            .into_iter()
            .fold(case, |case, value| case.attr("value", Attribute::Tensor(value)));
        case.check().remove(0)
    }

    #[test]
    fn one_value_fills_a_shape_small_or_large() {
        assert_eq!(filled(&[2, 2], None), HostTensor::f32([2, 2], &[0.0; 4]));
        assert_eq!(
            filled(&[], Some(HostTensor::i64([1], &[7]))),
            HostTensor::i64([], &[7])
        );
        assert_eq!(filled(&[3, 0], None), HostTensor::f32([3, 0], &[]));
        let large = filled(&[LARGE, LARGE], Some(HostTensor::bool([1], &[true])));
        assert_eq!(large, HostTensor::bool([300, 300], &vec![true; 90_000]));
    }

    #[test]
    fn shapes_and_values_that_cannot_be_are_refused() {
        let shape = |extent| Case::new("ConstantOfShape", 9).constant(HostTensor::i64([1], &[extent]));
        let refusal = shape(-1).output(DType::F32, 1).refusal().to_string();
        assert!(
            refusal.contains("an extent of the shape to fill is -1"),
            "{refusal}"
        );
        let two = Attribute::Tensor(HostTensor::f32([2], &[1.0, 2.0]));
        let refusal = shape(1)
            .attr("value", two)
            .output(DType::F32, 1)
            .refusal()
            .to_string();
        assert!(
            refusal.contains("a fill value of type float32[2] is not one element"),
            "{refusal}"
        );
    }

    fn eye(rows: usize, columns: usize, k: i64, dtype: DType) -> HostTensor {
        let number = match dtype {
            DType::F32 => 1,
            DType::I64 => 7,
            _ => 10,
        };
        let case = Case::new("EyeLike", 9)
            .attr("k", Attribute::Int(k))
            .attr("dtype", Attribute::Int(number))
            .input(numbered(DType::U8, &[rows, columns]))
            .output(dtype, 2);
        case.check().remove(0)
    }

    #[test]
    fn ones_lie_on_the_diagonal() {
        assert_eq!(
            eye(2, 3, 1, DType::I64),
            HostTensor::i64([2, 3], &[0, 1, 0, 0, 0, 1])
        );
        assert_eq!(
            eye(3, 2, -1, DType::F32),
            HostTensor::f32([3, 2], &[0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
        );
        assert_eq!(eye(2, 2, 2, DType::I64), HostTensor::i64([2, 2], &[0; 4]));
        assert_eq!(eye(2, 2, i64::MIN, DType::I64), HostTensor::i64([2, 2], &[0; 4]));
        // 1 as float16 is 0x3c00.
        let half = HostTensor::new(TensorType::new(DType::F16, [1, 1]), vec![0x00, 0x3c]);
        assert_eq!(eye(1, 1, 0, DType::F16), half);
    }

    #[test]
    fn large_diagonals_are_drawn_on_the_device() {
        for k in [-299, -3, 0, 1, 298, 299, 300, i64::MIN, i64::MAX] {
            eye(300, 299, k, DType::F32);
        }
    }

    #[test]
    fn one_is_one_in_every_type() {
        assert_eq!(one(DType::F64).bytes(), 1_f64.to_le_bytes());
        assert_eq!(one(DType::BF16).bytes(), [0x80, 0x3f]);
        assert_eq!(one(DType::Bool).bytes(), [1]);
        assert_eq!(one(DType::U16).bytes(), [1, 0]);
    }
}
