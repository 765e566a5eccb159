//! JSON that is looked at, and changed, without being decoded: one member counts, the rest stays byte for byte.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde::Deserializer as _;
use serde::de::{Deserialize, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// The members of an object with a wished name.
struct Members<'a> {
    name: &'a str,
    found: Vec<&'a RawValue>,
}

/// A member's name, which may be written with escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Key)
    }
}

impl<'de> Visitor<'de> for Members<'de> {
    type Value = Vec<&'de RawValue>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if key == self.name {
                self.found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self.found)
    }
}

/// The object's members of that name, as they stand in the text.
fn members<'a>(json: &'a [u8], name: &'a str) -> Result<Vec<&'a RawValue>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = reader.deserialize_map(Members {
        name,
        found: Vec::new(),
    })?;
    reader.end()?;
    Ok(found)
}

/// The `model` of an OpenAI request.
pub(super) fn model(body: &[u8]) -> Result<String, Refusal> {
    let wrong = |error: serde_json::Error| Refusal::invalid(format!("the request is not JSON: {error}"));
    let found = members(body, "model").map_err(wrong)?;
    let [model] = found[..] else {
        return Err(Refusal::invalid(if found.is_empty() {
            "`model` is missing"
        } else {
            "`model` is given twice"
        }));
    };
    serde_json::from_str(model.get()).map_err(|_| Refusal::invalid("`model` must be a string"))
}

/// The request with another `model`; everything else as it was.
pub(super) fn with_model(body: &Bytes, model: &str) -> Bytes {
    let Ok(found) = members(body, "model") else {
        return body.clone();
    };
    let mut changed = Vec::with_capacity(body.len() + model.len());
    let mut copied = 0;
    for value in found {
        // Where the value stands in the text: it is a part of it.
        let start = value.get().as_ptr() as usize - body.as_ptr() as usize;
        changed.extend_from_slice(&body[copied..start]);
        changed.extend_from_slice(serde_json::Value::from(model).to_string().as_bytes());
        copied = start + value.get().len();
    }
    changed.extend_from_slice(&body[copied..]);
    changed.into()
}

/// The `sequence_id` of an inference request. A compressed body is not opened for it; such clients have the header
/// `x-afterglow-session`.
pub(super) fn sequence(body: &[u8], headers: &HeaderMap) -> Option<String> {
    const NAME: &[u8] = b"\"sequence_id\"";
    if headers.contains_key(CONTENT_ENCODING) {
        return None;
    }
    let length = headers.get("inference-header-content-length");
    let json = match length {
        None => body,
        Some(length) => body.get(..length.to_str().ok()?.parse().ok()?)?,
    };
    // Few requests have one; those that have none are not read at all.
    if !json.windows(NAME.len()).any(|window| window == NAME) {
        return None;
    }
    let parameters = members(json, "parameters").ok()?.pop()?;
    let sequence = members(parameters.get().as_bytes(), "sequence_id").ok()?.pop()?;
    match serde_json::from_str(sequence.get()).ok()? {
        serde_json::Value::String(name) if !name.is_empty() => Some(name),
        serde_json::Value::Number(number) if number.as_u64() != Some(0) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_models_name_changes() {
        for (before, after) in [
            (
                r#"{ "input":"a",  "model" : "m", "dimensions":1.50 }"#,
                r#"{ "input":"a",  "model" : "ns.r-1", "dimensions":1.50 }"#,
            ),
            (
                r#"{"mod\u0065l":"m","input":{"model":"inner"}}"#,
                r#"{"mod\u0065l":"ns.r-1","input":{"model":"inner"}}"#,
            ),
        ] {
            let body = Bytes::from_static(before.as_bytes());
            assert_eq!(model(&body).unwrap(), "m");
            assert_eq!(with_model(&body, "ns.r-1"), after);
        }
    }

    #[test]
    fn a_request_without_one_model_is_refused() {
        for wrong in [
            "",
            "[]",
            "{",
            "{}",
            r#"{"model":1}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a"} x"#,
        ] {
            assert_eq!(
                model(wrong.as_bytes()).unwrap_err().kind,
                crate::refusal::Kind::Invalid,
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_sequence_is_found_before_binary_tensors_and_nothing_means_none() {
        let plain = HeaderMap::new();
        let id = |json: &str| sequence(json.as_bytes(), &plain);
        assert_eq!(
            id(r#"{"parameters":{"sequence_id":42},"inputs":[]}"#).as_deref(),
            Some("42")
        );
        assert_eq!(
            id(r#"{"parameters":{"sequence_id":"chat"}}"#).as_deref(),
            Some("chat")
        );
        for none in [
            r#"{"parameters":{"sequence_id":0}}"#,
            r#"{"parameters":{"sequence_id":""}}"#,
            r#"{"inputs":[{"parameters":{"sequence_id":5}}]}"#,
            r#"{"parameters":{"sequence_id":true}}"#,
            "\"sequence_id\"",
        ] {
            assert_eq!(id(none), None, "{none}");
        }
        let json = r#"{"parameters":{"sequence_id":7}}"#;
        let mut binary = json.as_bytes().to_vec();
        binary.extend([0xff, 0xfe]);
        let mut headers = HeaderMap::new();
        headers.insert("inference-header-content-length", json.len().into());
        assert_eq!(sequence(&binary, &headers).as_deref(), Some("7"));
        headers.insert("inference-header-content-length", 1000.into());
        assert_eq!(
            sequence(&binary, &headers),
            None,
            "the engine will say what is wrong"
        );
    }

    proptest! {
        #[test]
        fn any_name_takes_another_ones_place(before in ".{0,20}", after in ".{0,20}", rest in ".{0,20}") {
            let body = serde_json::json!({"input": rest, "model": before, "user": "u"});
            let bytes = Bytes::from(body.to_string());
            prop_assert_eq!(model(&bytes).unwrap(), before);
            let changed: serde_json::Value = serde_json::from_slice(&with_model(&bytes, &after)).unwrap();
            let mut wanted = body.clone();
            wanted["model"] = after.into();
            prop_assert_eq!(changed, wanted);
        }

        #[test]
        fn garbage_is_refused_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = model(&bytes);
            let _ = with_model(&bytes.clone().into(), "x");
            let _ = sequence(&bytes, &HeaderMap::new());
        }
    }
}
