//! Writes small ONNX files without any library, and starts engines on them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use engine::api::{Data, Datatype, InferRequest, NamedTensor, Tensor};
use engine::{DeviceChoice, Engine, Limits, Options};
use tokio_util::sync::CancellationToken;

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// A value: `"n"` is a free extent, `"4"` a fixed one.
fn value(name: &str, element: u8, extents: &[&str]) -> Vec<u8> {
    let shape: Vec<u8> = extents
        .iter()
        .flat_map(|extent| match extent.parse::<u8>() {
            Ok(fixed) => field(1, &number(1, fixed)),
            Err(_) => field(1, &field(2, extent.as_bytes())),
        })
        .collect();
    let tensor = [number(1, element), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

fn model(graph: &[u8]) -> Vec<u8> {
    [number(1, 8), field(7, graph), field(8, &number(2, 17))].concat()
}

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs
        .iter()
        .flat_map(|input| field(1, input.as_bytes()))
        .collect();
    [
        inputs,
        field(2, output.as_bytes()),
        field(3, output.as_bytes()),
        field(4, operator.as_bytes()),
    ]
    .concat()
}

/// `y[batch, n] = OPERATOR(x[batch, n])`, float32.
pub(crate) fn unary(operator: &str) -> Vec<u8> {
    let graph = [
        field(1, &node(operator, &["x"], "y")),
        field(2, b"g"),
        field(11, &value("x", 1, &["batch", "n"])),
        field(12, &value("y", 1, &["batch", "n"])),
    ];
    model(&graph.concat())
}

/// `y = x − mean(x)` over everything: each row depends on the others.
pub(crate) fn centred() -> Vec<u8> {
    let graph = [
        field(1, &node("ReduceMean", &["x"], "mean")),
        field(1, &node("Sub", &["x", "mean"], "y")),
        field(2, b"g"),
        field(11, &value("x", 1, &["batch", "n"])),
        field(12, &value("y", 1, &["batch", "n"])),
    ];
    model(&graph.concat())
}

/// `y[batch, n] = table[rows[batch, n]]` with the table 0, 10, 20, 30.
pub(crate) fn lookup() -> Vec<u8> {
    let raw: Vec<u8> = [0f32, 10.0, 20.0, 30.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let table = [number(1, 4), number(2, 1), field(8, b"table"), field(9, &raw)].concat();
    let graph = [
        field(1, &node("Gather", &["table", "rows"], "y")),
        field(2, b"g"),
        field(5, &table),
        field(11, &value("rows", 7, &["batch", "n"])),
        field(12, &value("y", 1, &["batch", "n"])),
    ];
    model(&graph.concat())
}

/// A repository that goes away with the test.
pub(crate) struct Repository(pub(crate) tempfile::TempDir);

impl Repository {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Puts `models/NAME/VERSION/model.onnx` there.
    pub(crate) fn with(self, name: &str, version: u64, onnx: &[u8]) -> Self {
        let folder = self.models().join(name).join(version.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("model.onnx"), onnx).unwrap();
        self
    }

    pub(crate) fn settings(self, name: &str, yaml: &str) -> Self {
        fs::write(self.models().join(name).join("model.yaml"), yaml).unwrap();
        self
    }

    pub(crate) fn models(&self) -> PathBuf {
        self.0.path().join("models")
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine_probing_with(
            Path::new(env!("CARGO_BIN_EXE_afterglow-engine")),
            Duration::from_mins(2),
        )
    }

    pub(crate) fn engine_probing_with(&self, program: &Path, limit: Duration) -> Engine {
        Engine::new(Options {
            repository: self.0.path().to_owned(),
            device: DeviceChoice::Cpu,
            limits: Limits::default(),
            program: program.to_owned(),
            probe_limit: limit,
            profiles: Some(self.0.path().join("profiles")),
        })
        .unwrap()
    }
}

pub(crate) fn request(model: &str, inputs: Vec<NamedTensor>) -> InferRequest {
    InferRequest {
        model: model.into(),
        version: None,
        id: "7".into(),
        inputs,
        outputs: Vec::new(),
        priority: 0,
        deadline: None,
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> NamedTensor {
    tensor(
        name,
        Datatype::Fp32,
        shape,
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    )
}

pub(crate) fn longs(name: &str, shape: &[usize], values: &[i64]) -> NamedTensor {
    tensor(
        name,
        Datatype::Int64,
        shape,
        values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    )
}

fn tensor(name: &str, datatype: Datatype, shape: &[usize], bytes: Bytes) -> NamedTensor {
    NamedTensor {
        name: name.into(),
        tensor: Tensor {
            datatype,
            shape: shape.to_vec(),
            data: Data::Fixed(bytes),
        },
    }
}
