use std::time::Duration;

use super::*;
use crate::api::{Data, Kind, Tensor};

fn input(datatype: &str, shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "x".into(),
        datatype: datatype.into(),
        shape: shape.to_vec(),
        parameters: BTreeMap::new(),
        contents,
    }
}

fn request(inputs: Vec<InferInputTensor>, raw: &[&'static [u8]]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        inputs,
        raw_input_contents: raw.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
        ..ModelInferRequest::default()
    }
}

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter {
        parameter_choice: Some(choice),
    }
}

fn only(request: ModelInferRequest) -> Tensor {
    decode(request).unwrap().inputs.remove(0).tensor
}

#[test]
fn typed_contents_of_every_datatype_equal_the_raw_ones() {
    let none = InferTensorContents::default;
    let table: Vec<(&str, InferTensorContents, &'static [u8])> = vec![
        (
            "BOOL",
            InferTensorContents {
                bool_contents: vec![true, false],
                ..none()
            },
            &[1, 0],
        ),
        (
            "INT8",
            InferTensorContents {
                int_contents: vec![-1, 2],
                ..none()
            },
            &[255, 2],
        ),
        (
            "INT16",
            InferTensorContents {
                int_contents: vec![-1, 2],
                ..none()
            },
            &[255, 255, 2, 0],
        ),
        (
            "INT32",
            InferTensorContents {
                int_contents: vec![-1, 2],
                ..none()
            },
            &[255, 255, 255, 255, 2, 0, 0, 0],
        ),
        (
            "INT64",
            InferTensorContents {
                int64_contents: vec![-1, 2],
                ..none()
            },
            &[255, 255, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "UINT8",
            InferTensorContents {
                uint_contents: vec![255, 2],
                ..none()
            },
            &[255, 2],
        ),
        (
            "UINT16",
            InferTensorContents {
                uint_contents: vec![256, 2],
                ..none()
            },
            &[0, 1, 2, 0],
        ),
        (
            "UINT32",
            InferTensorContents {
                uint_contents: vec![256, 2],
                ..none()
            },
            &[0, 1, 0, 0, 2, 0, 0, 0],
        ),
        (
            "UINT64",
            InferTensorContents {
                uint64_contents: vec![256, 2],
                ..none()
            },
            &[0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "FP32",
            InferTensorContents {
                fp32_contents: vec![1.0, -2.0],
                ..none()
            },
            &[0, 0, 128, 63, 0, 0, 0, 192],
        ),
        (
            "FP64",
            InferTensorContents {
                fp64_contents: vec![1.0, -2.0],
                ..none()
            },
            &[0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 192],
        ),
        (
            "BYTES",
            InferTensorContents {
                bytes_contents: vec![Bytes::from_static(b"hi"), Bytes::new()],
                ..none()
            },
            &[2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0],
        ),
    ];
    for (datatype, contents, raw) in table {
        let typed = only(request(vec![input(datatype, &[2], Some(contents))], &[]));
        let raw = only(request(vec![input(datatype, &[2], None)], &[raw]));
        assert_eq!(typed, raw, "{datatype}");
    }
}

#[test]
fn scalars_and_empty_tensors_travel_typed_and_raw() {
    let one = InferTensorContents {
        fp32_contents: vec![1.0],
        ..InferTensorContents::default()
    };
    assert_eq!(
        only(request(vec![input("FP32", &[], Some(one))], &[])).shape,
        [0_usize; 0]
    );
    assert_eq!(
        only(request(vec![input("FP32", &[], None)], &[&[0; 4]])).shape,
        [0_usize; 0]
    );
    // An empty tensor has no typed contents to send, with or without the message around them.
    let empty = Data::Fixed(Bytes::new());
    assert_eq!(only(request(vec![input("FP32", &[0, 3], None)], &[])).data, empty);
    let nothing = Some(InferTensorContents::default());
    assert_eq!(
        only(request(vec![input("FP32", &[0, 3], nothing)], &[])).data,
        empty
    );
    assert_eq!(
        only(request(vec![input("FP32", &[0, 3], None)], &[&[]])).data,
        empty
    );
}

#[test]
fn parameters_of_every_width_are_understood() {
    let mut message = request(vec![], &[]);
    message.parameters = BTreeMap::from([
        ("priority".to_owned(), parameter(ParameterChoice::Uint64Param(3))),
        ("timeout".to_owned(), parameter(ParameterChoice::Int64Param(2000))),
        ("mine".to_owned(), parameter(ParameterChoice::DoubleParam(0.5))),
        (
            "triton_enable_empty_final_response".to_owned(),
            parameter(ParameterChoice::BoolParam(true)),
        ),
    ]);
    message.model_version = "2".into();
    let body = decode(message).unwrap();
    assert_eq!(body.version.as_deref(), Some("2"));
    assert_eq!(body.parameters.priority, 3);
    assert_eq!(body.parameters.timeout, Some(Duration::from_millis(2)));
    assert!(body.parameters.final_response_marker);
}

#[test]
fn requests_that_are_wrong_are_refused_with_the_reason() {
    let ints = |values: &[i32]| {
        Some(InferTensorContents {
            int_contents: values.to_vec(),
            ..InferTensorContents::default()
        })
    };
    let shared = |mut input: InferInputTensor| {
        let region = parameter(ParameterChoice::StringParam("r".into()));
        input.parameters.insert("shared_memory_region".into(), region);
        input
    };
    let table = [
        (
            request(vec![input("INT8", &[1], ints(&[1]))], &[&[1]]),
            "give one or the other",
        ),
        (
            request(vec![input("INT8", &[1], None)], &[&[1], &[1]]),
            "every input or for none",
        ),
        (
            request(vec![input("INT8", &[1], None)], &[]),
            "0 elements of data",
        ),
        (
            request(vec![input("INT8", &[2], ints(&[1]))], &[]),
            "1 elements of data",
        ),
        (
            request(vec![input("INT8", &[1], ints(&[128]))], &[]),
            "not a value of INT8",
        ),
        (
            request(vec![input("FP32", &[1], ints(&[1]))], &[]),
            "travels in fp32_contents",
        ),
        (
            request(vec![input("FP16", &[1], ints(&[1]))], &[]),
            "send raw_input_contents",
        ),
        (
            request(vec![input("INT4", &[1], None)], &[&[1]]),
            "unknown datatype",
        ),
        (request(vec![input("", &[1], None)], &[&[1]]), "unknown datatype"),
        (request(vec![input("INT8", &[-1], None)], &[&[1]]), "negative"),
        (
            request(vec![input("INT8", &[i64::MAX, i64::MAX], None)], &[&[1]]),
            "overflows",
        ),
        (request(vec![input("INT8", &[2], None)], &[&[1]]), "needs 2"),
        (
            request(
                vec![input("INT8", &[1], None), input("INT8", &[1], None)],
                &[&[1], &[1]],
            ),
            "input `x` is given twice",
        ),
        (
            request(vec![shared(input("INT8", &[1], None))], &[]),
            "shared memory",
        ),
    ];
    for (message, reason) in table {
        let error = decode(message).unwrap_err();
        assert!(matches!(error.kind, Kind::Invalid | Kind::Unimplemented));
        assert!(error.message.contains(reason), "{reason}: {error}");
    }
}
