//! An inference request: JSON, with binary tensors behind it or without.

use bytes::Bytes;

use crate::api::{Datatype, Error, NamedTensor, RequestedOutput, Result};
use crate::wire::json::{Kind, Reader};
use crate::wire::oip::parameters::{self, Origin, Parameters, Value};
use crate::wire::oip::{shape, unique};

use super::{Encoding, data};

/// What a request's body says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// Empty where none was given.
    pub(crate) id: String,
    /// Inputs; names are unique.
    pub(crate) inputs: Vec<NamedTensor>,
    /// Wanted outputs; empty = all.
    pub(crate) outputs: Vec<RequestedOutput>,
    /// The reserved parameters.
    pub(crate) parameters: Parameters,
    /// How the client wants its answer.
    pub(crate) encoding: Encoding,
}

/// Reads a request: `head` is the JSON, `binary` what follows it. Unknown members are passed over, as clients of other
/// servers send some (`model_name`).
pub(crate) fn decode(head: &[u8], binary: &Bytes, deepest: usize) -> Result<Body> {
    let mut body = Body::default();
    let mut inputs: Option<Vec<Input<'_>>> = None;
    let mut seen = Seen::default();
    let mut reader = Reader::new(head, deepest);
    reader.object(|reader, key| {
        match key.as_ref() {
            "id" => {
                seen.first("id")?;
                if reader.peek()? == Kind::Null {
                    return reader.null();
                }
                body.id = reader.string()?.into_owned();
            }
            "parameters" => {
                seen.first("parameters")?;
                let given = parameters::read(reader)?;
                body.parameters = parameters::request(Origin::Rest, &given)?;
                body.encoding.binary = body.parameters.binary_data_output;
            }
            "inputs" => {
                seen.first("inputs")?;
                inputs = Some(read_inputs(reader)?);
            }
            "outputs" => {
                seen.first("outputs")?;
                reader.array(|reader| {
                    let (output, binary) = read_output(reader)?;
                    if let Some(binary) = binary {
                        body.encoding.outputs.push((output.name.clone(), binary));
                    }
                    body.outputs.push(output);
                    Ok(())
                })?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    reader.end()?;
    let inputs = inputs.ok_or_else(|| Error::invalid("the request has no `inputs`"))?;
    unique("output", body.outputs.iter().map(|output| output.name.as_str()))?;
    body.inputs = assemble(inputs, binary)?;
    unique("input", body.inputs.iter().map(|input| input.name.as_str()))?;
    Ok(body)
}

/// Reads a shape: an array of integers.
fn read_shape(reader: &mut Reader<'_>) -> Result<Vec<i64>> {
    let mut shape = Vec::new();
    reader.array(|reader| {
        let extent = reader.number()?;
        let extent = extent.parse().map_err(|_| {
            let shown: String = extent.chars().take(40).collect();
            Error::invalid(format!("a shape holds {shown}, which is not a 64-bit integer"))
        })?;
        shape.push(extent);
        Ok(())
    })?;
    Ok(shape)
}

/// An input as it stands in the JSON; its data is read once datatype and shape are known, in whatever order they came.
struct Input<'a> {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
    data: Option<Reader<'a>>,
    binary_size: Option<usize>,
}

fn read_inputs<'a>(reader: &mut Reader<'a>) -> Result<Vec<Input<'a>>> {
    let mut inputs = Vec::new();
    reader.array(|reader| {
        inputs.push(read_input(reader)?);
        Ok(())
    })?;
    Ok(inputs)
}

fn read_input<'a>(reader: &mut Reader<'a>) -> Result<Input<'a>> {
    let (mut name, mut datatype, mut shape, mut data) = (None, None, None, None);
    let mut given = Vec::new();
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        match key.as_ref() {
            "name" => {
                seen.first("name")?;
                name = Some(reader.string()?.into_owned());
            }
            "datatype" => {
                seen.first("datatype")?;
                datatype = Some(reader.string()?.into_owned());
            }
            "shape" => {
                seen.first("shape")?;
                shape = Some(read_shape(reader)?);
            }
            "data" => {
                seen.first("data")?;
                reader.peek()?;
                data = Some(*reader);
                reader.skip()?;
            }
            "parameters" => {
                seen.first("parameters")?;
                given = parameters::read(reader)?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    let name = name.ok_or_else(|| Error::invalid("an input has no `name`"))?;
    let tensor = format!("input `{name}`");
    let missing = |member| Error::invalid(format!("{tensor} has no `{member}`"));
    let datatype = datatype.ok_or_else(|| missing("datatype"))?;
    let datatype = Datatype::parse(&datatype)
        .ok_or_else(|| Error::invalid(format!("{tensor}: unknown datatype `{datatype}`")))?;
    let shape = shape.ok_or_else(|| missing("shape"))?;
    parameters::refuse_shared_memory(&tensor, &given)?;
    let binary_size = binary_size(&tensor, &given)?;
    match (data.is_some(), binary_size.is_some()) {
        (true, true) => Err(Error::invalid(format!(
            "{tensor} has both `data` and `binary_data_size`"
        ))),
        (false, false) => Err(Error::invalid(format!(
            "{tensor} has neither `data` nor `binary_data_size`"
        ))),
        _ => Ok(Input {
            name,
            datatype,
            shape,
            data,
            binary_size,
        }),
    }
}

fn binary_size(tensor: &str, given: &[(String, Value)]) -> Result<Option<usize>> {
    let Some(value) = parameters::find(given, "binary_data_size") else {
        return Ok(None);
    };
    let size = parameters::unsigned("binary_data_size", value)
        .ok()
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| Error::invalid(format!("{tensor}: binary_data_size must be a number of bytes")))?;
    Ok(Some(size))
}

fn read_output(reader: &mut Reader<'_>) -> Result<(RequestedOutput, Option<bool>)> {
    let mut output = RequestedOutput::default();
    let mut given = Vec::new();
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        match key.as_ref() {
            "name" => {
                seen.first("name")?;
                output.name = reader.string()?.into_owned();
            }
            "parameters" => {
                seen.first("parameters")?;
                given = parameters::read(reader)?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    if output.name.is_empty() {
        return Err(Error::invalid("a requested output has no `name`"));
    }
    parameters::refuse_shared_memory(&format!("output `{}`", output.name), &given)?;
    if let Some(value) = parameters::find(&given, "classification") {
        let classes = parameters::unsigned("classification", value)?;
        output.classification = usize::try_from(classes).unwrap_or(usize::MAX);
    }
    let binary = parameters::find(&given, "binary_data").map(|value| parameters::bool("binary_data", value));
    Ok((output, binary.transpose()?))
}

/// Gives each input its data: from the JSON, or the next bytes behind it.
fn assemble(inputs: Vec<Input<'_>>, binary: &Bytes) -> Result<Vec<NamedTensor>> {
    let mut rest = binary.clone();
    let mut tensors = Vec::with_capacity(inputs.len());
    for Input {
        name,
        datatype,
        shape,
        data,
        binary_size,
    } in inputs
    {
        let label = format!("input `{name}`");
        let shape = shape::check(&label, datatype, &shape)?;
        let tensor = match (data, binary_size) {
            (Some(mut reader), _) => data::read(&label, datatype, shape, &mut reader)?,
            (None, size) => {
                let size = size.unwrap_or_default();
                if size > rest.len() {
                    return Err(Error::invalid(format!(
                        "{label}: binary_data_size is {size}, only {} bytes are left behind the JSON \
                         (is Inference-Header-Content-Length right?)",
                        rest.len()
                    )));
                }
                shape::tensor(&label, datatype, shape, rest.split_to(size))?
            }
        };
        tensors.push(NamedTensor { name, tensor });
    }
    if !rest.is_empty() {
        return Err(Error::invalid(format!(
            "unexpected additional input data: {} bytes",
            rest.len()
        )));
    }
    Ok(tensors)
}

/// The members of an object that were read.
#[derive(Default)]
struct Seen(Vec<&'static str>);

impl Seen {
    fn first(&mut self, member: &'static str) -> Result<()> {
        if self.0.contains(&member) {
            return Err(Error::invalid(format!("`{member}` is given twice")));
        }
        self.0.push(member);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
