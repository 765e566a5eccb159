//! `afterglow infer`: one inference from the command line.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::args::{Infer, Output};
use crate::client::{Client, Metadata};
use crate::hint;
use crate::render::{self, Table};

/// Runs the verb.
pub(super) async fn run(args: &Infer, output: Output) -> Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let request = match &args.request {
        Some(path) => read_request(path)?,
        None => request(&client.metadata(&args.model).await?, &args.inputs)?,
    };
    let answer = client.infer(&args.model, &request).await?;
    match output {
        Output::Json => render::json(&answer)?,
        Output::Table => render::text(table(&answer))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read_request(path: &std::path::Path) -> Result<Value> {
    let text = if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
        text
    } else {
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?
    };
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// A request from `NAME=JSON` arguments; the nesting of the lists is the shape, the model knows the datatype.
fn request(model: &Metadata, inputs: &[String]) -> Result<Value> {
    let usage = || {
        let inputs: Vec<String> = model
            .inputs
            .iter()
            .map(|i| format!("--input '{}=…' ({} {:?})", i.name, i.datatype, i.shape))
            .collect();
        format!("this model takes {}", inputs.join(" "))
    };
    let mut tensors = Vec::new();
    for input in inputs {
        let (name, text) = input
            .split_once('=')
            .ok_or_else(|| hint::error(format!("'{input}' is not NAME=JSON"), usage()))?;
        let spec =
            model.inputs.iter().find(|i| i.name == name).ok_or_else(|| {
                hint::error(format!("model '{}' has no input '{name}'", model.name), usage())
            })?;
        let value: Value = serde_json::from_str(text)
            .map_err(|error| hint::error(format!("the value of '{name}' is not JSON: {error}"), usage()))?;
        let shape =
            shape(&value).map_err(|reason| hint::error(format!("input '{name}': {reason}"), usage()))?;
        let data = if value.is_array() { value } else { json!([value]) };
        tensors.push(json!({ "name": name, "datatype": spec.datatype, "shape": shape, "data": data }));
    }
    if let Some(missing) = model
        .inputs
        .iter()
        .find(|i| !tensors.iter().any(|t| t["name"] == i.name.as_str()))
    {
        return Err(hint::error(
            format!("input '{}' is missing", missing.name),
            usage(),
        ));
    }
    Ok(json!({ "inputs": tensors }))
}

/// The shape of nested lists; ragged ones have none.
fn shape(value: &Value) -> Result<Vec<usize>, String> {
    let Value::Array(items) = value else {
        return Ok(Vec::new());
    };
    let Some(first) = items.first() else {
        return Ok(vec![0]);
    };
    let inner = shape(first)?;
    for item in items {
        if shape(item)? != inner {
            return Err("the lists are ragged: rows of one axis must have equal lengths".to_owned());
        }
    }
    Ok([vec![items.len()], inner].concat())
}

fn table(answer: &Value) -> Table {
    let mut table = Table::new(["OUTPUT", "DATATYPE", "SHAPE", "DATA (all of it: --output json)"]);
    for output in answer["outputs"].as_array().into_iter().flatten() {
        let data = output["data"].as_array().map_or(&[][..], Vec::as_slice);
        let head: Vec<String> = data.iter().take(8).map(Value::to_string).collect();
        let more = if data.len() > 8 { " …" } else { "" };
        let text = |key: &str| output[key].as_str().unwrap_or_default().to_owned();
        table.row([
            text("name"),
            text("datatype"),
            output["shape"].to_string(),
            format!("{}{more}", head.join(" ")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::TensorMetadata;

    fn model() -> Metadata {
        let input = |name: &str| TensorMetadata {
            name: name.into(),
            datatype: "FP32".into(),
            shape: vec![-1, 2],
        };
        Metadata {
            name: "m".into(),
            inputs: vec![input("x"), input("y")],
            outputs: vec![],
        }
    }

    #[test]
    fn nesting_is_the_shape() {
        for (text, want) in [
            ("3", vec![]),
            ("[]", vec![0]),
            ("[1,2]", vec![2]),
            ("[[1],[2],[3]]", vec![3, 1]),
        ] {
            assert_eq!(
                shape(&serde_json::from_str(text).unwrap()).unwrap(),
                want,
                "{text}"
            );
        }
        assert!(
            shape(&json!([[1], [2, 3]])).is_err(),
            "a ragged list has no shape"
        );
    }

    #[test]
    fn a_request_names_every_input_with_the_models_datatype() {
        let request = request(&model(), &["x=[[1,2]]".into(), "y=[[3,4]]".into()]).unwrap();
        assert_eq!(
            request["inputs"][1],
            json!({"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [[3, 4]]})
        );
    }

    #[test]
    fn wrong_inputs_are_refused_with_what_the_model_takes() {
        for wrong in [
            vec!["x=[[1,2]]".to_owned()],
            vec!["x".into()],
            vec!["z=1".into()],
            vec!["x=[".into()],
        ] {
            let error = crate::hint::render(&request(&model(), &wrong).unwrap_err());
            assert!(
                error.contains("hint: this model takes --input 'x=…'"),
                "{wrong:?} gave {error}"
            );
        }
    }
}
