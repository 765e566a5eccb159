//! A model's inputs and outputs, and whether a request fits them.

use std::collections::BTreeSet;

use crate::api::{Data, Error, NamedTensor, RequestedOutput, Result, Tensor, TensorSpec};

/// A model's inputs and outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signature {
    /// Inputs in the model's order.
    pub(crate) inputs: Vec<TensorSpec>,
    /// Outputs in the model's order.
    pub(crate) outputs: Vec<TensorSpec>,
    /// Inputs whose rank the model leaves open.
    pub(crate) open_rank: BTreeSet<String>,
    /// Most rows of a batch; 0 = first axes are no batch and requests run alone.
    pub(crate) max_batch: usize,
}

/// What decides whether two requests may share a batch: the extents of all inputs but their first.
pub(crate) type Axes = Vec<Vec<usize>>;

/// Inputs that fit, in the model's order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fitting {
    /// One tensor for each input of the model.
    pub(crate) inputs: Vec<NamedTensor>,
    /// Rows of the batch axis; 1 where the model does not batch.
    pub(crate) rows: usize,
    /// Equal for requests that may share a batch.
    pub(crate) axes: Axes,
}

impl Signature {
    /// Checks `inputs` against the model and sorts them into its order.
    pub(crate) fn fit(&self, mut inputs: Vec<NamedTensor>) -> Result<Fitting> {
        let mut seen = BTreeSet::new();
        for input in &inputs {
            if !self.inputs.iter().any(|spec| spec.name == input.name) {
                return Err(Error::invalid(format!(
                    "unknown input `{}`; the model's inputs are {}",
                    input.name,
                    names(&self.inputs)
                )));
            }
            if !seen.insert(input.name.as_str()) {
                return Err(Error::invalid(format!("input `{}` was given twice", input.name)));
            }
        }
        let mut sorted = Vec::with_capacity(inputs.len());
        for spec in &self.inputs {
            let Some(at) = inputs.iter().position(|input| input.name == spec.name) else {
                return Err(Error::invalid(format!(
                    "input `{}` is missing; the model's inputs are {}",
                    spec.name,
                    names(&self.inputs)
                )));
            };
            let input = inputs.swap_remove(at);
            self.fit_one(spec, &input.tensor)?;
            sorted.push(input);
        }
        let rows = if self.max_batch == 0 {
            1
        } else {
            self.rows(&sorted)?
        };
        let axes = sorted
            .iter()
            .map(|input| input.tensor.shape.get(1..).unwrap_or_default().to_vec())
            .collect();
        Ok(Fitting {
            inputs: sorted,
            rows,
            axes,
        })
    }

    fn fit_one(&self, spec: &TensorSpec, tensor: &Tensor) -> Result<()> {
        let name = &spec.name;
        if tensor.datatype != spec.datatype {
            return Err(Error::invalid(format!(
                "input `{name}` is {}, the model takes {}",
                tensor.datatype.name(),
                spec.datatype.name()
            )));
        }
        let fits = tensor.shape.len() == spec.shape.len()
            && tensor
                .shape
                .iter()
                .zip(&spec.shape)
                .all(|(&got, &want)| want < 0 || i64::try_from(got) == Ok(want));
        if !fits && !self.open_rank.contains(name) {
            return Err(Error::invalid(format!(
                "input `{name}` has the shape {:?}, the model takes {:?} (−1 is any extent)",
                tensor.shape, spec.shape
            )));
        }
        // Decoders check this too; a wrong length here would be read past the buffer's end in C++.
        let elements = tensor
            .shape
            .iter()
            .try_fold(1usize, |product, &extent| product.checked_mul(extent));
        let held = match (&tensor.data, tensor.datatype.size()) {
            (Data::Fixed(bytes), Some(size)) => (bytes.len() % size == 0).then_some(bytes.len() / size),
            (Data::Strings(strings), None) => Some(strings.len()),
            _ => None,
        };
        if elements.is_none() || elements != held {
            return Err(Error::invalid(format!(
                "input `{name}` does not hold what its shape {:?} says",
                tensor.shape
            )));
        }
        Ok(())
    }

    fn rows(&self, inputs: &[NamedTensor]) -> Result<usize> {
        let first = |input: &NamedTensor| input.tensor.shape.first().copied().unwrap_or(0);
        let rows = inputs.first().map_or(1, first);
        if let Some(other) = inputs.iter().find(|input| first(input) != rows) {
            return Err(Error::invalid(format!(
                "inputs must agree on the batch: `{}` has {} rows, `{}` has {rows}",
                other.name,
                first(other),
                inputs[0].name
            )));
        }
        if rows == 0 {
            return Err(Error::invalid("a batch of 0 rows: there is nothing to run"));
        }
        if rows > self.max_batch {
            return Err(Error::invalid(format!(
                "a batch of {rows} rows; the model takes at most {} (batching.maxBatchSize)",
                self.max_batch
            )));
        }
        Ok(rows)
    }

    /// Checks the names of wanted outputs.
    pub(crate) fn check_outputs(&self, wanted: &[RequestedOutput]) -> Result<()> {
        for (i, output) in wanted.iter().enumerate() {
            if !self.outputs.iter().any(|spec| spec.name == output.name) {
                return Err(Error::invalid(format!(
                    "unknown output `{}`; the model's outputs are {}",
                    output.name,
                    names(&self.outputs)
                )));
            }
            if wanted[..i].iter().any(|earlier| earlier.name == output.name) {
                return Err(Error::invalid(format!(
                    "output `{}` was asked for twice",
                    output.name
                )));
            }
        }
        Ok(())
    }
}

fn names(specs: &[TensorSpec]) -> String {
    specs
        .iter()
        .map(|spec| format!("`{}`", spec.name))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Datatype;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            datatype,
            shape: shape.to_vec(),
        }
    }

    fn floats(name: &str, shape: &[usize]) -> NamedTensor {
        NamedTensor {
            name: name.into(),
            tensor: Tensor {
                datatype: Datatype::Fp32,
                shape: shape.to_vec(),
                data: Data::Fixed(vec![0; 4 * shape.iter().product::<usize>()].into()),
            },
        }
    }

    fn pair(max_batch: usize) -> Signature {
        Signature {
            inputs: vec![
                spec("a", Datatype::Fp32, &[-1, 2]),
                spec("b", Datatype::Fp32, &[-1, -1]),
            ],
            outputs: vec![spec("y", Datatype::Fp32, &[-1, 2])],
            open_rank: BTreeSet::new(),
            max_batch,
        }
    }

    #[test]
    fn inputs_are_sorted_into_the_models_order_and_counted() {
        let fitting = pair(8)
            .fit(vec![floats("b", &[3, 5]), floats("a", &[3, 2])])
            .unwrap();
        assert_eq!(fitting.inputs[0].name, "a");
        assert_eq!(fitting.rows, 3);
        assert_eq!(fitting.axes, [vec![2], vec![5]]);
        assert_eq!(
            pair(0)
                .fit(vec![floats("a", &[3, 2]), floats("b", &[4, 5])])
                .unwrap()
                .rows,
            1,
            "no batch axis"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused_and_named() {
        let lying = NamedTensor {
            name: "b".into(),
            tensor: Tensor {
                datatype: Datatype::Fp32,
                shape: vec![usize::MAX, 8],
                data: Data::Fixed(vec![0; 8].into()),
            },
        };
        let strings = NamedTensor {
            name: "a".into(),
            tensor: Tensor {
                datatype: Datatype::Bytes,
                shape: vec![1, 2],
                data: Data::Strings(vec!["x".into(), "y".into()]),
            },
        };
        let rows: Vec<(Vec<NamedTensor>, &str)> = vec![
            (vec![floats("a", &[1, 2])], "`b` is missing"),
            (
                vec![floats("a", &[1, 2]), floats("c", &[1, 2])],
                "unknown input `c`",
            ),
            (
                vec![floats("a", &[1, 2]), floats("a", &[1, 2])],
                "`a` was given twice",
            ),
            (vec![strings, floats("b", &[1, 2])], "`a` is BYTES"),
            (vec![floats("a", &[1, 3]), floats("b", &[1, 2])], "[1, 3]"),
            (vec![floats("a", &[1, 2, 1]), floats("b", &[1, 2])], "[1, 2, 1]"),
            (vec![floats("a", &[]), floats("b", &[1, 2])], "[]"),
            (
                vec![floats("a", &[1, 2]), floats("b", &[2, 2])],
                "agree on the batch",
            ),
            (vec![floats("a", &[0, 2]), floats("b", &[0, 2])], "0 rows"),
            (vec![floats("a", &[9, 2]), floats("b", &[9, 2])], "at most 8"),
            (vec![floats("a", &[1, 2]), lying], "does not hold"),
        ];
        for (inputs, expected) in rows {
            let error = pair(8).fit(inputs).unwrap_err();
            assert_eq!(error.kind, crate::api::Kind::Invalid);
            assert!(
                error.message.contains(expected),
                "{} does not say {expected}",
                error.message
            );
        }
    }

    #[test]
    fn an_open_rank_takes_any_shape_and_an_empty_tensor_is_fine_without_a_batch() {
        let mut open = pair(0);
        open.open_rank.insert("b".into());
        assert!(
            open.fit(vec![floats("a", &[0, 2]), floats("b", &[2, 3, 4])])
                .is_ok()
        );
    }

    #[test]
    fn wanted_outputs_exist_once() {
        let wanted = |names: &[&str]| -> Vec<RequestedOutput> {
            names
                .iter()
                .map(|name| RequestedOutput {
                    name: (*name).to_owned(),
                    classification: 0,
                })
                .collect()
        };
        assert!(pair(1).check_outputs(&[]).is_ok());
        assert!(pair(1).check_outputs(&wanted(&["y"])).is_ok());
        assert!(
            pair(1)
                .check_outputs(&wanted(&["z"]))
                .unwrap_err()
                .message
                .contains("unknown output `z`")
        );
        assert!(
            pair(1)
                .check_outputs(&wanted(&["y", "y"]))
                .unwrap_err()
                .message
                .contains("twice")
        );
    }
}
