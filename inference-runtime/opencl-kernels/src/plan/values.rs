//! Types and known values of a graph for concrete input shapes: the part of planning that knows no device.

use crate::error::{Error, Result};
use crate::ir::ValueId;
use crate::ops::Operand;
use crate::program::Form;
use crate::tensor::{HostTensor, TensorType};

/// Elements up to which a value that nobody needs at plan time is still folded: below, an upload beats a launch.
const FOLD_ELEMENTS: usize = 1 << 16;

/// Elements up to which a value that planning needs is folded; above it, the request is refused.
const FOLD_LIMIT: usize = 1 << 24;

/// Elements of the largest tensor: kernels index with `int`.
const MAX_ELEMENTS: usize = i32::MAX as usize;

/// What planning knows of one value.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    /// Concrete type.
    pub(crate) ty: TensorType,
    /// The value itself, where it does not depend on the request's data.
    pub(crate) known: Option<HostTensor>,
}

impl Value {
    fn operand(&self) -> Operand<'_> {
        Operand {
            ty: &self.ty,
            known: self.known.as_ref(),
        }
    }
}

/// Everything that planning knows of a graph for one set of input shapes.
#[derive(Debug)]
pub(crate) struct Inferred {
    /// By [`ValueId`]; `None` for values that nothing produces.
    pub(crate) values: Vec<Option<Value>>,
    /// By node: the types of all its outputs, unwanted ones included.
    pub(crate) types: Vec<Vec<TensorType>>,
}

impl Inferred {
    /// What is known of a value.
    pub(crate) fn get(&self, id: ValueId) -> Option<&Value> {
        self.values[id.0 as usize].as_ref()
    }
}

/// Infers every value's type for these input shapes and folds what does not depend on the inputs' data.
pub(crate) fn infer(form: &Form, input_shapes: &[&[usize]]) -> Result<Inferred> {
    let graph = form.graph();
    let mut inferred = Inferred {
        values: vec![None; graph.values.len()],
        types: Vec::with_capacity(graph.nodes.len()),
    };
    for (id, tensor) in &graph.constants {
        inferred.values[id.0 as usize] = Some(Value {
            ty: tensor.ty().clone(),
            known: Some(tensor.clone()),
        });
    }
    for (&id, ty) in graph.inputs.iter().zip(input_types(form, input_shapes)?) {
        let known = empty(&ty);
        inferred.values[id.0 as usize] = Some(Value { ty, known });
    }
    for node in 0..graph.nodes.len() {
        infer_node(form, node, &mut inferred)?;
    }
    Ok(inferred)
}

/// A tensor without elements is known, whatever computes it.
fn empty(ty: &TensorType) -> Option<HostTensor> {
    ty.shape.contains(&0).then(|| HostTensor::zeros(ty.clone()))
}

/// Checks concrete input shapes against what the graph declares.
pub(crate) fn input_types(form: &Form, shapes: &[&[usize]]) -> Result<Vec<TensorType>> {
    let graph = form.graph();
    let wrong = |name: &str, reason: String| Error::Invalid {
        node: name.to_owned(),
        op: "input".to_owned(),
        reason,
    };
    if shapes.len() != graph.inputs.len() {
        let reason = format!("{} inputs given, {} wanted", shapes.len(), graph.inputs.len());
        return Err(wrong(&graph.name, reason));
    }
    let check = |(&id, shape): (&ValueId, &&[usize])| {
        let info = graph.info(id);
        if let Some(dims) = &info.dims {
            let fits = dims.len() == shape.len()
                && dims
                    .iter()
                    .zip(*shape)
                    .all(|(dim, extent)| dim.is_none_or(|d| d == *extent));
            if !fits {
                let reason = format!("shape {shape:?} does not fit the declared {}", Dims(dims));
                return Err(wrong(&info.name, reason));
            }
        }
        let ty = TensorType::new(info.dtype, shape.to_vec());
        check_size(&ty).map_err(|reason| wrong(&info.name, reason))?;
        Ok(ty)
    };
    graph.inputs.iter().zip(shapes).map(check).collect()
}

fn check_size(ty: &TensorType) -> Result<(), String> {
    match ty.checked_elements() {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!("a tensor {ty} has more than {MAX_ELEMENTS} elements")),
    }
}

fn infer_node(form: &Form, index: usize, inferred: &mut Inferred) -> Result<()> {
    let node = &form.graph().nodes[index];
    let operator = form.operator(index);
    let invalid = |reason| form.invalid(index, reason);

    let inputs: Vec<Option<&Value>> = node.inputs.iter().map(|id| inferred.get((*id)?)).collect();
    let operands: Vec<Option<Operand<'_>>> = inputs.iter().map(|input| input.map(Value::operand)).collect();
    let types = operator.infer(&operands).map_err(invalid)?;
    if types.len() < node.outputs.len() {
        let (given, wanted) = (types.len(), node.outputs.len());
        return Err(invalid(format!("has {given} outputs, {wanted} are wanted")));
    }
    let mut elements = 0_usize;
    let mut needed = false;
    for (id, ty) in node.outputs.iter().zip(&types) {
        let Some(id) = *id else { continue };
        check_size(ty).map_err(invalid)?;
        let declared = form.graph().info(id);
        if declared.dtype != ty.dtype {
            return Err(invalid(format!(
                "output '{}' is {} in the graph, but computed as {}",
                declared.name, declared.dtype, ty.dtype
            )));
        }
        elements += ty.elements();
        needed |= form.needed_for_planning(id);
    }

    let reads_only_shapes = operator.reads_only_shapes();
    let plan_known = reads_only_shapes || inputs.iter().flatten().all(|input| input.known.is_some());
    if plan_known && needed && elements > FOLD_LIMIT {
        return Err(invalid(format!(
            "its {elements} elements are needed to plan the launches, more than {FOLD_LIMIT}"
        )));
    }
    let fold = plan_known && elements > 0 && (needed || reads_only_shapes || elements <= FOLD_ELEMENTS);
    let folded = if fold {
        let tensor = |input: &Value| match &input.known {
            Some(known) if !reads_only_shapes => known.clone(),
            _ => HostTensor::hollow(input.ty.clone()),
        };
        let tensors: Vec<Option<HostTensor>> = inputs.iter().map(|input| input.map(tensor)).collect();
        let tensors: Vec<Option<&HostTensor>> = tensors.iter().map(Option::as_ref).collect();
        operator.evaluate(&tensors).map_err(invalid)?
    } else {
        Vec::new()
    };

    for (output, (id, ty)) in node.outputs.iter().zip(&types).enumerate() {
        let Some(id) = *id else { continue };
        let known = empty(ty).or_else(|| folded.get(output).cloned());
        if let Some(known) = known.as_ref().filter(|known| known.ty() != ty) {
            return Err(invalid(format!("computes {}, but inferred {ty}", known.ty())));
        }
        inferred.values[id.0 as usize] = Some(Value {
            ty: ty.clone(),
            known,
        });
    }
    inferred.types.push(types);
    Ok(())
}

/// Prints declared extents, `?` for a dynamic one.
pub(crate) struct Dims<'d>(pub(crate) &'d [Option<usize>]);

impl std::fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self
            .0
            .iter()
            .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
            .collect();
        write!(f, "[{}]", dims.join(", "))
    }
}
