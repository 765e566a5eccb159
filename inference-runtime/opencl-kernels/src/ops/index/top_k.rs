//! `TopK`: the largest or smallest elements along an axis, in order, and where they are.

use std::cmp::Ordering;

use super::reduction::type_option;
use crate::ops::movement::arguments::{axis, only_attributes, operands, required, required_tensor};
use crate::ops::movement::divisor::Divisor;
use crate::ops::movement::elements::{Elements, for_each_index, position};
use crate::ops::movement::strided::{GROUP, index};
use crate::ops::{NodeView, Operand, Operator, Reason};
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::tensor::{DType, HostTensor, TensorType};

const SOURCE: Source = Source {
    name: "top_k.cl",
    text: include_str!("top_k.cl"),
};

/// ONNX operator spec, `TopK-1` to `-24`. Sorted also where the node does not ask for it. The specification is
/// silent about what is no number; here it comes last.
#[derive(Debug)]
struct TopK {
    axis: usize,
    k: Count,
    largest: bool,
}

/// How many elements: an attribute until version 10 made it an input.
#[derive(Debug)]
enum Count {
    Attribute(i64),
    Input,
}

pub(super) fn construct(view: &NodeView<'_>) -> Result<Box<dyn Operator>, String> {
    let version = view.node().since_version;
    let attributes: &[&str] = match version {
        ..10 => &["axis", "k"],
        10 => &["axis"],
        _ => &["axis", "largest", "sorted"],
    };
    only_attributes(view, attributes)?;
    view.require_dtype(0, &[DType::F32, DType::I32, DType::I64])?;
    let k = if version < 10 {
        Count::Attribute(view.attributes().int("k").ok_or("attribute 'k' is missing")?)
    } else {
        Count::Input
    };
    Ok(Box::new(TopK {
        axis: axis(view.int("axis", -1), view.rank(0)?)?,
        k,
        largest: view.int("largest", 1) != 0,
    }))
}

impl TopK {
    fn k(&self, inputs: &[Option<Operand<'_>>]) -> Result<usize, Reason> {
        let k = match self.k {
            Count::Attribute(k) => k,
            Count::Input => match required(inputs, 1)?.ints("k")?[..] {
                [k] => k,
                _ => return Err(format!("k is one integer, not {}", required(inputs, 1)?.ty)),
            },
        };
        let length = required(inputs, 0)?.shape()[self.axis];
        usize::try_from(k)
            .ok()
            .filter(|k| *k <= length)
            .ok_or_else(|| format!("the top {k} of {length}"))
    }

    /// Which of two elements comes first.
    fn order<T: PartialOrd>(&self, a: &T, b: &T) -> Ordering {
        let ascending = a.partial_cmp(b).unwrap_or_else(|| {
            let is_number = |x: &T| x.partial_cmp(x).is_some();
            // What is no number comes last in both directions.
            let last_if_not = is_number(b).cmp(&is_number(a));
            if self.largest {
                last_if_not.reverse()
            } else {
                last_if_not
            }
        });
        if self.largest {
            ascending.reverse()
        } else {
            ascending
        }
    }

    /// Positions along the axis in the order wanted; sorting is stable, so equal elements keep theirs.
    fn ranked<T: PartialOrd>(&self, elements: &[T]) -> Vec<usize> {
        let mut ranked: Vec<usize> = (0..elements.len()).collect();
        ranked.sort_by(|&i, &j| self.order(&elements[i], &elements[j]));
        ranked
    }
}

impl Operator for TopK {
    fn static_inputs(&self) -> &'static [usize] {
        match self.k {
            Count::Attribute(_) => &[],
            Count::Input => &[1],
        }
    }

    fn infer(&self, inputs: &[Option<Operand<'_>>]) -> Result<Vec<TensorType>, Reason> {
        let data = required(inputs, 0)?;
        let mut shape = data.shape().clone();
        shape[self.axis] = self.k(inputs)?;
        Ok(vec![
            TensorType::new(data.dtype(), shape.clone()),
            TensorType::new(DType::I64, shape),
        ])
    }

    fn evaluate(&self, inputs: &[Option<&HostTensor>]) -> Result<Vec<HostTensor>, Reason> {
        let operands = operands(inputs);
        let mut types = self.infer(&operands)?;
        types.truncate(1);
        let k = self.k(&operands)?;
        let data = required_tensor(inputs, 0)?;
        let shape = types[0].shape.clone();
        let mut values = Elements::zeroed(types.remove(0));
        let mut indices = vec![0; shape.iter().product()];
        let (floats, integers) = (data.to_f32(), data.to_i64().unwrap_or_default());
        let mut lines = data.shape().to_vec();
        lines[self.axis] = 1;
        for_each_index(&lines, |_, line| {
            let along: Vec<usize> = (0..data.shape()[self.axis])
                .map(|i| {
                    let mut at = line.to_vec();
                    at[self.axis] = i;
                    position(data.shape(), &at)
                })
                .collect();
            let ranked = if let Some(floats) = &floats {
                self.ranked(&along.iter().map(|&i| floats[i]).collect::<Vec<_>>())
            } else {
                self.ranked(&along.iter().map(|&i| integers[i]).collect::<Vec<_>>())
            };
            for (place, &at) in ranked.iter().take(k).enumerate() {
                let mut to = line.to_vec();
                to[self.axis] = place;
                let to = position(&shape, &to);
                values.set(to, data, along[at]);
                indices[to] = at as i64;
            }
        });
        Ok(vec![values.finish(), HostTensor::i64(shape, &indices)])
    }

    fn emit(&self, emitter: &mut Emitter<'_>) -> Result<(), Reason> {
        let data = emitter.input_type(0).clone();
        let k = emitter.output_type(0).shape[self.axis];
        let count = index(data.elements())?;
        let inner: usize = data.shape[self.axis + 1..].iter().product();
        let mut args = vec![emitter.read(0), emitter.write(0), emitter.write(1)];
        args.push(Arg::U32(count as u32));
        args.extend(Divisor::args(inner));
        args.extend(Divisor::args(data.shape[self.axis]));
        args.extend([Arg::I32(k as i32), Arg::I32(i32::from(self.largest))]);
        emitter.launch(Launch {
            source: SOURCE,
            kernel: "top_k",
            options: vec![type_option(data.dtype)],
            args,
            global: [count as usize, 1, 1],
            local: GROUP,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::Attribute;
    use crate::tensor::{DType, HostTensor};
    use crate::testing::{Case, tensor};

    fn case(data: HostTensor, k: i64, axis: i64, largest: bool) -> Case {
        let (dtype, rank) = (data.dtype(), data.shape().len());
        Case::new("TopK", 11)
            .attr("axis", Attribute::Int(axis))
            .attr("largest", Attribute::Int(i64::from(largest)))
            .input(data)
            .constant(HostTensor::i64([1], &[k]))
            .output(dtype, rank)
            .output(DType::I64, rank)
    }

    fn indices(data: &[f32], k: i64, largest: bool) -> Vec<i64> {
        let line = HostTensor::f32([data.len()], data);
        case(line, k, 0, largest).check().remove(1).to_i64().unwrap()
    }

    #[test]
    fn the_specification_s_example_holds() {
        let data = HostTensor::f32(
            [3, 4],
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0],
        );
        let top = case(data, 3, 1, true).check();
        let values = [3.0, 2.0, 1.0, 7.0, 6.0, 5.0, 11.0, 10.0, 9.0];
        assert_eq!(top[0], HostTensor::f32([3, 3], &values));
        assert_eq!(top[1], HostTensor::i64([3, 3], &[3, 2, 1, 3, 2, 1, 3, 2, 1]));
    }

    #[test]
    fn among_equals_the_first_comes_first() {
        assert_eq!(
            indices(&[1.0, 2.0, 2.0, -0.0, 0.0, 2.0], 6, true),
            [1, 2, 5, 0, 3, 4]
        );
        assert_eq!(indices(&[1.0, 2.0, 2.0, -0.0, 0.0, 2.0], 4, false), [3, 4, 0, 1]);
    }

    #[test]
    fn what_is_no_number_comes_last() {
        let odd = [1.0, f32::NAN, 3.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN];
        assert_eq!(indices(&odd, 6, true), [4, 2, 0, 3, 1, 5]);
        assert_eq!(indices(&odd, 6, false), [3, 0, 2, 4, 1, 5]);
    }

    #[test]
    fn every_axis_and_type_is_ranked() {
        for axis in -3..3 {
            case(tensor(&[5, 7, 6], 3), 4, axis, true).check();
        }
        let values: Vec<i64> = (0..60).map(|i| i * 37 % 11 - 5).collect();
        case(HostTensor::i64([3, 20], &values), 20, 1, false).check();
        let narrow: Vec<i32> = values.iter().map(|&v| v as i32).collect();
        case(HostTensor::i32([20, 3], &narrow), 5, 0, true).check();
        case(tensor(&[300], 4), 10, 0, true).check();
        case(tensor(&[3], 5), 0, 0, true).check();
        let old = Case::new("TopK", 1)
            .attr("k", Attribute::Int(2))
            .input(tensor(&[4], 6));
        old.output(DType::F32, 1).output(DType::I64, 1).check();
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let refusal = case(tensor(&[3], 5), 4, 0, true).refusal().to_string();
        assert!(refusal.contains("the top 4 of 3"), "{refusal}");
    }
}
