//! Our copy of a graph: everything the claim and the compiler need, nothing borrowed.

use std::collections::{BTreeSet, HashMap, HashSet};

use opencl_kernels::ir;
use opencl_kernels::ops;
use opencl_kernels::tensor::HostTensor;
use ort_ep_sys::{Host, HostError};

use super::attribute::{Refusal, attributes};
use super::tensor::Type;
use super::view::{GraphView, NodeView, ValueView};

/// Index of a value within its [`Model`].
pub(crate) type ValueIndex = usize;

/// Constants by name, so that a constant which was copied for a claim is not copied again to be compiled.
pub(crate) type Constants = HashMap<String, HostTensor>;

/// A graph, copied.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// Name for messages.
    pub(crate) name: String,
    /// All values that nodes read or write.
    pub(crate) values: Vec<Value>,
    /// Nodes, producers before readers.
    pub(crate) nodes: Vec<Node>,
    by_name: HashMap<String, ValueIndex>,
}

/// A value.
#[derive(Debug)]
pub(crate) struct Value {
    /// The graph's name for it.
    pub(crate) name: String,
    /// What it is declared to be.
    pub(crate) ty: Type,
    /// Whether the graph gives it to its caller.
    pub(crate) is_output: bool,
    /// Its elements, if they are fixed and some node that we might run reads them.
    pub(crate) constant: Option<HostTensor>,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// A name that is unique in the graph: the node's own where it has one.
    pub(crate) name: String,
    /// Operator type.
    pub(crate) operator: String,
    /// Operator domain; empty for ONNX's own.
    pub(crate) domain: String,
    /// The operator-set version that introduced this form of the operator.
    pub(crate) since_version: i32,
    /// The attributes, or why there is no place for them.
    pub(crate) attributes: Result<ir::Attributes, String>,
    /// Inputs in order; `None` is omitted.
    pub(crate) inputs: Vec<Option<ValueIndex>>,
    /// What its bodies read of this graph.
    pub(crate) implicit_inputs: Vec<ValueIndex>,
    /// Outputs in order; `None` is not wanted.
    pub(crate) outputs: Vec<Option<ValueIndex>>,
    /// Whether it has bodies (control flow).
    pub(crate) has_bodies: bool,
}

impl Node {
    /// Everything the node reads.
    pub(crate) fn reads(&self) -> impl Iterator<Item = ValueIndex> + '_ {
        self.inputs.iter().flatten().chain(&self.implicit_inputs).copied()
    }
}

impl Model {
    /// Copies a graph. Constants are copied where a node with a known operator reads them, or taken from `constants`.
    pub(crate) fn copy(host: Host, graph: GraphView<'_>, constants: &Constants) -> Result<Self, HostError> {
        let mut model = Self {
            name: graph.name()?,
            ..Self::default()
        };
        let known: HashSet<(&str, &str)> = ops::registrations().map(|r| (r.domain, r.op_type)).collect();
        let mut names = HashSet::new();
        for view in graph.nodes()? {
            let node = model.copy_node(host, view, &known, constants)?;
            model.nodes.push(node);
        }
        for (i, node) in model.nodes.iter_mut().enumerate() {
            if node.name.is_empty() || !names.insert(node.name.clone()) {
                node.name = format!("{}{}#{i}", node.name, node.operator);
                names.insert(node.name.clone());
            }
        }
        Ok(model)
    }

    fn copy_node(
        &mut self,
        host: Host,
        view: NodeView<'_>,
        known: &HashSet<(&str, &str)>,
        constants: &Constants,
    ) -> Result<Node, HostError> {
        let operator = view.operator()?;
        let domain = match view.domain()? {
            onnx if onnx == "ai.onnx" => String::new(),
            other => other,
        };
        let with_constants = known.contains(&(domain.as_str(), operator.as_str()));
        let mut copy_all = |values: Vec<Option<ValueView<'_>>>, with_constants| {
            values
                .into_iter()
                .map(|v| {
                    v.map(|v| self.copy_value(v, with_constants, constants))
                        .transpose()
                })
                .collect::<Result<Vec<_>, HostError>>()
        };
        let inputs = copy_all(view.inputs()?, with_constants)?;
        let implicit_inputs = copy_all(view.implicit_inputs()?, false)?;
        let outputs = copy_all(view.outputs()?, false)?;
        let attributes = match attributes(host, view) {
            Ok(attributes) => Ok(attributes),
            Err(Refusal::Unsupported(reason)) => Err(reason),
            Err(Refusal::Host(error)) => return Err(error),
        };
        Ok(Node {
            name: view.name()?,
            operator,
            domain,
            since_version: view.since_version()?,
            attributes,
            inputs,
            implicit_inputs: implicit_inputs.into_iter().flatten().collect(),
            outputs,
            has_bodies: view.bodies()? > 0,
        })
    }

    fn copy_value(
        &mut self,
        view: ValueView<'_>,
        with_constant: bool,
        constants: &Constants,
    ) -> Result<ValueIndex, HostError> {
        let name = view.name()?;
        let index = match self.by_name.get(&name) {
            Some(&index) => index,
            None => self.add(Value {
                ty: view.declared()?,
                is_output: view.is_graph_output()?,
                constant: None,
                name: name.clone(),
            }),
        };
        let value = &mut self.values[index];
        if with_constant && value.constant.is_none() && view.is_constant()? {
            value.constant = match constants.get(&name) {
                Some(tensor) => Some(tensor.clone()),
                None => match view.constant()? {
                    Some(tensor) => tensor.copy()?,
                    None => None,
                },
            };
        }
        Ok(index)
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, value: Value) -> ValueIndex {
        self.by_name.insert(value.name.clone(), self.values.len());
        self.values.push(value);
        self.values.len() - 1
    }

    /// The value of this name.
    pub(crate) fn find(&self, name: &str) -> Option<ValueIndex> {
        self.by_name.get(name).copied()
    }

    /// The constants that these nodes read.
    pub(crate) fn constants_of(&self, nodes: impl Iterator<Item = usize>) -> Constants {
        nodes
            .flat_map(|n| self.nodes[n].reads())
            .filter_map(|v| {
                let value = &self.values[v];
                Some((value.name.clone(), value.constant.clone()?))
            })
            .collect()
    }

    /// For each node the nodes whose results it reads.
    pub(crate) fn producers(&self) -> Vec<Vec<usize>> {
        let mut producer = vec![None; self.values.len()];
        let mut producers = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            let reads: BTreeSet<usize> = node.reads().filter_map(|v| producer[v]).collect();
            producers.push(reads.into_iter().collect());
            for &output in node.outputs.iter().flatten() {
                producer[output] = Some(i);
            }
        }
        producers
    }

    /// The values that a group of nodes takes from outside, constants excepted, and those it gives to the outside.
    pub(crate) fn borders(&self, group: &[usize]) -> (Vec<ValueIndex>, Vec<ValueIndex>) {
        let inside: HashSet<usize> = group.iter().copied().collect();
        let produced: HashSet<ValueIndex> = group
            .iter()
            .flat_map(|&n| self.nodes[n].outputs.iter().flatten().copied())
            .collect();
        let mut seen = HashSet::new();
        let inputs = group
            .iter()
            .flat_map(|&n| self.nodes[n].reads())
            .filter(|v| !produced.contains(v) && self.values[*v].constant.is_none() && seen.insert(*v))
            .collect();
        let read_outside: HashSet<ValueIndex> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(n, _)| !inside.contains(n))
            .flat_map(|(_, node)| node.reads())
            .collect();
        let outputs = group
            .iter()
            .flat_map(|&n| self.nodes[n].outputs.iter().flatten().copied())
            .filter(|v| self.values[*v].is_output || read_outside.contains(v))
            .collect();
        (inputs, outputs)
    }

    /// A group of nodes as a graph for the compiler, with these inputs and outputs in this order.
    ///
    /// # Errors
    /// A value that is no tensor of a known type, or an attribute without a place: in words, with the node's index.
    pub(crate) fn to_ir(
        &self,
        group: &[usize],
        inputs: &[ValueIndex],
        outputs: &[ValueIndex],
    ) -> Result<ir::Graph, (usize, String)> {
        let mut graph = ir::Graph::new(self.name.clone());
        let mut ids: HashMap<ValueIndex, ir::ValueId> = HashMap::new();
        let mut id = |graph: &mut ir::Graph, value: ValueIndex| -> Result<ir::ValueId, String> {
            if let Some(&id) = ids.get(&value) {
                return Ok(id);
            }
            let Value {
                name, ty, constant, ..
            } = &self.values[value];
            let made = match (constant, ty) {
                (Some(tensor), _) => graph.constant(name.clone(), tensor.clone()),
                (None, Type::Tensor(dtype, dims)) => graph.value(name.clone(), *dtype, dims.clone()),
                (None, Type::Other(what)) => return Err(format!("'{name}' is {what}")),
            };
            ids.insert(value, made);
            Ok(made)
        };
        for &n in group {
            let node = &self.nodes[n];
            let place = |reason: String| (n, reason);
            let mut ids_of = |graph: &mut ir::Graph, values: &[Option<ValueIndex>]| {
                values
                    .iter()
                    .map(|v| v.map(|v| id(graph, v)).transpose())
                    .collect::<Result<Vec<_>, String>>()
            };
            let attributes = node.attributes.clone().map_err(place)?;
            let inputs = ids_of(&mut graph, &node.inputs).map_err(place)?;
            let outputs = ids_of(&mut graph, &node.outputs).map_err(place)?;
            graph.nodes.push(ir::Node {
                name: node.name.clone(),
                domain: node.domain.clone(),
                op_type: node.operator.clone(),
                since_version: node.since_version,
                attributes,
                inputs,
                outputs,
            });
        }
        let first = group.first().copied().unwrap_or(0);
        for &input in inputs {
            let input = id(&mut graph, input).map_err(|reason| (first, reason))?;
            graph.inputs.push(input);
        }
        for &output in outputs {
            let output = id(&mut graph, output).map_err(|reason| (first, reason))?;
            graph.outputs.push(output);
        }
        Ok(graph)
    }
}
