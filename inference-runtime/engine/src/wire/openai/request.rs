//! An embeddings request.

use crate::api::{EmbedInput, Error, Result};
use crate::wire::json::{Kind, Reader};

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Arrays of numbers.
    #[default]
    Float,
    /// base64 of little-endian FP32: what official clients ask for unless told otherwise.
    Base64,
}

/// `POST /v1/embeddings`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) model: String,
    pub(super) inputs: Vec<EmbedInput>,
    pub(super) format: Format,
    pub(super) dimensions: Option<usize>,
}

/// Reads a request. An argument that is not known is refused, as the original does: to ignore it would be to answer
/// another question.
pub(super) fn read(body: &[u8], deepest: usize, most_inputs: usize) -> Result<Request> {
    let (mut model, mut inputs, mut format, mut dimensions) = (None, None, None, None);
    let mut seen = std::collections::HashSet::new();
    let mut reader = Reader::new(body, deepest);
    reader.object(|reader, key| {
        if !seen.insert(key.clone().into_owned()) {
            return Err(Error::invalid(format!("`{key}` is given twice")));
        }
        // Clients write null for what their caller left out.
        if reader.peek()? == Kind::Null && !matches!(key.as_ref(), "model" | "input") {
            return reader.null();
        }
        match key.as_ref() {
            "model" => model = Some(reader.string()?.into_owned()),
            "input" => inputs = Some(read_input(reader, most_inputs)?),
            "encoding_format" => format = Some(read_format(reader)?),
            "dimensions" => dimensions = Some(read_dimensions(reader)?),
            // Names the end user to whoever bills them; nobody does here.
            "user" => drop(reader.string()?),
            _ => return Err(Error::invalid(format!("unrecognized argument `{key}`"))),
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(Request {
        model: model.ok_or_else(|| Error::invalid("`model` is missing"))?,
        inputs: inputs.ok_or_else(|| Error::invalid("`input` is missing"))?,
        format: format.unwrap_or_default(),
        dimensions,
    })
}

fn read_format(reader: &mut Reader<'_>) -> Result<Format> {
    match reader.string()?.as_ref() {
        "float" => Ok(Format::Float),
        "base64" => Ok(Format::Base64),
        other => Err(Error::invalid(format!(
            "`encoding_format` is `{other}`; `float` and `base64` are known"
        ))),
    }
}

fn read_dimensions(reader: &mut Reader<'_>) -> Result<usize> {
    let dimensions = reader.number()?.parse().ok().filter(|dimensions| *dimensions > 0);
    dimensions.ok_or_else(|| Error::invalid("`dimensions` must be a positive integer"))
}

/// string | [string] | [int] | [[int]].
fn read_input(reader: &mut Reader<'_>, most: usize) -> Result<Vec<EmbedInput>> {
    let kind = reader.peek()?;
    let inputs = match kind {
        Kind::String => vec![EmbedInput::Text(reader.string()?.into_owned())],
        Kind::Array => {
            let mut bookmark = *reader;
            match bookmark.first_inside()? {
                Some(Kind::Number) => vec![EmbedInput::Tokens(read_tokens(reader)?)],
                Some(Kind::String | Kind::Array) => {
                    let mut inputs = Vec::new();
                    reader.array(|reader| {
                        if inputs.len() == most {
                            return Err(Error::invalid(format!("`input` has more than {most} elements")));
                        }
                        inputs.push(match reader.peek()? {
                            Kind::String => EmbedInput::Text(reader.string()?.into_owned()),
                            Kind::Array => EmbedInput::Tokens(read_tokens(reader)?),
                            _ => return Err(shape()),
                        });
                        Ok(())
                    })?;
                    inputs
                }
                None => return Err(Error::invalid("`input` is empty")),
                Some(_) => return Err(shape()),
            }
        }
        _ => return Err(shape()),
    };
    Ok(inputs)
}

fn read_tokens(reader: &mut Reader<'_>) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    reader.array(|reader| {
        if reader.peek()? != Kind::Number {
            return Err(shape());
        }
        let token = reader.number()?.parse();
        tokens.push(token.map_err(|_| Error::invalid("a token must be an unsigned 32-bit integer"))?);
        Ok(())
    })?;
    if tokens.is_empty() {
        return Err(Error::invalid("`input` has an empty list of tokens"));
    }
    Ok(tokens)
}

fn shape() -> Error {
    Error::invalid(
        "`input` must be a string, a list of strings, a list of tokens, or a list of lists of tokens",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &str) -> Result<Vec<EmbedInput>> {
        read(format!(r#"{{"model": "m", "input": {text}}}"#).as_bytes(), 100, 3).map(|request| request.inputs)
    }

    fn text(text: &str) -> EmbedInput {
        EmbedInput::Text(text.into())
    }

    #[test]
    fn the_four_forms_of_input_are_read() {
        assert_eq!(input(r#""a""#).unwrap(), [text("a")]);
        assert_eq!(input(r#"["a", ""]"#).unwrap(), [text("a"), text("")]);
        assert_eq!(input("[1, 2]").unwrap(), [EmbedInput::Tokens(vec![1, 2])]);
        assert_eq!(
            input("[[1], [2, 3]]").unwrap(),
            [EmbedInput::Tokens(vec![1]), EmbedInput::Tokens(vec![2, 3])]
        );
    }

    #[test]
    fn inputs_that_are_wrong_are_refused() {
        for wrong in [
            "[]",
            "null",
            "1",
            "{}",
            "[1, \"a\"]",
            "[\"a\", 1]",
            "[[]]",
            "[[\"a\"]]",
            "[-1]",
            "[1.5]",
            "[4294967296]",
            "[null]",
            "[true]",
            r#"["a","b","c","d"]"#,
            "[[[1]]]",
        ] {
            assert!(input(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn options_are_read_and_null_is_absent() {
        let read = |text: &str| read(text.as_bytes(), 100, 3);
        let request = read(
            r#"{"input": "a", "model": "m", "encoding_format": "base64", "dimensions": 64, "user": "u"}"#,
        )
        .unwrap();
        assert_eq!((request.format, request.dimensions), (Format::Base64, Some(64)));
        let request =
            read(r#"{"input": "a", "model": "m", "encoding_format": null, "dimensions": null}"#).unwrap();
        assert_eq!((request.format, request.dimensions), (Format::Float, None));
        for wrong in [
            r#"{"input": "a"}"#,
            r#"{"model": "m"}"#,
            r#"{"model": null, "input": "a"}"#,
            r#"{"model": "m", "input": "a", "encoding_format": "hex"}"#,
            r#"{"model": "m", "input": "a", "dimensions": 0}"#,
            r#"{"model": "m", "input": "a", "dimensions": -3}"#,
            r#"{"model": "m", "input": "a", "surprise": 1}"#,
            r#"{"model": "m", "input": "a", "input": "b"}"#,
            r#"{"model": "m", "input": "a"} trailing"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
