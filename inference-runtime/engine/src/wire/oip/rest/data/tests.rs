use super::*;
use crate::wire::oip::shape;

fn data(datatype: Datatype, claimed: &[i64], text: &str) -> Result<Data> {
    let shape = shape::check("input `x`", datatype, claimed)?;
    let mut reader = Reader::new(text.as_bytes(), 100);
    let tensor = read("input `x`", datatype, shape, &mut reader)?;
    reader.end()?;
    Ok(tensor.data)
}

fn floats(values: &[f32]) -> Data {
    Data::Fixed(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

#[test]
fn nested_and_flat_data_are_the_same_tensor() {
    let wanted = floats(&[1.0, 2.0, 3.0, 4.5]);
    for text in ["[[1,2],[3,4.5]]", "[1, 2, 3, 45e-1]", "[ [1.0,\n2] ,[3,4.5] ]"] {
        assert_eq!(data(Datatype::Fp32, &[2, 2], text).unwrap(), wanted, "{text}");
    }
}

#[test]
fn scalars_and_empty_tensors_have_their_forms() {
    assert_eq!(data(Datatype::Fp32, &[], "5").unwrap(), floats(&[5.0]));
    assert_eq!(data(Datatype::Fp32, &[], "[5]").unwrap(), floats(&[5.0]));
    assert_eq!(data(Datatype::Fp32, &[0, 3], "[]").unwrap(), floats(&[]));
    assert_eq!(data(Datatype::Fp32, &[2, 0], "[[],[]]").unwrap(), floats(&[]));
    assert_eq!(data(Datatype::Fp32, &[2, 0], "[]").unwrap(), floats(&[]));
    assert_eq!(
        data(Datatype::Bytes, &[0], "[]").unwrap(),
        Data::Strings(Vec::new())
    );
}

#[test]
fn counts_and_nesting_that_differ_from_the_shape_are_refused() {
    for text in [
        "[1,2,3]",
        "[1,2,3,4,5]",
        "[]",
        "[[1,2],[3]]",
        "[[1,2],[3,4,5]]",
        "[[1,2]]",
        "[[1,2],[3,4],[5,6]]",
        "[[1,2],3,4]",
        "[1,[2,3],4]",
        "[[[1],[2]],[[3],[4]]]",
        "[[[[1,2,3,4]]]]",
        "1",
        "\"1234\"",
        "{}",
        "null",
        "[1,2,3,null]",
    ] {
        assert!(data(Datatype::Fp32, &[2, 2], text).is_err(), "{text}");
    }
}

#[test]
fn every_integer_type_takes_its_range_and_no_more() {
    use Datatype::{Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    for (datatype, low, high) in [
        (Uint8, 0, i128::from(u8::MAX)),
        (Uint16, 0, i128::from(u16::MAX)),
        (Uint32, 0, i128::from(u32::MAX)),
        (Uint64, 0, i128::from(u64::MAX)),
        (Int8, i128::from(i8::MIN), i128::from(i8::MAX)),
        (Int16, i128::from(i16::MIN), i128::from(i16::MAX)),
        (Int32, i128::from(i32::MIN), i128::from(i32::MAX)),
        (Int64, i128::from(i64::MIN), i128::from(i64::MAX)),
    ] {
        assert!(
            data(datatype, &[2], &format!("[{low},{high}]")).is_ok(),
            "{datatype:?}"
        );
        for beyond in [low - 1, high + 1] {
            let error = data(datatype, &[1], &format!("[{beyond}]")).unwrap_err();
            assert!(error.message.contains(datatype.name()), "{error}");
        }
    }
    for text in ["[1.0]", "[1e2]", "[NaN]", "[true]", "[\"1\"]"] {
        assert!(data(Int32, &[1], text).is_err(), "{text}");
    }
}

#[test]
fn floats_take_the_literals_of_python_but_no_overflow() {
    let Data::Fixed(bytes) = data(Datatype::Fp32, &[3], "[NaN,Infinity,-Infinity]").unwrap() else {
        panic!("fixed");
    };
    let read: Vec<f32> = bytes
        .chunks(4)
        .map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    assert!(read[0].is_nan());
    assert_eq!(read[1..], [f32::INFINITY, f32::NEG_INFINITY]);
    assert!(data(Datatype::Fp32, &[1], "[1e39]").is_err());
    assert!(data(Datatype::Fp64, &[1], "[1e39]").is_ok());
    assert!(data(Datatype::Fp64, &[1], "[-1e309]").is_err());
}

#[test]
fn half_precision_is_refused_with_a_way_out() {
    for datatype in [Datatype::Fp16, Datatype::Bf16] {
        let error = data(datatype, &[1], "[1]").unwrap_err();
        assert!(error.message.contains("binary"), "{error}");
    }
}

#[test]
fn strings_and_truths_are_read() {
    let strings = data(Datatype::Bytes, &[2], r#"["a\u00e9", ""]"#).unwrap();
    assert_eq!(strings, Data::Strings(vec![Bytes::from("aé"), Bytes::new()]));
    let truths = data(Datatype::Bool, &[2], "[true,false]").unwrap();
    assert_eq!(truths, Data::Fixed(Bytes::from_static(&[1, 0])));
    assert!(data(Datatype::Bool, &[1], "[1]").is_err());
    assert!(data(Datatype::Bytes, &[1], "[1]").is_err());
}

#[test]
fn a_huge_claim_costs_nothing() {
    assert!(data(Datatype::Fp32, &[1 << 40], "[1]").is_err());
    assert!(data(Datatype::Bytes, &[1 << 60], "[\"\"]").is_err());
}
