//! The engine's answer to `ModelInferResponse`.

use std::collections::BTreeMap;

use afterglow_proto::inference::ModelInferResponse;
use afterglow_proto::inference::model_infer_response::InferOutputTensor;

use crate::api::{InferResponse, Result};
use crate::wire::oip::strings;

/// Writes an answer. Data always travels raw, also to typed requests: clients in use ignore typed numbers, or crash.
pub(crate) fn encode(response: InferResponse) -> Result<ModelInferResponse> {
    let mut message = ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id: response.id,
        ..ModelInferResponse::default()
    };
    for output in response.outputs {
        message.outputs.push(InferOutputTensor {
            name: output.name,
            datatype: output.tensor.datatype.name().to_owned(),
            shape: output.tensor.shape.iter().map(|extent| *extent as i64).collect(),
            parameters: BTreeMap::new(),
            contents: None,
        });
        message
            .raw_output_contents
            .push(strings::wire_form(output.tensor.data)?);
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::{Data, Datatype, NamedTensor, Tensor};

    #[test]
    fn every_output_has_one_raw_entry() {
        let output = |name: &str, datatype, data| NamedTensor {
            name: name.into(),
            tensor: Tensor {
                datatype,
                shape: vec![1],
                data,
            },
        };
        let message = encode(InferResponse {
            model: "m".into(),
            version: "1".into(),
            id: "7".into(),
            outputs: vec![
                output(
                    "a",
                    Datatype::Bytes,
                    Data::Strings(vec![Bytes::from_static(b"x")]),
                ),
                output("b", Datatype::Fp16, Data::Fixed(Bytes::from_static(&[1, 2]))),
            ],
        })
        .unwrap();
        assert_eq!(message.raw_output_contents, [&[1, 0, 0, 0, b'x'][..], &[1, 2]]);
        assert_eq!(message.outputs[1].datatype, "FP16");
        assert!(message.outputs.iter().all(|output| output.contents.is_none()));
    }
}
