use proptest::prelude::*;

use super::*;

/// A tree, for comparing with `serde_json` only.
fn tree(reader: &mut Reader<'_>) -> Result<serde_json::Value> {
    use serde_json::Value;
    Ok(match reader.peek()? {
        Kind::Object => {
            let mut members = serde_json::Map::new();
            reader.object(|reader, key| {
                let value = tree(reader)?;
                members.insert(key.into_owned(), value);
                Ok(())
            })?;
            Value::Object(members)
        }
        Kind::Array => {
            let mut elements = Vec::new();
            reader.array(|reader| {
                elements.push(tree(reader)?);
                Ok(())
            })?;
            Value::Array(elements)
        }
        Kind::String => Value::String(reader.string()?.into_owned()),
        Kind::Number => serde_json::from_str(reader.number()?).unwrap_or(Value::Null),
        Kind::Bool => Value::Bool(reader.bool()?),
        Kind::Null => {
            reader.null()?;
            Value::Null
        }
    })
}

fn read(text: &[u8]) -> Result<serde_json::Value> {
    let mut reader = Reader::new(text, 100);
    let value = tree(&mut reader)?;
    reader.end()?;
    let mut skipper = Reader::new(text, 100);
    skipper.skip()?;
    skipper.end()?;
    Ok(value)
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Exact in few digits: serde_json rounds the last digit of others differently.
        any::<i32>().prop_map(|x| Value::from(f64::from(x) / 4.0)),
        ".*".prop_map(Value::String),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::hash_map(".*", inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_serde_json_writes(value in json()) {
        prop_assert_eq!(&read(value.to_string().as_bytes()).unwrap(), &value);
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(&read(pretty.as_bytes()).unwrap(), &value);
    }

    #[test]
    fn agrees_with_serde_json_on_what_is_json(
        value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>(), remove in any::<bool>()
    ) {
        // One broken byte in a good text finds more edges than random bytes do.
        let mut text = value.to_string().into_bytes();
        let at = at.index(text.len());
        if remove { text.remove(at); } else { text[at] = byte; }
        let theirs = serde_json::from_slice::<serde_json::Value>(&text);
        let mine = read(&text);
        // serde_json alone refuses numbers beyond f64; the reader leaves ranges to the datatype.
        let beyond = theirs.as_ref().is_err_and(|error| error.to_string().contains("out of range"));
        prop_assert!(beyond || mine.is_ok() == theirs.is_ok(), "{:?} {:?}", mine, theirs);
        if let (Ok(mine), Ok(theirs)) = (mine, theirs) {
            prop_assert_eq!(mine, theirs);
        }
    }

    #[test]
    fn never_panics(text in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&text);
    }
}

#[test]
fn nesting_is_bounded_whether_read_or_skipped() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(100).as_bytes()).is_ok());
    let error = read(nested(101).as_bytes()).unwrap_err();
    assert!(error.message.contains("nested deeper than 100"), "{error}");
    assert!(read("[".repeat(1 << 20).as_bytes()).is_err());
}

#[test]
fn python_and_rapidjson_literals_are_numbers() {
    for literal in ["NaN", "Infinity", "-Infinity"] {
        let mut reader = Reader::new(literal.as_bytes(), 1);
        assert_eq!(reader.number().unwrap(), literal);
        assert!(reader.end().is_ok());
    }
    assert!(read(b"NaNa").is_err());
    assert!(read(b"-NaN").is_err());
}

#[test]
fn errors_say_where() {
    let error = read(br#"{"a": tru}"#).unwrap_err();
    assert_eq!(error.message, "the JSON body expected a value, at byte 6");
}
