//! What a model file must look like before ONNX Runtime sees it.
//!
//! The limits are far above every model the project names and far below what stalls ONNX Runtime inside a load that
//! nothing can interrupt: 200,000 nodes take it 24 s, nested functions of a tiny file more than a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use bytes::Bytes;
use prost::Message as _;

use super::proto::{EXTERNAL, Function, Graph, Kind, Model, Node, Tensor};
use super::shape_arithmetic;
use crate::api::{Error, Result};

/// Protobuf's own limit.
const MAX_FILE: u64 = (2 << 30) - 1;
const MAX_NODES: u64 = 20_000;
const MAX_INITIALIZERS: usize = 50_000;
const MAX_DEPTH: usize = 8;
const MAX_FUNCTIONS: usize = 2_000;

/// What is known of a file that passed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Inputs and outputs whose rank the file leaves open; ONNX Runtime shows them like scalars.
    pub(crate) open_rank: BTreeSet<String>,
    /// Names of the nodes that only compute shapes.
    pub(crate) shape_nodes: BTreeSet<String>,
    /// Nodes, those of bodies and expanded functions included.
    pub(crate) nodes: u64,
}

/// Reads and checks `path`.
pub(crate) fn validate(path: &Path) -> Result<Checked> {
    let refuse = |what: String| Error::unavailable(format!("`{}` {what}", file_name(path)));
    let metadata = fs::metadata(path).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".to_owned()));
    }
    match metadata.len() {
        0 => return Err(refuse("is empty".to_owned())),
        size if size > MAX_FILE => {
            return Err(refuse(format!(
                "has {size} bytes; an ONNX file ends at 2 GiB, keep weights as external data"
            )));
        }
        _ => {}
    }
    let bytes = Bytes::from(fs::read(path).map_err(|e| refuse(format!("cannot be read: {e}")))?);
    let model = Model::decode(bytes).map_err(|e| refuse(format!("is not an ONNX model: {e}")))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    check(&model, folder).map_err(refuse)
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}

fn check(model: &Model, folder: &Path) -> std::result::Result<Checked, String> {
    let Some(graph) = &model.graph else {
        return Err("is not an ONNX model: it has no graph".to_owned());
    };
    if model.ir_version <= 0 {
        return Err("is not an ONNX model: it has no IR version".to_owned());
    }
    if model.functions.len() > MAX_FUNCTIONS {
        return Err(format!(
            "has {} functions, more than {MAX_FUNCTIONS}",
            model.functions.len()
        ));
    }
    let mut walk = Walk {
        folder,
        initializers: 0,
        functions: Functions::new(&model.functions),
    };
    for function in &model.functions {
        for node in &function.node {
            walk.attributes(node, 1)?;
        }
    }
    let nodes = walk.graph(graph, 0)?;

    let mut open_rank = BTreeSet::new();
    let constants: BTreeSet<&str> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    for (role, values) in [("input", &graph.input), ("output", &graph.output)] {
        for value in values
            .iter()
            .filter(|value| !constants.contains(value.name.as_str()))
        {
            match value.r#type.as_ref().and_then(|t| t.kind.as_ref()) {
                Some(Kind::Tensor(tensor)) => {
                    if tensor.shape.is_none() {
                        open_rank.insert(value.name.clone());
                    }
                }
                Some(other) => {
                    return Err(format!(
                        "cannot be served: {role} `{}` is {}, and the inference protocol carries only tensors",
                        value.name,
                        other.name()
                    ));
                }
                // ONNX Runtime infers what an output's declaration leaves out.
                None if role == "output" => {
                    open_rank.insert(value.name.clone());
                }
                None => return Err(format!("does not say the type of input `{}`", value.name)),
            }
        }
    }
    Ok(Checked {
        open_rank,
        shape_nodes: shape_arithmetic::shape_arithmetic(graph),
        nodes,
    })
}

struct Walk<'a> {
    folder: &'a Path,
    initializers: usize,
    functions: Functions<'a>,
}

impl<'a> Walk<'a> {
    /// Checks a graph and everything in it; answers its nodes, expanded.
    fn graph(&mut self, graph: &'a Graph, depth: usize) -> std::result::Result<u64, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nests graphs more than {MAX_DEPTH} deep"));
        }
        let mut nodes = 0u64;
        for node in &graph.node {
            nodes = nodes
                .saturating_add(self.functions.expanded(node)?)
                .saturating_add(self.attributes(node, depth)?);
            if nodes > MAX_NODES {
                return Err(format!(
                    "has more than {MAX_NODES} nodes, those of bodies and functions included"
                ));
            }
        }
        for tensor in &graph.initializer {
            self.tensor(tensor)?;
        }
        for sparse in &graph.sparse_initializer {
            for tensor in sparse.values.iter().chain(&sparse.indices) {
                self.tensor(tensor)?;
            }
        }
        self.initializers += graph.initializer.len() + graph.sparse_initializer.len();
        if self.initializers > MAX_INITIALIZERS {
            return Err(format!("has more than {MAX_INITIALIZERS} initializers"));
        }
        Ok(nodes)
    }

    /// Checks the tensors and bodies in a node's attributes; answers the bodies' nodes.
    fn attributes(&mut self, node: &'a Node, depth: usize) -> std::result::Result<u64, String> {
        if node.op_type == "EPContext" {
            return Err(format!(
                "node `{}` holds code compiled for another machine (EPContext)",
                node.name
            ));
        }
        let mut nodes = 0u64;
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor)?;
            }
            for tensor in attribute
                .sparse_tensor
                .iter()
                .flat_map(|s| s.values.iter().chain(&s.indices))
            {
                self.tensor(tensor)?;
            }
            for body in attribute.g.iter().map(AsRef::as_ref).chain(&attribute.graphs) {
                nodes = nodes.saturating_add(self.graph(body, depth + 1)?);
            }
        }
        Ok(nodes)
    }

    fn tensor(&self, tensor: &Tensor) -> std::result::Result<(), String> {
        let name = &tensor.name;
        let elements = tensor.dims.iter().try_fold(1u64, |product, &dim| {
            let dim =
                u64::try_from(dim).map_err(|_| format!("declares tensor `{name}` with the extent {dim}"))?;
            product
                .checked_mul(dim)
                .ok_or_else(|| format!("declares tensor `{name}` with {:?} elements", tensor.dims))
        })?;
        if tensor.data_location == EXTERNAL || !tensor.external_data.is_empty() {
            return self.external(tensor);
        }
        // Every element takes at least half a byte (4-bit integers); strings and typed fields have no raw data.
        if !tensor.raw_data.is_empty() && elements / 2 > tensor.raw_data.len() as u64 {
            return Err(format!(
                "declares tensor `{name}` with {elements} elements and holds {} bytes of it",
                tensor.raw_data.len()
            ));
        }
        Ok(())
    }

    /// External data may come from one plain file beside the model, and from nowhere else. ONNX Runtime itself
    /// follows hard links.
    fn external(&self, tensor: &Tensor) -> std::result::Result<(), String> {
        let name = &tensor.name;
        let Some(location) = tensor.external_data.iter().find(|entry| entry.key == "location") else {
            return Err(format!(
                "keeps tensor `{name}` outside the file and does not say where"
            ));
        };
        let location = location.value.as_str();
        let mut components = Path::new(location).components();
        let single = matches!(
            (components.next(), components.next()),
            (Some(Component::Normal(_)), None)
        );
        if !single || location.contains(['/', '\\', '\0']) {
            return Err(format!(
                "keeps tensor `{name}` in `{location}`; external data must lie beside the model"
            ));
        }
        let metadata = fs::symlink_metadata(self.folder.join(location))
            .map_err(|e| format!("keeps tensor `{name}` in `{location}`, which cannot be read: {e}"))?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(format!(
                "keeps tensor `{name}` in `{location}`, which is a link or no regular file"
            ));
        }
        Ok(())
    }
}

/// The model's own functions, and how many nodes a call of each becomes.
struct Functions<'a> {
    bodies: BTreeMap<(&'a str, &'a str), &'a Function>,
    sizes: BTreeMap<(&'a str, &'a str), u64>,
}

impl<'a> Functions<'a> {
    fn new(functions: &'a [Function]) -> Self {
        Self {
            bodies: functions
                .iter()
                .map(|f| ((f.domain.as_str(), f.name.as_str()), f))
                .collect(),
            sizes: BTreeMap::new(),
        }
    }

    /// Nodes that `node` becomes: 1, or those of the function it calls.
    fn expanded(&mut self, node: &'a Node) -> std::result::Result<u64, String> {
        match self
            .bodies
            .get_key_value(&(node.domain.as_str(), node.op_type.as_str()))
        {
            None => Ok(1),
            Some((&key, _)) => self.size(key, 0),
        }
    }

    fn size(&mut self, key: (&'a str, &'a str), depth: usize) -> std::result::Result<u64, String> {
        if let Some(&size) = self.sizes.get(&key) {
            return Ok(size);
        }
        if depth > 64 {
            return Err(format!(
                "nests functions more than 64 deep, or in a circle (`{}`)",
                key.1
            ));
        }
        let Some(&body) = self.bodies.get(&key) else {
            return Ok(1);
        };
        let mut size = 0u64;
        for node in &body.node {
            size = size.saturating_add(self.size((node.domain.as_str(), node.op_type.as_str()), depth + 1)?);
        }
        self.sizes.insert(key, size);
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Attribute, Entry, Opaque, TensorType, Type, ValueInfo};
    use super::*;

    fn node(operator: &str) -> Node {
        Node {
            op_type: operator.to_owned(),
            ..Default::default()
        }
    }

    fn model(graph: Graph) -> Model {
        Model {
            ir_version: 8,
            graph: Some(graph),
            functions: Vec::new(),
        }
    }

    fn external(location: &str) -> Graph {
        Graph {
            initializer: vec![Tensor {
                name: "w".into(),
                data_location: EXTERNAL,
                external_data: vec![Entry {
                    key: "location".into(),
                    value: location.into(),
                }],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn value(name: &str, kind: Option<Kind>) -> ValueInfo {
        ValueInfo {
            name: name.into(),
            r#type: kind.map(|kind| Type { kind: Some(kind) }),
        }
    }

    fn reason(model: &Model) -> String {
        let folder = tempfile::tempdir().unwrap();
        check(model, folder.path()).unwrap_err()
    }

    #[test]
    fn what_stalls_or_breaks_the_runtime_is_refused_with_its_reason() {
        let body = |inner: Graph| Graph {
            node: vec![Node {
                attribute: vec![Attribute {
                    g: Some(Box::new(inner)),
                    ..Default::default()
                }],
                ..node("If")
            }],
            ..Default::default()
        };
        let deep = (0..10).fold(Graph::default(), |inner, _| body(inner));
        let tensor = |dims: Vec<i64>, raw: usize| Graph {
            initializer: vec![Tensor {
                name: "w".into(),
                dims,
                raw_data: vec![0; raw].into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let sequence = Graph {
            input: vec![value("s", Some(Kind::Sequence(Opaque {})))],
            ..Default::default()
        };
        let rows: Vec<(Graph, &str)> = vec![
            (
                Graph {
                    node: vec![node("Relu"); 20_001],
                    ..Default::default()
                },
                "more than 20000 nodes",
            ),
            (deep, "deep"),
            (tensor(vec![-1], 4), "extent -1"),
            (tensor(vec![1 << 40, 1 << 40], 4), "elements"),
            (tensor(vec![1 << 30], 4), "holds 4 bytes"),
            (
                Graph {
                    node: vec![node("EPContext")],
                    ..Default::default()
                },
                "EPContext",
            ),
            (sequence, "input `s` is a sequence"),
            (
                Graph {
                    input: vec![value("x", None)],
                    ..Default::default()
                },
                "type of input `x`",
            ),
        ];
        for (graph, expected) in rows {
            let reason = reason(&model(graph));
            assert!(reason.contains(expected), "{reason} does not say `{expected}`");
        }
    }

    #[test]
    fn functions_that_explode_or_run_in_a_circle_are_refused() {
        let function = |name: &str, calls: &str, times: usize| Function {
            name: name.into(),
            node: vec![node(calls); times],
            ..Default::default()
        };
        let mut exploding = model(Graph {
            node: vec![node("f9")],
            ..Default::default()
        });
        exploding.functions = (0..10)
            .map(|i| {
                function(
                    &format!("f{i}"),
                    &if i == 0 {
                        "Relu".to_owned()
                    } else {
                        format!("f{}", i - 1)
                    },
                    4,
                )
            })
            .collect();
        assert!(reason(&exploding).contains("nodes"), "{}", reason(&exploding));

        let mut circle = model(Graph {
            node: vec![node("a")],
            ..Default::default()
        });
        circle.functions = vec![function("a", "b", 1), function("b", "a", 1)];
        assert!(reason(&circle).contains("circle"), "{}", reason(&circle));
    }

    #[test]
    fn external_data_comes_from_one_plain_file_beside_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("weights"), "w").unwrap();
        assert!(check(&model(external("weights")), folder.path()).is_ok());

        fs::write(at("secret"), "s").unwrap();
        fs::hard_link(at("secret"), at("hard")).unwrap();
        std::os::unix::fs::symlink(at("weights"), at("soft")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        for wrong in [
            "hard",
            "soft",
            "folder",
            "absent",
            "../weights",
            "/etc/hostname",
            "./weights",
            "folder/x",
            "",
            ".",
        ] {
            let error = check(&model(external(wrong)), folder.path()).unwrap_err();
            assert!(error.contains("tensor `w`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn an_input_without_a_shape_is_not_a_scalar() {
        let open = Graph {
            input: vec![value("x", Some(Kind::Tensor(TensorType { shape: None })))],
            output: vec![value(
                "y",
                Some(Kind::Tensor(TensorType {
                    shape: Some(Opaque {}),
                })),
            )],
            ..Default::default()
        };
        let checked = check(&model(open), Path::new(".")).unwrap();
        assert_eq!(checked.open_rank, BTreeSet::from(["x".to_owned()]));
    }

    #[test]
    fn files_that_are_no_models_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (bytes, expected) in [
            (&b""[..], "empty"),
            (b"hello, world", "not an ONNX model"),
            (&[0x3a, 0x7f], "not an ONNX model"),
        ] {
            let path = folder.path().join("model.onnx");
            fs::write(&path, bytes).unwrap();
            let error = validate(&path).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains("model.onnx"),
                "{error}"
            );
        }
        assert!(
            validate(folder.path())
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        assert!(
            validate(&folder.path().join("no.onnx"))
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }
}
