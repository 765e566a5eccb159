//! An answer: JSON, with binary tensors behind it where the client asked for them.

use std::io::Write as _;

use bytes::Bytes;

use crate::api::{Data, Datatype, Error, InferResponse, NamedTensor, Result};
use crate::wire::json;
use crate::wire::oip::strings;

use super::Encoding;

/// An answer as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// JSON, then the binary tensors.
    pub(crate) body: Bytes,
    /// Length of the JSON where binary tensors follow: the header, and another content type.
    pub(crate) json_length: Option<usize>,
}

/// Writes an answer.
pub(crate) fn encode(response: &InferResponse, encoding: &Encoding) -> Result<Answer> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(br#"{"model_name":"#);
    json::string(&mut out, &response.model);
    out.extend_from_slice(br#","model_version":"#);
    json::string(&mut out, &response.version);
    if !response.id.is_empty() {
        out.extend_from_slice(br#","id":"#);
        json::string(&mut out, &response.id);
    }
    out.extend_from_slice(br#","outputs":["#);
    let mut binary = Vec::new();
    for (index, output) in response.outputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        head(&mut out, output);
        if encoding.is_binary(&output.name) {
            let size = strings::wire_size(&output.tensor.data);
            write(
                &mut out,
                format_args!(r#","parameters":{{"binary_data_size":{size}}}}}"#),
            );
            binary.push(&output.tensor.data);
        } else {
            out.extend_from_slice(br#","data":["#);
            elements(&mut out, output)?;
            out.extend_from_slice(b"]}");
        }
    }
    out.extend_from_slice(b"]}");
    let json_length = (!binary.is_empty()).then_some(out.len());
    // One allocation, and later one write: a head and a body written apart cost 40 ms on a connection with delayed
    // acknowledgements.
    out.reserve_exact(binary.iter().map(|data| strings::wire_size(data)).sum());
    for data in binary {
        strings::append(&mut out, data)?;
    }
    Ok(Answer {
        body: out.into(),
        json_length,
    })
}

fn head(out: &mut Vec<u8>, output: &NamedTensor) {
    out.extend_from_slice(br#"{"name":"#);
    json::string(out, &output.name);
    write(
        out,
        format_args!(r#","datatype":"{}","shape":["#, output.tensor.datatype.name()),
    );
    for (index, extent) in output.tensor.shape.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, format_args!("{extent}"));
    }
    out.push(b']');
}

fn elements(out: &mut Vec<u8>, output: &NamedTensor) -> Result<()> {
    let tensor = &output.tensor;
    match (&tensor.data, tensor.datatype) {
        (Data::Strings(elements), _) => {
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                let text = std::str::from_utf8(element).map_err(|_| {
                    Error::invalid(format!(
                        "output `{}`: element {index} is not UTF-8 and cannot travel as JSON; ask for binary data",
                        output.name
                    ))
                })?;
                json::string(out, text);
            }
        }
        (Data::Fixed(bytes), datatype) => match datatype {
            Datatype::Bool => each(out, bytes, |out, [byte]: [u8; 1]| {
                out.extend_from_slice(if byte == 0 { b"false" } else { b"true" });
            }),
            Datatype::Uint8 => integers(out, bytes, u8::from_le_bytes),
            Datatype::Uint16 => integers(out, bytes, u16::from_le_bytes),
            Datatype::Uint32 => integers(out, bytes, u32::from_le_bytes),
            Datatype::Uint64 => integers(out, bytes, u64::from_le_bytes),
            Datatype::Int8 => integers(out, bytes, i8::from_le_bytes),
            Datatype::Int16 => integers(out, bytes, i16::from_le_bytes),
            Datatype::Int32 => integers(out, bytes, i32::from_le_bytes),
            Datatype::Int64 => integers(out, bytes, i64::from_le_bytes),
            Datatype::Fp32 => each(out, bytes, |out, b| json::float32(out, f32::from_le_bytes(b))),
            Datatype::Fp64 => each(out, bytes, |out, b| json::float64(out, f64::from_le_bytes(b))),
            Datatype::Fp16 | Datatype::Bf16 => {
                return Err(Error::invalid(format!(
                    "output `{}`: {} cannot travel as JSON; ask for binary data",
                    output.name,
                    datatype.name()
                )));
            }
            Datatype::Bytes => {
                return Err(Error::internal(format!(
                    "output `{}`: BYTES held as numbers",
                    output.name
                )));
            }
        },
    }
    Ok(())
}

fn integers<T: std::fmt::Display, const N: usize>(out: &mut Vec<u8>, bytes: &[u8], from: fn([u8; N]) -> T) {
    each(out, bytes, |out, element| {
        write(out, format_args!("{}", from(element)));
    });
}

fn each<const N: usize>(out: &mut Vec<u8>, bytes: &[u8], write: impl Fn(&mut Vec<u8>, [u8; N])) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, *element);
    }
}

fn write(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Kind, Tensor};

    fn response(outputs: Vec<(&str, Datatype, Vec<usize>, Data)>) -> InferResponse {
        InferResponse {
            model: "m".into(),
            version: "1".into(),
            id: String::new(),
            outputs: outputs
                .into_iter()
                .map(|(name, datatype, shape, data)| NamedTensor {
                    name: name.into(),
                    tensor: Tensor {
                        datatype,
                        shape,
                        data,
                    },
                })
                .collect(),
        }
    }

    fn fixed(bytes: &[u8]) -> Data {
        Data::Fixed(Bytes::copy_from_slice(bytes))
    }

    fn text(response: &InferResponse) -> String {
        let answer = encode(response, &Encoding::default()).unwrap();
        assert_eq!(answer.json_length, None);
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    #[test]
    fn json_is_flat_and_the_id_absent_where_there_is_none() {
        let mut answer = response(vec![("y", Datatype::Int16, vec![2, 1], fixed(&[255, 255, 2, 0]))]);
        assert_eq!(
            text(&answer),
            r#"{"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"INT16","shape":[2,1],"data":[-1,2]}]}"#
        );
        answer.id = "a\"b".into();
        assert!(text(&answer).contains(r#""id":"a\"b""#));
    }

    #[test]
    fn binary_outputs_follow_the_json_in_order() {
        let strings = Data::Strings(vec![Bytes::from_static(b"hi")]);
        let answer = encode(
            &response(vec![
                ("a", Datatype::Bytes, vec![1], strings),
                ("b", Datatype::Uint8, vec![1], fixed(&[7])),
                ("c", Datatype::Fp16, vec![1], fixed(&[1, 2])),
            ]),
            &Encoding {
                binary: true,
                outputs: vec![("b".into(), false)],
            },
        )
        .unwrap();
        let (json, binary) = answer.body.split_at(answer.json_length.unwrap());
        assert_eq!(binary, [2, 0, 0, 0, b'h', b'i', 1, 2]);
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 6);
        assert_eq!(json["outputs"][1]["data"][0], 7);
        assert_eq!(json["outputs"][2]["parameters"]["binary_data_size"], 2);
    }

    #[test]
    fn scalars_and_empty_tensors_keep_their_shapes() {
        let answer = response(vec![
            ("s", Datatype::Bool, vec![], fixed(&[1])),
            ("e", Datatype::Fp32, vec![0, 4], fixed(&[])),
        ]);
        assert!(text(&answer).contains(r#""shape":[],"data":[true]"#));
        assert!(text(&answer).contains(r#""shape":[0,4],"data":[]"#));
    }

    #[test]
    fn what_json_cannot_carry_is_an_error_that_says_so() {
        for (datatype, data) in [
            (Datatype::Fp16, fixed(&[0, 0])),
            (Datatype::Bf16, fixed(&[0, 0])),
            (Datatype::Bytes, Data::Strings(vec![Bytes::from_static(&[0xff])])),
        ] {
            let answer = response(vec![("y", datatype, vec![1], data)]);
            let error = encode(&answer, &Encoding::default()).unwrap_err();
            assert_eq!(error.kind, Kind::Invalid);
            assert!(error.message.contains("binary data"), "{error}");
        }
    }
}
