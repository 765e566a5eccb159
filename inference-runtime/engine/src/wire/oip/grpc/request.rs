//! `ModelInferRequest` to the engine's types.

use std::collections::BTreeMap;

use afterglow_proto::inference::infer_parameter::ParameterChoice;
use afterglow_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use afterglow_proto::inference::{InferParameter, InferTensorContents, ModelInferRequest};
use bytes::Bytes;

use crate::api::{Datatype, Error, NamedTensor, RequestedOutput, Result};
use crate::wire::oip::parameters::{self, Origin, Parameters, Value};
use crate::wire::oip::{shape, unique};

use super::contents;

/// What a request says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Body {
    /// Model name.
    pub(crate) model: String,
    /// `None` = the server chooses.
    pub(crate) version: Option<String>,
    /// Empty where none was given.
    pub(crate) id: String,
    /// Inputs; names are unique.
    pub(crate) inputs: Vec<NamedTensor>,
    /// Wanted outputs; empty = all.
    pub(crate) outputs: Vec<RequestedOutput>,
    /// The reserved parameters.
    pub(crate) parameters: Parameters,
}

/// Reads a request. Tensors share the message's memory.
pub(crate) fn decode(request: ModelInferRequest) -> Result<Body> {
    let ModelInferRequest {
        model_name,
        model_version,
        id,
        parameters,
        inputs,
        outputs,
        raw_input_contents,
    } = request;
    let parameters = parameters::request(Origin::Grpc, &values(parameters)?)?;
    let outputs = outputs.into_iter().map(output).collect::<Result<Vec<_>>>()?;
    unique("output", outputs.iter().map(|output| output.name.as_str()))?;
    unique("input", inputs.iter().map(|input| input.name.as_str()))?;
    let inputs = if raw_input_contents.is_empty() {
        inputs.into_iter().map(typed).collect::<Result<Vec<_>>>()?
    } else {
        raw(inputs, raw_input_contents)?
    };
    let version = Some(model_version).filter(|version| !version.is_empty());
    Ok(Body {
        model: model_name,
        version,
        id,
        inputs,
        outputs,
        parameters,
    })
}

fn raw(inputs: Vec<InferInputTensor>, contents: Vec<Bytes>) -> Result<Vec<NamedTensor>> {
    if inputs.len() != contents.len() {
        return Err(Error::invalid(format!(
            "{} inputs, but {} entries in raw_input_contents; raw data is given for every input or for none",
            inputs.len(),
            contents.len()
        )));
    }
    inputs
        .into_iter()
        .zip(contents)
        .map(|(input, bytes)| {
            let (label, datatype, shape) = head(&input)?;
            if input
                .contents
                .is_some_and(|contents| contents != InferTensorContents::default())
            {
                return Err(Error::invalid(format!(
                    "{label} has typed contents in a request with raw_input_contents; give one or the other"
                )));
            }
            let tensor = shape::tensor(&label, datatype, shape, bytes)?;
            Ok(NamedTensor {
                name: input.name,
                tensor,
            })
        })
        .collect()
}

fn typed(mut input: InferInputTensor) -> Result<NamedTensor> {
    let (label, datatype, shape) = head(&input)?;
    let contents = input.contents.take().unwrap_or_default();
    let tensor = contents::tensor(&label, datatype, shape, contents)?;
    Ok(NamedTensor {
        name: input.name,
        tensor,
    })
}

fn head(input: &InferInputTensor) -> Result<(String, Datatype, shape::Shape)> {
    if input.name.is_empty() {
        return Err(Error::invalid("an input has no name"));
    }
    let label = format!("input `{}`", input.name);
    let datatype = Datatype::parse(&input.datatype)
        .ok_or_else(|| Error::invalid(format!("{label}: unknown datatype `{}`", input.datatype)))?;
    let shape = shape::check(&label, datatype, &input.shape)?;
    parameters::refuse_shared_memory(&label, &values(input.parameters.clone())?)?;
    Ok((label, datatype, shape))
}

fn output(output: InferRequestedOutputTensor) -> Result<RequestedOutput> {
    let InferRequestedOutputTensor { name, parameters } = output;
    if name.is_empty() {
        return Err(Error::invalid("a requested output has no name"));
    }
    let given = values(parameters)?;
    parameters::refuse_shared_memory(&format!("output `{name}`"), &given)?;
    let classification = match parameters::find(&given, "classification") {
        Some(value) => {
            let classes = parameters::unsigned("classification", value)?;
            usize::try_from(classes).unwrap_or(usize::MAX)
        }
        None => 0,
    };
    Ok(RequestedOutput { name, classification })
}

fn values(parameters: BTreeMap<String, InferParameter>) -> Result<Vec<(String, Value)>> {
    parameters
        .into_iter()
        .map(|(key, parameter)| {
            let value = match parameter.parameter_choice {
                Some(ParameterChoice::BoolParam(value)) => Value::Bool(value),
                Some(ParameterChoice::Int64Param(value)) => Value::Integer(value.into()),
                Some(ParameterChoice::Uint64Param(value)) => Value::Integer(value.into()),
                Some(ParameterChoice::DoubleParam(value)) => Value::Double(value),
                Some(ParameterChoice::StringParam(value)) => Value::String(value),
                None => return Err(Error::invalid(format!("parameter `{key}` has no value"))),
            };
            Ok((key, value))
        })
        .collect()
}

#[cfg(test)]
mod tests;
