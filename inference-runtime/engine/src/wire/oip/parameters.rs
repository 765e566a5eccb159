//! Request parameters: the reserved ones are honoured or refused, custom ones are accepted and have no effect.

use std::time::Duration;

use crate::api::{Error, Kind, Result};
use crate::wire::json;

/// A parameter's value, whichever protocol carried it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    /// Covers both `int64` and `uint64`.
    Integer(i128),
    Double(f64),
    String(String),
}

/// Who sent the parameters: HTTP refuses every `triton_*` key, gRPC knows some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Rest,
    Grpc,
}

/// A request's parameters, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// 0 = the model's default, 1 = highest.
    pub(crate) priority: u64,
    /// How long the answer is worth something.
    pub(crate) timeout: Option<Duration>,
    /// Whether outputs are binary where the output does not say (REST).
    pub(crate) binary_data_output: bool,
    /// Whether the client waits for a marked last answer (gRPC streams).
    pub(crate) final_response_marker: bool,
}

/// Understands a request's parameters.
pub(crate) fn request(origin: Origin, parameters: &[(String, Value)]) -> Result<Parameters> {
    let mut understood = Parameters::default();
    for (key, value) in parameters {
        match key.as_str() {
            "priority" => understood.priority = unsigned(key, value)?,
            "timeout" => {
                // 0 is "no wish", as in the schedule-policy extension.
                let microseconds = unsigned(key, value)?;
                understood.timeout = (microseconds > 0).then(|| Duration::from_micros(microseconds));
            }
            "binary_data_output" => understood.binary_data_output = bool(key, value)?,
            "sequence_id" => {
                let none = matches!(value, Value::Integer(0)) || *value == Value::String(String::new());
                if !none {
                    return Err(sequences());
                }
            }
            "sequence_start" | "sequence_end" if !bool(key, value)? => {}
            "sequence_start" | "sequence_end" => return Err(sequences()),
            "triton_enable_empty_final_response" if origin == Origin::Grpc => {
                understood.final_response_marker = bool(key, value)?;
            }
            _ if key.starts_with("triton_") => {
                return Err(Error::invalid(format!(
                    "parameter `{key}`: keys that begin with `triton_` are reserved by the protocol"
                )));
            }
            _ => {}
        }
    }
    Ok(understood)
}

/// Refuses the shared-memory extension on a tensor: to ignore it would mean to answer from the wrong data.
pub(crate) fn refuse_shared_memory(tensor: &str, parameters: &[(String, Value)]) -> Result<()> {
    let shared = |(key, _): &(String, Value)| key.starts_with("shared_memory_");
    if parameters.iter().any(shared) {
        return Err(Error::new(
            Kind::Unimplemented,
            format!("{tensor}: shared memory is not offered; send the data in the request"),
        ));
    }
    Ok(())
}

/// A parameter of a tensor, if it is there.
pub(crate) fn find<'a>(parameters: &'a [(String, Value)], key: &str) -> Option<&'a Value> {
    parameters
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
}

/// The value as a count.
pub(crate) fn unsigned(key: &str, value: &Value) -> Result<u64> {
    match value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        _ => None,
    }
    .ok_or_else(|| Error::invalid(format!("parameter `{key}` must be an unsigned 64-bit integer")))
}

/// The value as a truth.
pub(crate) fn bool(key: &str, value: &Value) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        _ => Err(Error::invalid(format!("parameter `{key}` must be true or false"))),
    }
}

/// Reads a `parameters` object.
pub(crate) fn read(reader: &mut json::Reader<'_>) -> Result<Vec<(String, Value)>> {
    let mut parameters: Vec<(String, Value)> = Vec::new();
    reader.object(|reader, key| {
        let value = match reader.peek()? {
            json::Kind::Bool => Value::Bool(reader.bool()?),
            json::Kind::String => Value::String(reader.string()?.into_owned()),
            json::Kind::Number => {
                let text = reader.number()?;
                match text.parse() {
                    Ok(integer) => Value::Integer(integer),
                    Err(_) => Value::Double(
                        text.parse()
                            .map_err(|_| reader.error("has an unreadable number"))?,
                    ),
                }
            }
            json::Kind::Object | json::Kind::Array | json::Kind::Null => {
                return Err(Error::invalid(format!(
                    "parameter `{key}` must be a string, a number or a bool"
                )));
            }
        };
        if parameters.iter().any(|(known, _)| *known == key) {
            return Err(Error::invalid(format!("parameter `{key}` is given twice")));
        }
        parameters.push((key.into_owned(), value));
        Ok(())
    })?;
    Ok(parameters)
}

fn sequences() -> Error {
    Error::new(
        Kind::Unimplemented,
        "sequence parameters: this server keeps no state between requests; leave them out",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, Value)>> {
        read(&mut json::Reader::new(text.as_bytes(), 100))
    }

    fn understand(origin: Origin, text: &str) -> Result<Parameters> {
        request(origin, &parse(text)?)
    }

    #[test]
    fn schedule_policy_is_read() {
        let parameters = understand(Origin::Rest, r#"{"priority": 1, "timeout": 250, "mine": "x"}"#).unwrap();
        assert_eq!(parameters.priority, 1);
        assert_eq!(parameters.timeout, Some(Duration::from_micros(250)));
        assert_eq!(
            understand(Origin::Rest, r#"{"timeout": 0}"#).unwrap().timeout,
            None
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (text, kind) in [
            (r#"{"priority": -1}"#, Kind::Invalid),
            (r#"{"priority": "1"}"#, Kind::Invalid),
            (r#"{"timeout": 1.5}"#, Kind::Invalid),
            (r#"{"timeout": 99999999999999999999}"#, Kind::Invalid),
            (r#"{"binary_data_output": 1}"#, Kind::Invalid),
            (r#"{"triton_anything": true}"#, Kind::Invalid),
            (r#"{"triton_enable_empty_final_response": true}"#, Kind::Invalid),
            (r#"{"sequence_id": 7}"#, Kind::Unimplemented),
            (r#"{"sequence_id": "a"}"#, Kind::Unimplemented),
            (r#"{"sequence_start": true}"#, Kind::Unimplemented),
            (r#"{"nested": {}}"#, Kind::Invalid),
            (r#"{"a": 1, "a": 1}"#, Kind::Invalid),
        ] {
            assert_eq!(understand(Origin::Rest, text).unwrap_err().kind, kind, "{text}");
        }
    }

    #[test]
    fn the_absent_sequence_is_no_sequence() {
        let text = r#"{"sequence_id": 0, "sequence_start": false, "sequence_end": false}"#;
        assert_eq!(understand(Origin::Rest, text).unwrap(), Parameters::default());
        assert!(understand(Origin::Rest, r#"{"sequence_id": ""}"#).is_ok());
    }

    #[test]
    fn grpc_streams_may_ask_for_a_marked_last_answer() {
        let text = r#"{"triton_enable_empty_final_response": true}"#;
        assert!(understand(Origin::Grpc, text).unwrap().final_response_marker);
        assert!(understand(Origin::Grpc, r#"{"triton_other": true}"#).is_err());
    }
}
