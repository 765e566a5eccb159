//! Shape and Size: what a tensor's type says, as a tensor.

use crate::ops::movement::arguments::{only_attributes, required, required_tensor};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::Emitter;
use crate::tensor::{DType, HostTensor, TensorType};

/// ONNX operator spec, Shape-1 to Shape-25: the extents of the axes from `start` to before `end`.
#[derive(Debug)]
struct ShapeOf {
    start: i64,
    end: i64,
}

/// ONNX operator spec, Size-1 to Size-25: the number of elements.
#[derive(Debug)]
struct SizeOf;

pub(super) fn shape(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let attributes: &[&str] = if view.node().since_version < 15 {
        &[]
    } else {
        &["end", "start"]
    };
    only_attributes(view, attributes)?;
    Ok(Box::new(ShapeOf {
        start: view.int("start", 0),
        end: view.int("end", i64::MAX),
    }))
}

pub(super) fn size(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    only_attributes(view, &[])?;
    Ok(Box::new(SizeOf))
}

impl ShapeOf {
    /// Bounds count from the back if negative and are clamped, so that every pair selects something or nothing.
    fn selected<'a>(&self, shape: &'a [usize]) -> &'a [usize] {
        let rank = shape.len() as i64;
        let bound = |at: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank) as usize;
        shape.get(bound(self.start)..bound(self.end)).unwrap_or(&[])
    }
}

impl Operator for ShapeOf {
    fn reads_only_shapes(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let selected = self.selected(&required(inputs, 0)?.ty.shape);
        Ok(vec![TensorType::new(DType::I64, [selected.len()])])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let selected = self.selected(required_tensor(inputs, 0)?.shape());
        let extents: Vec<i64> = selected.iter().map(|&extent| extent as i64).collect();
        Ok(vec![HostTensor::i64([extents.len()], &extents)])
    }

    fn emit(&self, _: &mut Emitter<'_>) -> Result<(), Reason> {
        Err("a shape is known before anything runs on the device".to_owned())
    }
}

impl Operator for SizeOf {
    fn reads_only_shapes(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        required(inputs, 0)?;
        Ok(vec![TensorType::new(DType::I64, [])])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let elements = required_tensor(inputs, 0)?.ty().elements();
        Ok(vec![HostTensor::i64([], &[elements as i64])])
    }

    fn emit(&self, _: &mut Emitter<'_>) -> Result<(), Reason> {
        Err("a size is known before anything runs on the device".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::numbered;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::Case;

    fn extents(shape: &[usize], start: i64, end: i64) -> Vec<i64> {
        let case = Case::new("Shape", 15)
            .attr("start", Attribute::Int(start))
            .attr("end", Attribute::Int(end))
            .input(numbered(DType::F64, shape))
            .output(DType::I64, 1);
        case.check().remove(0).to_i64().unwrap()
    }

    #[test]
    fn bounds_count_from_both_ends_and_are_clamped() {
        assert_eq!(extents(&[2, 3, 4], 0, 3), [2, 3, 4]);
        assert_eq!(extents(&[2, 3, 4], -2, 9), [3, 4]);
        assert_eq!(extents(&[2, 3, 4], -9, -1), [2, 3]);
        assert_eq!(extents(&[2, 3, 4], 2, 1), [0; 0]);
        assert_eq!(extents(&[2, 3, 4], i64::MIN, i64::MAX), [2, 3, 4]);
    }

    #[test]
    fn without_bounds_all_axes_are_told() {
        let told = |shape: &[usize]| {
            let case = Case::new("Shape", 1)
                .input(numbered(DType::I8, shape))
                .output(DType::I64, 1);
            case.check().remove(0)
        };
        assert_eq!(told(&[2, 0, 4]), HostTensor::i64([3], &[2, 0, 4]));
        assert_eq!(told(&[]), HostTensor::i64([0], &[]));
    }

    #[test]
    fn size_counts_elements() {
        let size = |shape: &[usize]| {
            let case = Case::new("Size", 13)
                .input(numbered(DType::I8, shape))
                .output(DType::I64, 0);
            case.check().remove(0)
        };
        assert_eq!(size(&[2, 3, 4]), HostTensor::i64([], &[24]));
        assert_eq!(size(&[]), HostTensor::i64([], &[1]));
        assert_eq!(size(&[2, 0]), HostTensor::i64([], &[0]));
    }
}
