//! Both directions against each other: an answer has the form of a request, so what is encoded decodes to itself.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::api::{Data, Datatype, InferResponse, NamedTensor, Tensor};

/// A tensor of any datatype and of rank 0 to 3, extents of 0 included; `text` = strings are UTF-8.
fn tensor(text: bool) -> impl Strategy<Value = Tensor> {
    let shape = vec(0_usize..4, 0..4);
    (proptest::sample::select(Datatype::ALL.to_vec()), shape).prop_flat_map(move |(datatype, shape)| {
        let count: usize = shape.iter().product();
        let data = match datatype.size() {
            None if text => vec(".{0,6}", count)
                .prop_map(|texts| Data::Strings(texts.into_iter().map(Bytes::from).collect()))
                .boxed(),
            None => vec(vec(any::<u8>(), 0..6), count)
                .prop_map(|texts| Data::Strings(texts.into_iter().map(Bytes::from).collect()))
                .boxed(),
            Some(size) => vec(any::<u8>(), count * size)
                .prop_map(move |mut bytes| {
                    if datatype == Datatype::Bool {
                        for byte in &mut bytes {
                            *byte &= 1;
                        }
                    }
                    Data::Fixed(bytes.into())
                })
                .boxed(),
        };
        data.prop_map(move |data| Tensor {
            datatype,
            shape: shape.clone(),
            data,
        })
    })
}

fn response(tensors: Vec<Tensor>) -> InferResponse {
    let outputs = tensors.into_iter().enumerate();
    InferResponse {
        model: "m".into(),
        version: "1".into(),
        id: "an \"id\"".into(),
        outputs: outputs
            .map(|(index, tensor)| NamedTensor {
                name: format!("t{index}"),
                tensor,
            })
            .collect(),
    }
}

/// The answer as a request: its outputs are the inputs.
fn request(answer: &Answer) -> (Vec<u8>, Bytes) {
    let mut head = answer.body.clone();
    let binary = answer
        .json_length
        .map_or_else(Bytes::new, |length| head.split_off(length));
    let text = std::str::from_utf8(&head).unwrap();
    (
        text.replacen(r#""outputs":["#, r#""inputs":["#, 1).into_bytes(),
        binary,
    )
}

fn decoded(answer: &Answer) -> crate::api::Result<Body> {
    let (head, binary) = request(answer);
    decode(&head, &binary, 100)
}

/// NaN has many bit patterns and one word in JSON.
fn with_one_nan(tensor: &Tensor) -> Tensor {
    let Data::Fixed(bytes) = &tensor.data else {
        return tensor.clone();
    };
    let data = match tensor.datatype {
        Datatype::Fp32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|element| f32::from_le_bytes(*element))
            .flat_map(|value| {
                if value.is_nan() {
                    f32::NAN.to_le_bytes()
                } else {
                    value.to_le_bytes()
                }
            })
            .collect(),
        Datatype::Fp64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|element| f64::from_le_bytes(*element))
            .flat_map(|value| {
                if value.is_nan() {
                    f64::NAN.to_le_bytes()
                } else {
                    value.to_le_bytes()
                }
            })
            .collect(),
        _ => bytes.clone(),
    };
    Tensor {
        data: Data::Fixed(data),
        ..tensor.clone()
    }
}

proptest! {
    #[test]
    fn binary_tensors_decode_to_what_was_encoded(tensors in vec(tensor(false), 1..4)) {
        let response = response(tensors);
        let answer = encode(&response, &Encoding { binary: true, outputs: Vec::new() }).unwrap();
        let body = decoded(&answer).unwrap();
        prop_assert_eq!(body.inputs, response.outputs);
        prop_assert_eq!(body.id, response.id);
    }

    #[test]
    fn json_tensors_decode_to_what_was_encoded(tensors in vec(tensor(true), 1..4)) {
        let response = response(tensors);
        let halves = |output: &NamedTensor| matches!(output.tensor.datatype, Datatype::Fp16 | Datatype::Bf16);
        let answer = encode(&response, &Encoding::default());
        prop_assert_eq!(answer.is_err(), response.outputs.iter().any(halves));
        if let Ok(answer) = answer {
            let body = decoded(&answer).unwrap();
            for (input, output) in body.inputs.iter().zip(&response.outputs) {
                prop_assert_eq!(with_one_nan(&input.tensor), with_one_nan(&output.tensor));
            }
        }
    }

    #[test]
    fn a_broken_byte_is_refused_or_makes_another_good_request(
        tensors in vec(tensor(true), 1..3), binary in any::<bool>(),
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()
    ) {
        let encoding = Encoding { binary, outputs: Vec::new() };
        let Ok(answer) = encode(&response(tensors), &encoding) else { return Ok(()) };
        let (mut head, binary) = request(&answer);
        let at = at.index(head.len() + binary.len());
        let mut binary = binary.to_vec();
        match at.checked_sub(head.len()) {
            None if cut => head.truncate(at),
            None => head[at] = byte,
            Some(at) if cut => binary.truncate(at),
            Some(at) => binary[at] = byte,
        }
        if let Ok(body) = decode(&head, &binary.into(), 100) {
            for NamedTensor { tensor, .. } in &body.inputs {
                let count: usize = tensor.shape.iter().product();
                match &tensor.data {
                    Data::Strings(texts) => prop_assert_eq!(texts.len(), count),
                    Data::Fixed(bytes) => prop_assert_eq!(Some(bytes.len()), tensor.datatype.size().map(|s| s * count)),
                }
            }
        }
    }
}
