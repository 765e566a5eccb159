//! What is sent: one request, prepared once, so that generating load costs the client almost nothing.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Metadata, TensorMetadata};
use crate::hint;

/// A prepared request.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// Rows answered by one request.
    pub(crate) rows: usize,
}

impl Target {
    /// One text, embedded `rows` times per request.
    pub(crate) fn text(model: &str, text: &str, rows: usize) -> Self {
        let input = vec![text; rows];
        let body = json!({ "model": model, "input": input, "encoding_format": "base64" });
        let headers = vec![("content-type", "application/json".to_owned())];
        Self {
            path: "/v1/embeddings".into(),
            headers,
            body: body.to_string().into(),
            rows,
        }
    }

    /// Tensors of the model's own shapes, dynamic extents as `shapes` says or 1, in the binary encoding.
    pub(crate) fn tensors(model: &Metadata, shapes: &[String], rows: usize) -> Result<Self> {
        let named = shapes
            .iter()
            .map(|text| named_shape(text))
            .collect::<Result<Vec<_>>>()?;
        let mut inputs = Vec::new();
        let mut data = Vec::new();
        for input in &model.inputs {
            let shape = match named.iter().find(|(name, _)| *name == input.name) {
                Some((_, shape)) => shape.clone(),
                None => default_shape(input, rows),
            };
            let bytes = ramp(input, shape.iter().product())?;
            inputs.push(json!({
                "name": input.name, "datatype": input.datatype, "shape": shape,
                "parameters": { "binary_data_size": bytes.len() },
            }));
            data.extend_from_slice(&bytes);
        }
        let head: Value = json!({ "inputs": inputs, "parameters": { "binary_data_output": true } });
        let head = head.to_string();
        let headers = vec![("inference-header-content-length", head.len().to_string())];
        let body = [head.as_bytes(), &data].concat();
        Ok(Self {
            path: format!("/v2/models/{}/infer", model.name),
            headers,
            body: body.into(),
            rows,
        })
    }
}

/// `NAME:2,128`
fn named_shape(text: &str) -> Result<(&str, Vec<usize>)> {
    let parse = || {
        let (name, extents) = text.rsplit_once(':')?;
        Some((
            name,
            extents
                .split(',')
                .map(|e| e.parse().ok())
                .collect::<Option<Vec<usize>>>()?,
        ))
    };
    parse().ok_or_else(|| hint::error(format!("'{text}' is not a shape"), "write --shape NAME:2,128"))
}

/// The model's shape; the first dynamic extent is the batch, any other is 1.
fn default_shape(input: &TensorMetadata, rows: usize) -> Vec<usize> {
    let extent = |(axis, &extent): (usize, &i64)| match usize::try_from(extent) {
        Ok(fixed) => fixed,
        Err(_) if axis == 0 => rows,
        Err(_) => 1,
    };
    input.shape.iter().enumerate().map(extent).collect()
}

/// Elements that every model accepts: integers are 1 (a valid index almost everywhere), floats a ramp in [0, 1).
fn ramp(input: &TensorMetadata, elements: usize) -> Result<Vec<u8>> {
    let fraction = |i: usize| (i % 251) as f32 / 251.0;
    Ok(match input.datatype.as_str() {
        "BOOL" | "UINT8" | "INT8" => vec![1; elements],
        "UINT16" | "INT16" => [1, 0].repeat(elements),
        "FP16" => [0x00, 0x3c].repeat(elements),
        "BF16" => [0x80, 0x3f].repeat(elements),
        "UINT32" | "INT32" => 1_u32.to_le_bytes().repeat(elements),
        "UINT64" | "INT64" => 1_u64.to_le_bytes().repeat(elements),
        "FP32" => (0..elements).flat_map(|i| fraction(i).to_le_bytes()).collect(),
        "FP64" => (0..elements)
            .flat_map(|i| f64::from(fraction(i)).to_le_bytes())
            .collect(),
        "BYTES" => [1, 0, 0, 0, b'a'].repeat(elements),
        other => return Err(anyhow!("input '{}' has the unknown datatype {other}", input.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(shape: &[i64]) -> Metadata {
        let x = TensorMetadata {
            name: "x".into(),
            datatype: "FP32".into(),
            shape: shape.to_vec(),
        };
        Metadata {
            name: "m".into(),
            inputs: vec![x],
            outputs: vec![],
        }
    }

    #[test]
    fn the_binary_part_is_as_long_as_the_shape_says() {
        let target = Target::tensors(&model(&[-1, 3]), &[], 4).unwrap();
        let head: usize = target.headers[0].1.parse().unwrap();
        assert_eq!(target.body.len() - head, 4 * 3 * 4);
        assert_eq!(
            serde_json::from_slice::<Value>(&target.body[..head]).unwrap()["inputs"][0]["shape"],
            json!([4, 3])
        );
    }

    #[test]
    fn a_named_shape_overrides_the_models() {
        let target = Target::tensors(&model(&[-1, -1]), &["x:2,7".into()], 1).unwrap();
        let head: usize = target.headers[0].1.parse().unwrap();
        assert_eq!(target.body.len() - head, 2 * 7 * 4);
        assert!(
            Target::tensors(&model(&[-1]), &["x=3".into()], 1).is_err(),
            "a wrong shape was accepted"
        );
    }
}
