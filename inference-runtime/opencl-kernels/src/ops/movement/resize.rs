//! Resize and Upsample: images of another size. Axis by axis, which gives the same as all at once because the
//! filters are products over the axes.

use super::arguments::{Integers, distinct_axes, only_attributes, operands, required, required_tensor};
use super::divisor::Divisor;
use super::elements::{Elements, pick};
use super::sampling::{Coordinates, Filter, Nearest, Resized, Samples};
use super::strided::{GROUP, element_option, index, widening};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, Shape, TensorType};

const SOURCE: Source = Source {
    name: "resize.cl",
    text: include_str!("resize.cl"),
};

/// ONNX operator spec, Resize-10 to Resize-19 and Upsample-7 to Upsample-10, without regions of interest
/// and antialiasing.
#[derive(Debug)]
struct Resize {
    coordinates: Coordinates,
    filter: Filter,
    scales: Scales,
    sizes: Integers,
    /// How sizes are understood.
    policy: Policy,
    /// The axes that scales and sizes are given for; all if absent.
    axes: Option<Vec<i64>>,
}

/// Whether axes keep their proportions when sizes are given (`keep_aspect_ratio_policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// Ratios of lengths, where they are given.
#[derive(Debug)]
enum Scales {
    Attribute(Vec<f32>),
    Input(usize),
}

pub(super) fn upsample(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let scales = if view.node().since_version < 9 {
        only_attributes(view, &["mode", "scales"])?;
        match view.attributes().get("scales") {
            Some(crate::ir::Attribute::Floats(scales)) => Scales::Attribute(scales.clone()),
            _ => return Err("attribute 'scales' is missing".to_owned()),
        }
    } else {
        only_attributes(view, &["mode"])?;
        Scales::Input(1)
    };
    old(view, scales)
}

pub(super) fn resize(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = view.node().since_version;
    if version < 11 {
        only_attributes(view, &["mode"])?;
        return old(view, Scales::Input(1));
    }
    let mut known = vec![
        "coordinate_transformation_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "extrapolation_value",
        "mode",
        "nearest_mode",
    ];
    if version >= 18 {
        known.extend(["antialias", "axes", "keep_aspect_ratio_policy"]);
    }
    only_attributes(view, &known)?;
    let text = |name, default| view.attributes().string(name).unwrap_or(default);
    if view.int("antialias", 0) != 0 {
        return Err("antialiasing".to_owned());
    }
    let policy = match text("keep_aspect_ratio_policy", "stretch") {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return Err(format!("aspect ratio policy '{other}'")),
    };
    let filter = match text("mode", "nearest") {
        "nearest" => Filter::Nearest(Nearest::named(text("nearest_mode", "round_prefer_floor"))?),
        "linear" => Filter::Linear,
        "cubic" => Filter::Cubic {
            coefficient: view.float("cubic_coeff_a", -0.75),
            exclude_outside: view.int("exclude_outside", 0) != 0,
        },
        other => return Err(format!("mode '{other}'")),
    };
    construct(
        view,
        Resize {
            coordinates: Coordinates::named(text("coordinate_transformation_mode", "half_pixel"), version)?,
            filter,
            scales: Scales::Input(2),
            sizes: Integers::input(view, 3),
            policy,
            axes: view.attributes().ints("axes").map(<[i64]>::to_vec),
        },
    )
}

/// The form without coordinates to choose.
fn old(view: &NodeView<'_>, scales: Scales) -> Result<Box<dyn Operator>, String> {
    let filter = match view.attributes().string("mode") {
        None | Some("nearest") => Filter::Nearest(Nearest::Simple),
        Some("linear") => Filter::Linear,
        Some(other) => return Err(format!("mode '{other}'")),
    };
    construct(
        view,
        Resize {
            coordinates: Coordinates::Asymmetric,
            filter,
            scales,
            sizes: Integers::Absent,
            policy: Policy::Stretch,
            axes: None,
        },
    )
}

fn construct(view: &NodeView<'_>, resize: Resize) -> Result<Box<dyn Operator>, String> {
    if let Scales::Input(input) = resize.scales
        && view.has_input(input)
    {
        view.require_dtype(input, &[DType::F32])?;
    }
    if !matches!(resize.filter, Filter::Nearest(_)) {
        view.require_dtype(0, &[DType::F32])?;
    }
    Ok(Box::new(resize))
}

impl Resize {
    /// The scales, if given; empty ones are how version 11 leaves them out.
    fn scales(&self, inputs: &[Option<Operand<'_>>]) -> Result<Option<Vec<f32>>, Reason> {
        let scales = match self.scales {
            Scales::Attribute(ref scales) => scales.clone(),
            Scales::Input(input) => match inputs.get(input).copied().flatten() {
                None => return Ok(None),
                Some(scales) => scales
                    .known
                    .and_then(HostTensor::to_f32)
                    .ok_or("the scales depend on the request's data")?,
            },
        };
        Ok(Some(scales).filter(|scales| !scales.is_empty()))
    }

    /// What happens to each axis.
    fn axes(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<Resized>, Reason> {
        let shape = &required(inputs, 0)?.ty.shape;
        let mut resized: Vec<Resized> = shape
            .iter()
            .map(|&length| Resized {
                before: length,
                after: length,
                scale: 1.0,
            })
            .collect();
        let axes = match &self.axes {
            None => (0..shape.len()).collect(),
            Some(axes) => distinct_axes(axes, shape.len())?,
        };
        let fits = |given: usize, what: &str| {
            if given == axes.len() {
                Ok(())
            } else {
                Err(format!("{given} {what} for {} axes", axes.len()))
            }
        };
        if let Some(scales) = self.scales(inputs)? {
            fits(scales.len(), "scales")?;
            for (&axis, &scale) in axes.iter().zip(&scales) {
                if !(scale > 0.0 && scale.is_finite()) {
                    return Err(format!("a scale of {scale}"));
                }
                let axis = &mut resized[axis];
                axis.scale = scale;
                axis.after = (scale * axis.before as f32) as usize;
            }
            return Ok(resized);
        }
        let sizes = self
            .sizes
            .get(inputs, "the sizes")?
            .ok_or("neither scales nor sizes are given")?;
        fits(sizes.len(), "sizes")?;
        for (&axis, &size) in axes.iter().zip(&sizes) {
            let axis = &mut resized[axis];
            axis.after = usize::try_from(size)
                .ok()
                .filter(|&size| (size > 0) == (axis.before > 0))
                .ok_or_else(|| format!("a size of {size} for an axis of {}", axis.before))?;
            if axis.before > 0 {
                axis.scale = axis.after as f32 / axis.before as f32;
            }
        }
        let scales = axes.iter().map(|&axis| resized[axis].scale);
        let common = match self.policy {
            Policy::Stretch => return Ok(resized),
            Policy::NotLarger => scales.fold(f32::MAX, f32::min),
            Policy::NotSmaller => scales.fold(0.0, f32::max),
        };
        for &axis in &axes {
            let axis = &mut resized[axis];
            axis.scale = common;
            axis.after = (common * axis.before as f32).round() as usize;
        }
        Ok(resized)
    }

    /// The axes that change, the shrinking ones first: they leave less to do for the others.
    fn passes(&self, axes: &[Resized]) -> Vec<(usize, Samples)> {
        let mut changed: Vec<usize> = (0..axes.len()).filter(|&a| !is_kept(&axes[a])).collect();
        changed.sort_by(|&a, &b| axes[a].scale.total_cmp(&axes[b].scale));
        changed
            .into_iter()
            .map(|a| (a, Samples::new(&axes[a], self.coordinates, self.filter)))
            .collect()
    }
}

/// ONNX Runtime leaves an axis with scale 1 alone, whatever the coordinates.
fn is_kept(axis: &Resized) -> bool {
    axis.before == axis.after && axis.scale.to_bits() == 1.0_f32.to_bits()
}

/// The axis' place in the middle: what lies outside and inside of it.
fn around(shape: &[usize], axis: usize) -> (usize, usize) {
    (shape[..axis].iter().product(), shape[axis + 1..].iter().product())
}

impl Operator for Resize {
    fn static_inputs(&self) -> &'static [usize] {
        match self.scales {
            Scales::Attribute(_) => &[],
            Scales::Input(1) => &[1],
            Scales::Input(_) => &[2, 3],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let shape: Shape = self.axes(inputs)?.iter().map(|axis| axis.after).collect();
        Ok(vec![TensorType::new(required(inputs, 0)?.dtype(), shape)])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let operands = operands(inputs);
        let ty = self.infer(&operands)?.remove(0);
        let mut tensor = required_tensor(inputs, 0)?.clone();
        if ty.elements() == 0 {
            return Ok(vec![Elements::zeroed(ty).finish()]);
        }
        for (axis, samples) in self.passes(&self.axes(&operands)?) {
            let mut shape = tensor.shape().to_vec();
            shape[axis] = samples.indices.len() / samples.taps;
            let tap = |t: usize| {
                pick(
                    TensorType::new(tensor.dtype(), shape.clone()),
                    &tensor,
                    |to, from| {
                        from.copy_from_slice(to);
                        from[axis] = samples.indices[to[axis] * samples.taps + t] as usize;
                    },
                )
            };
            if let Filter::Nearest(_) = self.filter {
                tensor = tap(0);
                continue;
            }
            let (_, inner) = around(&shape, axis);
            let mut sums = vec![0.0; shape.iter().product()];
            for t in 0..samples.taps {
                let values = tap(t).to_f32().ok_or("only float32 can be blended")?;
                for (i, (sum, value)) in sums.iter_mut().zip(values).enumerate() {
                    *sum += samples.weights[i / inner % shape[axis] * samples.taps + t] * value;
                }
            }
            tensor = HostTensor::f32(shape, &sums);
        }
        Ok(vec![tensor])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let inputs: Vec<_> = (0..emitter.inputs()).map(|i| emitter.input(i)).collect();
        let passes = self.passes(&self.axes(&inputs)?);
        let TensorType { dtype, mut shape } = emitter.input_type(0).clone();
        let count = passes.len();
        if count == 0 {
            emitter.alias(0, 0);
            return Ok(());
        }
        let mut source = emitter.read(0);
        for (pass, (axis, samples)) in passes.into_iter().enumerate() {
            let length = std::mem::replace(&mut shape[axis], samples.indices.len() / samples.taps);
            let elements = index(shape.iter().product())? as usize;
            let target = if pass + 1 == count {
                emitter.write(0)
            } else {
                emitter.scratch(elements * dtype.size())
            };
            let (_, inner) = around(&shape, axis);
            let nearest = matches!(self.filter, Filter::Nearest(_));
            let wide = if nearest {
                widening([inner], dtype.size())
            } else {
                1
            };
            let indices = emitter.table(HostTensor::i32([samples.indices.len()], &samples.indices));
            let mut args = vec![source, target.clone(), indices];
            args.push(Arg::U32((elements / wide) as u32));
            args.extend(Divisor::args(inner / wide));
            args.extend(Divisor::args(shape[axis]));
            args.push(Arg::I32(length as i32));
            if !nearest {
                args.push(emitter.table(HostTensor::f32([samples.weights.len()], &samples.weights)));
                args.push(Arg::I32(samples.taps as i32));
            }
            emitter.launch(Launch {
                source: SOURCE,
                kernel: if nearest { "take_nearest" } else { "blend" },
                options: vec![element_option(dtype.size() * wide)],
                args,
                global: [elements / wide, 1, 1],
                local: GROUP,
            });
            source = target;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::ops::movement::elements::{EVERY_SIZE, numbered};
    use crate::tensor::{DType, HostTensor};
    use crate::testing::{Case, tensor};

    fn text(value: &str) -> Attribute {
        Attribute::String(value.to_owned())
    }

    fn by_sizes(input: HostTensor, sizes: &[i64], mode: &str) -> Case {
        Case::new("Resize", 19)
            .attr("mode", text(mode))
            .input(input)
            .absent()
            .absent()
            .constant(HostTensor::i64([sizes.len()], sizes))
    }

    fn by_scales(input: HostTensor, scales: &[f32], mode: &str) -> Case {
        Case::new("Resize", 19)
            .attr("mode", text(mode))
            .input(input)
            .absent()
            .constant(HostTensor::f32([scales.len()], scales))
    }

    fn squares() -> HostTensor {
        HostTensor::f32([1, 1, 1, 5], &[1.0, 4.0, 9.0, 16.0, 25.0])
    }

    fn assert_values(case: &Case, expected: &[f32]) {
        let values = case.check().remove(0).to_f32().unwrap();
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(expected) {
            assert!(
                (value - expected).abs() < 2e-5,
                "{values:?} instead of {expected:?}"
            );
        }
    }

    /// All expected values of this test are what ONNX Runtime 1.31.1 computes.
    #[test]
    fn lines_are_blended_as_onnx_runtime_does() {
        let eight = |mode, coordinates| {
            let case = by_sizes(squares(), &[1, 1, 1, 8], mode);
            case.attr("coordinate_transformation_mode", text(coordinates))
        };
        let half_pixel = [1.0, 2.3125, 4.3125, 7.4375, 11.1875, 15.5625, 21.0625, 25.0];
        assert_values(&eight("linear", "half_pixel"), &half_pixel);
        assert_values(&eight("linear", "half_pixel_symmetric"), &half_pixel);
        let corners = [
            1.0, 2.714_286, 4.714_286, 7.571_429, 11.000_001, 15.0, 19.857_143, 25.0,
        ];
        assert_values(&eight("linear", "align_corners"), &corners);
        let asymmetric = [1.0, 2.875, 5.25, 8.375, 12.5, 17.125, 22.75, 25.0];
        assert_values(&eight("linear", "asymmetric"), &asymmetric);
        let cubic = [
            0.721_497, 1.885_681, 4.352_783, 6.913_818, 11.147_217, 15.295_166, 21.696_96, 25.835_51,
        ];
        assert_values(&eight("cubic", "half_pixel"), &cubic);
        let excluding = eight("cubic", "half_pixel")
            .attr("exclude_outside", Attribute::Int(1))
            .attr("cubic_coeff_a", Attribute::Float(-0.5));
        let inside = [
            0.784_133, 1.932_641, 4.253_906, 7.222_656, 10.972_656, 15.503_906, 21.799_292, 25.647_602,
        ];
        assert_values(&excluding, &inside);
        let shrunk = by_scales(squares(), &[1.0, 1.0, 1.0, 0.7], "linear");
        assert_values(&shrunk, &[1.642_857, 7.214_285, 16.642_857]);
        let symmetric = shrunk.attr("coordinate_transformation_mode", text("half_pixel_symmetric"));
        assert_values(&symmetric, &[2.714_286, 9.0, 19.857_143]);
    }

    /// All expected values of this test are what ONNX Runtime 1.31.1 computes.
    #[test]
    fn planes_are_blended_as_onnx_runtime_does() {
        let plane = HostTensor::f32([1, 1, 2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let linear = [
            0.0, 0.4, 1.0, 1.6, 2.0, 1.5, 1.9, 2.5, 3.1, 3.5, 3.0, 3.4, 4.0, 4.6, 5.0,
        ];
        assert_values(&by_sizes(plane.clone(), &[1, 1, 3, 5], "linear"), &linear);
        let chosen = by_sizes(plane.clone(), &[3, 5], "linear");
        assert_values(&chosen.attr("axes", Attribute::Ints(vec![-2, 3])), &linear);
        let cubic = [
            -0.356_417, 0.055_583, 0.739_584, 1.423_584, 1.835_585, 1.404_001, 1.816, 2.5, 3.184, 3.596_001,
            3.164_419, 3.576_417, 4.260_418, 4.944_419, 5.356_421,
        ];
        assert_values(&by_sizes(plane, &[1, 1, 3, 5], "cubic"), &cubic);
    }

    #[test]
    fn old_forms_are_asymmetric() {
        let scales = HostTensor::f32([4], &[1.0, 1.0, 1.0, 2.0]);
        let linear = [1.0, 2.5, 4.0, 6.5, 9.0, 12.5, 16.0, 20.5, 25.0, 25.0];
        let resize = Case::new("Resize", 10).attr("mode", text("linear"));
        assert_values(&resize.input(squares()).constant(scales), &linear);
        let scales = HostTensor::f32([4], &[1.0, 1.0, 1.0, 0.7]);
        assert_values(
            &Case::new("Resize", 10).input(squares()).constant(scales),
            &[1.0, 9.0, 16.0],
        );
        let upsample = Case::new("Upsample", 7)
            .attr("scales", Attribute::Floats(vec![1.0, 1.0, 1.0, 1.6]))
            .input(squares());
        assert_values(&upsample, &[1.0, 1.0, 4.0, 4.0, 9.0, 16.0, 16.0, 25.0]);
        let empty = Case::new("Resize", 11)
            .attr("mode", text("linear"))
            .input(squares())
            .constant(HostTensor::f32([0], &[]))
            .constant(HostTensor::f32([0], &[]))
            .constant(HostTensor::i64([4], &[1, 1, 1, 5]));
        assert_values(&empty, &[1.0, 4.0, 9.0, 16.0, 25.0]);
    }

    #[test]
    fn proportions_are_kept_if_that_is_asked_for() {
        let shape = |policy| {
            let case = by_sizes(numbered(DType::F32, &[1, 1, 2, 4]), &[7, 8], "nearest")
                .attr("axes", Attribute::Ints(vec![2, 3]))
                .attr("keep_aspect_ratio_policy", text(policy));
            case.check()[0].shape().to_vec()
        };
        assert_eq!(shape("stretch"), [1, 1, 7, 8]);
        assert_eq!(shape("not_larger"), [1, 1, 4, 8]);
        assert_eq!(shape("not_smaller"), [1, 1, 7, 14]);
    }

    #[test]
    fn every_element_size_and_axis_is_resized() {
        for dtype in EVERY_SIZE {
            by_scales(numbered(dtype, &[2, 3, 4, 4]), &[1.0, 1.0, 2.0, 2.0], "nearest").check();
            by_scales(numbered(dtype, &[2, 3, 4]), &[2.0, 0.5, 1.0], "nearest").check();
            by_sizes(numbered(dtype, &[3, 5]), &[7, 2], "nearest").check();
            by_scales(numbered(dtype, &[1, 0, 2]), &[1.0, 2.0, 2.0], "nearest").check();
        }
        for mode in ["linear", "cubic"] {
            by_sizes(tensor(&[2, 3, 5, 7], 1), &[2, 3, 11, 4], mode).check();
            by_sizes(tensor(&[5, 7, 3], 2), &[3, 9, 3], mode).check();
        }
    }

    #[test]
    fn what_is_not_the_same_everywhere_is_refused() {
        let case = || by_sizes(squares(), &[1, 1, 1, 8], "linear");
        let refusal = |case: Case| case.refusal().to_string();
        assert!(refusal(case().attr("antialias", Attribute::Int(1))).contains("antialiasing"));
        let cropped = case().attr("coordinate_transformation_mode", text("tf_crop_and_resize"));
        assert!(refusal(cropped).contains("coordinate transformation 'tf_crop_and_resize'"));
        assert!(refusal(by_sizes(numbered(DType::F64, &[2]), &[4], "linear")).contains("input 0 is float64"));
        assert!(refusal(by_sizes(squares(), &[1, 2], "linear")).contains("2 sizes for 4 axes"));
        assert!(
            refusal(by_sizes(squares(), &[1, 1, 1, 0], "linear")).contains("a size of 0 for an axis of 5")
        );
        assert!(refusal(by_scales(squares(), &[1.0, 1.0, 1.0, 0.0], "linear")).contains("a scale of 0"));
    }
}
