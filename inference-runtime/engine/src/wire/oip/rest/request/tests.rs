use std::time::Duration;

use super::*;
use crate::api::{Data, Kind, Tensor};

fn json(text: &str) -> Result<Body> {
    decode(text.as_bytes(), &Bytes::new(), 100)
}

fn mixed(text: &str, binary: &'static [u8]) -> Result<Body> {
    decode(text.as_bytes(), &Bytes::from_static(binary), 100)
}

fn tensor(datatype: Datatype, shape: &[usize], bytes: &[u8]) -> Tensor {
    Tensor {
        datatype,
        shape: shape.to_vec(),
        data: Data::Fixed(Bytes::copy_from_slice(bytes)),
    }
}

#[test]
fn members_may_come_in_any_order() {
    let body = json(
        r#"{"outputs": [{"name": "y"}], "model_name": "m", "inputs": [
            {"data": [1, 2], "parameters": {"custom": 1.5}, "datatype": "INT8", "shape": [2], "name": "x"}
        ], "id": "7", "parameters": {"priority": 2, "timeout": 1000}}"#,
    )
    .unwrap();
    assert_eq!(body.id, "7");
    assert_eq!(body.inputs[0].tensor, tensor(Datatype::Int8, &[2], &[1, 2]));
    assert_eq!(body.outputs[0].name, "y");
    assert_eq!(body.parameters.priority, 2);
    assert_eq!(body.parameters.timeout, Some(Duration::from_millis(1)));
}

#[test]
fn binary_tensors_follow_in_the_order_of_the_json_and_mix_with_it() {
    let body = mixed(
        r#"{"inputs": [
            {"name": "a", "shape": [2], "datatype": "UINT16", "parameters": {"binary_data_size": 4}},
            {"name": "b", "shape": [1], "datatype": "UINT8", "data": [9]},
            {"name": "c", "shape": [], "datatype": "BOOL", "parameters": {"binary_data_size": 1}},
            {"name": "d", "shape": [0], "datatype": "FP16", "parameters": {"binary_data_size": 0}},
            {"name": "e", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}}
        ]}"#,
        &[1, 0, 2, 0, 1, 2, 0, 0, 0, b'h', b'i'],
    )
    .unwrap();
    let wanted = [
        tensor(Datatype::Uint16, &[2], &[1, 0, 2, 0]),
        tensor(Datatype::Uint8, &[1], &[9]),
        tensor(Datatype::Bool, &[], &[1]),
        tensor(Datatype::Fp16, &[0], &[]),
        Tensor {
            datatype: Datatype::Bytes,
            shape: vec![1],
            data: Data::Strings(vec![Bytes::from_static(b"hi")]),
        },
    ];
    let found: Vec<Tensor> = body.inputs.into_iter().map(|input| input.tensor).collect();
    assert_eq!(found, wanted);
}

#[test]
fn the_output_says_its_encoding_and_else_the_request_does() {
    let body = json(
        r#"{"inputs": [], "parameters": {"binary_data_output": true}, "outputs": [
            {"name": "a", "parameters": {"binary_data": false, "classification": 3}}, {"name": "b"}
        ]}"#,
    )
    .unwrap();
    assert!(!body.encoding.is_binary("a"));
    assert!(body.encoding.is_binary("b"));
    assert_eq!(body.outputs[0].classification, 3);
}

#[test]
fn an_empty_or_absent_id_is_no_id() {
    for text in [
        r#"{"inputs": []}"#,
        r#"{"inputs": [], "id": ""}"#,
        r#"{"inputs": [], "id": null}"#,
    ] {
        assert_eq!(json(text).unwrap().id, "", "{text}");
    }
}

#[test]
fn requests_that_are_wrong_are_refused_with_the_reason() {
    let input = |members: &str| format!(r#"{{"inputs": [{{{members}}}]}}"#);
    let good = r#""name": "x", "shape": [1], "datatype": "INT8", "data": [1]"#;
    let table: Vec<(String, &str)> = vec![
        (String::new(), "ends where a value is expected"),
        ("[]".into(), "has an array where an object is expected"),
        ("{}".into(), "has no `inputs`"),
        (
            r#"{"inputs": {}}"#.into(),
            "has an object where an array is expected",
        ),
        (
            r#"{"inputs": [1]}"#.into(),
            "has a number where an object is expected",
        ),
        (r#"{"inputs": []} x"#.into(), "goes on after its end"),
        (r#"{"inputs": []"#.into(), "expected `,` or `}`"),
        (
            r#"{"inputs": [], "inputs": []}"#.into(),
            "`inputs` is given twice",
        ),
        (
            r#"{"inputs": [], "id": 5}"#.into(),
            "has a number where a string is expected",
        ),
        (
            r#"{"inputs": [], "parameters": []}"#.into(),
            "has an array where an object is expected",
        ),
        (r#"{"inputs": [], "outputs": [{}]}"#.into(), "no `name`"),
        (
            r#"{"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}"#.into(),
            "output `y` is given twice",
        ),
        (
            r#"{"inputs": [], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}"#.into(),
            "`binary_data` must be true or false",
        ),
        (
            r#"{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": -1}}]}"#.into(),
            "`classification` must be an unsigned",
        ),
        (
            format!(r#"{{"inputs": [{{{good}}}, {{{good}}}]}}"#),
            "input `x` is given twice",
        ),
        (
            input(r#""shape": [1], "datatype": "INT8", "data": [1]"#),
            "an input has no `name`",
        ),
        (
            input(r#""name": "x", "datatype": "INT8", "data": [1]"#),
            "input `x` has no `shape`",
        ),
        (
            input(r#""name": "x", "shape": [1], "data": [1]"#),
            "input `x` has no `datatype`",
        ),
        (
            input(r#""name": "x", "shape": [1], "datatype": "INT8""#),
            "neither `data` nor `binary_data_size`",
        ),
        (input(&format!(r#"{good}, "data": [1]"#)), "`data` is given twice"),
        (
            input(&format!(r#"{good}, "parameters": {{"binary_data_size": 1}}"#)),
            "both `data` and",
        ),
        (
            input(r#""name": "x", "shape": [1], "datatype": "INT4", "data": [1]"#),
            "unknown datatype `INT4`",
        ),
        (
            input(r#""name": "x", "shape": [1], "datatype": "FP16", "data": [1]"#),
            "send it as binary data",
        ),
        (
            input(r#""name": "x", "shape": [2], "datatype": "INT8", "data": [1]"#),
            "needs 2",
        ),
        (
            input(r#""name": "x", "shape": [-1], "datatype": "INT8", "data": [1]"#),
            "negative",
        ),
        (
            input(r#""name": "x", "shape": [1.5], "datatype": "INT8", "data": [1]"#),
            "not a 64-bit integer",
        ),
        (
            input(r#""name": "x", "shape": [9223372036854775807, 4], "datatype": "INT8", "data": [1]"#),
            "overflows",
        ),
        (
            input(r#""name": "x", "shape": [99999999999999999999], "datatype": "INT8", "data": [1]"#),
            "not a 64-bit integer",
        ),
    ];
    for (text, reason) in table {
        let error = json(&text).unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{text}");
        assert!(error.message.contains(reason), "{text}: {error}");
    }
}

#[test]
fn binary_lengths_that_lie_are_refused() {
    let input = |size: &str| {
        format!(
            r#"{{"inputs": [{{"name": "x", "shape": [2], "datatype": "UINT16", "parameters": {{"binary_data_size": {size}}}}}]}}"#
        )
    };
    for (size, binary, reason) in [
        ("4", &[1, 0, 2][..], "only 3 bytes are left"),
        ("4", &[], "only 0 bytes are left"),
        ("4", &[1, 0, 2, 0, 9], "unexpected additional input data: 1 bytes"),
        ("3", &[1, 0, 2], "needs 4"),
        ("18446744073709551615", &[1, 0, 2, 0], "are left"),
        ("-4", &[1, 0, 2, 0], "must be a number of bytes"),
        ("\"4\"", &[1, 0, 2, 0], "must be a number of bytes"),
    ] {
        let error = mixed(&input(size), binary).unwrap_err();
        assert!(error.message.contains(reason), "{size} of {binary:?}: {error}");
    }
    let error = mixed(r#"{"inputs": []}"#, &[1]).unwrap_err();
    assert!(error.message.contains("additional"), "{error}");
}

#[test]
fn shared_memory_is_refused_rather_than_ignored() {
    let error = json(
        r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "INT8",
            "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 1}}]}"#,
    )
    .unwrap_err();
    assert_eq!(error.kind, Kind::Unimplemented);
}

#[test]
fn deep_json_is_refused_even_where_nobody_looks() {
    let text = format!(
        r#"{{"custom": {}{}, "inputs": []}}"#,
        "[".repeat(100),
        "]".repeat(100)
    );
    let error = json(&text).unwrap_err();
    assert!(error.message.contains("nested deeper"), "{error}");
}
