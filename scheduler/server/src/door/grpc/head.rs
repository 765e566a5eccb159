//! The head of a `ModelInferRequest`, read without decoding it: names and parameters are looked at, tensors are skipped by
//! their length. Only what routing needs is understood; the engine judges the rest.

use crate::refusal::Refusal;

/// Fields at the top of one message. A request with more than that many tensors and parameters is no request.
const MOST_FIELDS: usize = 1 << 16;

/// What routing needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) model: String,
    pub(crate) version: Option<String>,
    pub(crate) id: String,
    /// The parameter `sequence_id`, unless it says "none" (0, empty).
    pub(crate) sequence: Option<String>,
    /// Whether the last answer is to be marked (`triton_enable_empty_final_response`).
    pub(crate) mark_final: bool,
}

impl Head {
    /// Reads a message.
    pub(crate) fn read(message: &[u8]) -> Result<Self, Refusal> {
        let mut head = Self::default();
        let mut rest = message;
        let mut fields = 0;
        while !rest.is_empty() {
            fields += 1;
            if fields > MOST_FIELDS {
                return Err(Refusal::invalid(format!(
                    "the request has more than {MOST_FIELDS} fields"
                )));
            }
            let (number, value) = field(&mut rest)?;
            match (number, value) {
                (1, Value::Bytes(name)) => head.model = text(name, "model_name")?,
                (2, Value::Bytes(version)) => {
                    head.version =
                        Some(text(version, "model_version")?).filter(|version| !version.is_empty());
                }
                (3, Value::Bytes(id)) => head.id = text(id, "id")?,
                (4, Value::Bytes(entry)) => head.parameter(entry)?,
                (1..=4, _) => return Err(malformed()),
                _ => {}
            }
        }
        Ok(head)
    }

    /// One entry of the parameters: key = 1, value = 2.
    fn parameter(&mut self, mut entry: &[u8]) -> Result<(), Refusal> {
        let (mut key, mut parameter): (&[u8], &[u8]) = (&[], &[]);
        while !entry.is_empty() {
            match field(&mut entry)? {
                (1, Value::Bytes(bytes)) => key = bytes,
                (2, Value::Bytes(bytes)) => parameter = bytes,
                (1 | 2, _) => return Err(malformed()),
                _ => {}
            }
        }
        match key {
            b"sequence_id" => self.sequence = sequence(parameter)?,
            b"triton_enable_empty_final_response" => self.mark_final = truth(parameter)?,
            _ => {}
        }
        Ok(())
    }
}

/// An `InferParameter`: int64 = 2, string = 3, uint64 = 5. The last one counts.
fn sequence(mut parameter: &[u8]) -> Result<Option<String>, Refusal> {
    let mut found = None;
    while !parameter.is_empty() {
        match field(&mut parameter)? {
            (2 | 5, Value::Number(number)) => found = (number != 0).then(|| number.to_string()),
            (3, Value::Bytes(bytes)) => {
                found = Some(text(bytes, "sequence_id")?).filter(|name| !name.is_empty());
            }
            (2 | 3 | 5, _) => return Err(malformed()),
            _ => {}
        }
    }
    Ok(found)
}

/// An `InferParameter`: bool = 1.
fn truth(mut parameter: &[u8]) -> Result<bool, Refusal> {
    let mut found = false;
    while !parameter.is_empty() {
        if let (1, Value::Number(number)) = field(&mut parameter)? {
            found = number != 0;
        }
    }
    Ok(found)
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// Takes one field off the front.
fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), Refusal> {
    let key = number(rest)?;
    // Field numbers have 29 bits.
    if key > u64::from(u32::MAX) || key >> 3 == 0 {
        return Err(malformed());
    }
    let value = match key & 7 {
        0 => Value::Number(number(rest)?),
        1 => {
            take(rest, 8)?;
            Value::Fixed
        }
        2 => {
            let length = usize::try_from(number(rest)?).map_err(|_| malformed())?;
            Value::Bytes(take(rest, length)?)
        }
        5 => {
            take(rest, 4)?;
            Value::Fixed
        }
        // Groups have left the language before this protocol was written.
        _ => return Err(malformed()),
    };
    Ok((key >> 3, value))
}

fn number(rest: &mut &[u8]) -> Result<u64, Refusal> {
    let mut value = 0_u64;
    for place in 0..10 {
        let (byte, tail) = rest.split_first().ok_or_else(malformed)?;
        *rest = tail;
        if place == 9 && *byte > 1 {
            return Err(malformed());
        }
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Refusal> {
    let (taken, tail) = rest.split_at_checked(length).ok_or_else(malformed)?;
    *rest = tail;
    Ok(taken)
}

fn text(bytes: &[u8], what: &str) -> Result<String, Refusal> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned)
        .map_err(|_| Refusal::invalid(format!("`{what}` is not UTF-8")))
}

fn malformed() -> Refusal {
    Refusal::invalid("failed to decode the request: it is not a ModelInferRequest")
}

#[cfg(test)]
mod tests {
    use afterglow_proto::inference::infer_parameter::ParameterChoice;
    use afterglow_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use afterglow_proto::inference::{InferParameter, ModelInferRequest};
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use ParameterChoice::{BoolParam, Int64Param, StringParam, Uint64Param};

    fn parameter(choice: ParameterChoice) -> InferParameter {
        InferParameter {
            parameter_choice: Some(choice),
        }
    }

    fn with(key: &str, choice: ParameterChoice) -> Head {
        let mut request = ModelInferRequest::default();
        request.parameters.insert(key.into(), parameter(choice));
        Head::read(&request.encode_to_vec()).unwrap()
    }

    #[test]
    fn a_sequence_is_a_number_or_a_name_and_nothing_means_none() {
        for (choice, wanted) in [
            (Uint64Param(7), Some("7")),
            (Int64Param(7), Some("7")),
            (StringParam("chat".into()), Some("chat")),
            (Uint64Param(0), None),
            (StringParam(String::new()), None),
            (BoolParam(true), None),
        ] {
            assert_eq!(
                with("sequence_id", choice.clone()).sequence.as_deref(),
                wanted,
                "{choice:?}"
            );
        }
        assert!(with("triton_enable_empty_final_response", BoolParam(true)).mark_final);
        assert!(!with("triton_enable_empty_final_response", BoolParam(false)).mark_final);
        assert_eq!(with("priority", Uint64Param(7)).sequence, None);
    }

    #[test]
    fn the_last_name_counts_as_in_any_protobuf_message() {
        let name = |model_name: &str| ModelInferRequest {
            model_name: model_name.into(),
            ..Default::default()
        };
        let twice = [name("a").encode_to_vec(), name("b").encode_to_vec()].concat();
        assert_eq!(Head::read(&twice).unwrap().model, "b");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[0x0a][..],         // a length is missing
            &[0x0a, 5, b'a'],    // shorter than it says
            &[0x0a, 1, 0xff],    // not UTF-8
            &[0x08, 1],          // a name that is a number
            &[0x0b],             // a group
            &[0x00, 1],          // field 0
            &[0xff; 11],         // a number without an end
            &[0x22, 2, 0x0a, 9], // a parameter shorter than it says
        ] {
            assert_eq!(
                Head::read(bytes).unwrap_err().kind,
                crate::refusal::Kind::Invalid,
                "{bytes:?}"
            );
        }
        assert!(Head::read(&[0x3a, 0].repeat(MOST_FIELDS)).is_ok());
        assert!(Head::read(&[0x3a, 0].repeat(MOST_FIELDS + 1)).is_err());
    }

    fn requests() -> impl Strategy<Value = ModelInferRequest> {
        let choice = prop_oneof![
            any::<bool>().prop_map(ParameterChoice::BoolParam),
            any::<i64>().prop_map(ParameterChoice::Int64Param),
            any::<u64>().prop_map(ParameterChoice::Uint64Param),
            any::<f64>().prop_map(ParameterChoice::DoubleParam),
            ".{0,8}".prop_map(ParameterChoice::StringParam),
        ];
        let parameters = proptest::collection::btree_map(
            prop_oneof![Just("sequence_id".to_owned()), ".{0,6}"],
            choice.prop_map(parameter),
            0..4,
        );
        let tensors = proptest::collection::vec(
            (".{0,6}", proptest::collection::vec(any::<i64>(), 0..4)).prop_map(|(name, shape)| {
                InferInputTensor {
                    name,
                    shape,
                    ..Default::default()
                }
            }),
            0..4,
        );
        let raw = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..4);
        (".{0,12}", "[0-9]{0,3}", ".{0,6}", parameters, tensors, raw).prop_map(
            |(model_name, model_version, id, parameters, inputs, raw)| ModelInferRequest {
                model_name,
                model_version,
                id,
                parameters,
                inputs,
                outputs: vec![InferRequestedOutputTensor::default()],
                raw_input_contents: raw.into_iter().map(Into::into).collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn the_head_is_what_a_full_decoder_reads(request in requests()) {
            let head = Head::read(&request.encode_to_vec()).unwrap();
            prop_assert_eq!(&head.model, &request.model_name);
            prop_assert_eq!(head.version.unwrap_or_default(), request.model_version.clone());
            prop_assert_eq!(&head.id, &request.id);
            let sequence = match request.parameters.get("sequence_id").and_then(|p| p.parameter_choice.clone()) {
                Some(Uint64Param(n)) if n != 0 => Some(n.to_string()),
                Some(Int64Param(n)) if n != 0 => Some((n as u64).to_string()),
                Some(StringParam(s)) if !s.is_empty() => Some(s),
                _ => None,
            };
            prop_assert_eq!(head.sequence, sequence);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // What a full decoder takes, the head takes: the engine never sees fewer requests than it would alone.
            let decoded = ModelInferRequest::decode(bytes.as_slice());
            let head = Head::read(&bytes);
            let has_groups = bytes.iter().any(|byte| matches!(byte & 7, 3 | 4));
            if let (Ok(request), false) = (decoded, has_groups) {
                prop_assert_eq!(head.unwrap().model, request.model_name);
            }
        }

        #[test]
        fn a_cut_message_never_panics(request in requests(), cut in any::<prop::sample::Index>()) {
            let bytes = request.encode_to_vec();
            let _ = Head::read(&bytes[..cut.index(bytes.len() + 1)]);
        }
    }
}
