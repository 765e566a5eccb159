//! The raw request (`Inference-Header-Content-Length: 0`): no JSON; the body is the data of a model's only input.

use bytes::Bytes;

use crate::api::{Data, Datatype, Error, ModelConfig, NamedTensor, Result, Tensor};
use crate::wire::oip::shape::{self, Shape};

use super::{Body, Encoding};

/// Reads the body as batch 1 of the model's only input; every output is answered in binary.
pub(crate) fn raw(config: &ModelConfig, body: Bytes) -> Result<Body> {
    let [input] = config.inputs.as_slice() else {
        return Err(Error::invalid(format!(
            "a raw request needs a model with one input, `{}` has {}",
            config.name,
            config.inputs.len()
        )));
    };
    let tensor = format!("input `{}`", input.name);
    let batch = (config.max_batch_size > 0).then_some(1);
    let extents: Vec<i64> = batch.into_iter().chain(input.shape.iter().copied()).collect();
    let tensor = match input.datatype.size() {
        Some(size) => {
            let shape = fit(&tensor, input.datatype, size, &extents, body.len())?;
            shape::tensor(&tensor, input.datatype, shape, body)?
        }
        None => string(&tensor, &extents, body)?,
    };
    Ok(Body {
        inputs: vec![NamedTensor {
            name: input.name.clone(),
            tensor,
        }],
        encoding: Encoding {
            binary: true,
            outputs: Vec::new(),
        },
        ..Body::default()
    })
}

/// Gives the one dynamic extent the value that the body's length leaves.
fn fit(tensor: &str, datatype: Datatype, size: usize, extents: &[i64], length: usize) -> Result<Shape> {
    let dynamic = extents.iter().filter(|extent| **extent < 0).count();
    if dynamic > 1 {
        return Err(Error::invalid(format!(
            "{tensor}: a raw request leaves shape {extents:?} open; send the shape as JSON"
        )));
    }
    let fixed: Vec<i64> = extents.iter().copied().filter(|extent| *extent >= 0).collect();
    let row = shape::check(tensor, datatype, &fixed)?.elements * size;
    let open = match row {
        0 => 0,
        row => i64::try_from(length / row).unwrap_or(i64::MAX),
    };
    let filled: Vec<i64> = extents
        .iter()
        .map(|extent| if *extent < 0 { open } else { *extent })
        .collect();
    shape::check(tensor, datatype, &filled)
}

/// BYTES: the whole body is the one element, without a length before it.
fn string(tensor: &str, extents: &[i64], body: Bytes) -> Result<Tensor> {
    // One element is what [1], [-1] or [1, 1] can hold, and nothing else.
    if extents.iter().any(|extent| !matches!(extent, 1 | -1)) {
        return Err(Error::invalid(format!(
            "{tensor}: a raw request carries one string, shape {extents:?} is not one element"
        )));
    }
    Ok(Tensor {
        datatype: Datatype::Bytes,
        shape: vec![1; extents.len()],
        data: Data::Strings(vec![body]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::TensorSpec;

    fn model(max_batch_size: usize, inputs: &[(Datatype, &[i64])]) -> ModelConfig {
        ModelConfig {
            name: "m".into(),
            platform: "onnxruntime_onnx",
            max_batch_size,
            inputs: inputs
                .iter()
                .map(|(datatype, shape)| TensorSpec {
                    name: "x".into(),
                    datatype: *datatype,
                    shape: shape.to_vec(),
                })
                .collect(),
            outputs: Vec::new(),
            dynamic_batching: None,
            placement: crate::api::Placement::default(),
        }
    }

    fn shape(config: &ModelConfig, length: usize) -> Result<Vec<usize>> {
        Ok(raw(config, Bytes::from(vec![0; length]))?
            .inputs
            .remove(0)
            .tensor
            .shape)
    }

    #[test]
    fn the_length_of_the_body_fills_the_open_extent() {
        assert_eq!(
            shape(&model(0, &[(Datatype::Fp32, &[2, -1])]), 24).unwrap(),
            [2, 3]
        );
        assert_eq!(shape(&model(8, &[(Datatype::Fp32, &[-1])]), 12).unwrap(), [1, 3]);
        assert_eq!(shape(&model(8, &[(Datatype::Uint8, &[4])]), 4).unwrap(), [1, 4]);
        assert_eq!(shape(&model(0, &[(Datatype::Bytes, &[1])]), 9).unwrap(), [1]);
        assert_eq!(shape(&model(4, &[(Datatype::Bytes, &[1])]), 9).unwrap(), [1, 1]);
    }

    #[test]
    fn a_body_that_fits_no_shape_is_refused() {
        assert!(shape(&model(0, &[(Datatype::Fp32, &[2, -1])]), 23).is_err());
        assert!(shape(&model(0, &[(Datatype::Fp32, &[-1, -1])]), 24).is_err());
        assert!(shape(&model(0, &[(Datatype::Fp32, &[0, -1])]), 24).is_err());
        assert!(shape(&model(0, &[(Datatype::Bytes, &[2])]), 9).is_err());
        assert!(shape(&model(0, &[]), 4).is_err());
        assert!(shape(&model(0, &[(Datatype::Uint8, &[4]), (Datatype::Uint8, &[4])]), 4).is_err());
    }
}
