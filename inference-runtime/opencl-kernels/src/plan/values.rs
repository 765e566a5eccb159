//! Types and known values of a graph for concrete input shapes: the part of planning that knows no device.

use crate::error::{Error, Result};
use crate::ir::ValueId;
use crate::ops::Operand;
use crate::program::Program;
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

/// All values of a program by [`ValueId`]; `None` for those that no node produces.
pub(crate) type Values = Vec<Option<Value>>;

/// Infers every value's type for these input shapes and folds what does not depend on the inputs' data.
pub(crate) fn infer(program: &Program, input_shapes: &[&[usize]]) -> Result<Values> {
    let graph = program.graph();
    let mut values: Values = vec![None; graph.values.len()];
    for (id, tensor) in &graph.constants {
        values[id.0 as usize] = Some(Value {
            ty: tensor.ty().clone(),
            known: Some(tensor.clone()),
        });
    }
    for (&id, ty) in graph.inputs.iter().zip(input_types(program, input_shapes)?) {
        let empty = ty.shape.contains(&0).then(|| HostTensor::zeros(ty.clone()));
        values[id.0 as usize] = Some(Value { ty, known: empty });
    }
    for node in 0..graph.nodes.len() {
        infer_node(program, node, &mut values)?;
    }
    Ok(values)
}

/// Checks concrete input shapes against what the graph declares.
pub(crate) fn input_types(program: &Program, shapes: &[&[usize]]) -> Result<Vec<TensorType>> {
    let graph = program.graph();
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

fn infer_node(program: &Program, index: usize, values: &mut Values) -> Result<()> {
    let node = &program.graph().nodes[index];
    let operator = program.operator(index);
    let invalid = |reason| program.invalid(index, reason);

    let inputs = program.inputs_of(index, values);
    let operands: Vec<Option<Operand<'_>>> = inputs.iter().map(|i| i.map(Value::operand)).collect();
    let types = operator.infer(&operands).map_err(invalid)?;
    if types.len() < node.outputs.len() {
        let (inferred, wanted) = (types.len(), node.outputs.len());
        return Err(invalid(format!("has {inferred} outputs, {wanted} are wanted")));
    }
    let wanted: Vec<(ValueId, &TensorType)> = node
        .outputs
        .iter()
        .zip(&types)
        .filter_map(|(id, ty)| Some(((*id)?, ty)))
        .collect();
    for (id, ty) in &wanted {
        check_size(ty).map_err(invalid)?;
        let declared = program.graph().info(*id);
        if declared.dtype != ty.dtype {
            return Err(invalid(format!(
                "output '{}' is {} in the graph, but computed as {}",
                declared.name, declared.dtype, ty.dtype
            )));
        }
    }

    let elements: usize = wanted.iter().map(|(_, ty)| ty.elements()).sum();
    let needed = wanted.iter().any(|(id, _)| program.needed_for_planning(*id));
    let can_fold = operator.reads_only_shapes() || inputs.iter().flatten().all(|input| input.known.is_some());
    if can_fold && needed && elements > FOLD_LIMIT {
        return Err(invalid(format!(
            "its {elements} elements are needed to plan the launches, more than {FOLD_LIMIT}"
        )));
    }
    let folded = if can_fold && elements > 0 && (needed || elements <= FOLD_ELEMENTS) {
        let hollow: Vec<Option<HostTensor>> = if operator.reads_only_shapes() {
            inputs
                .iter()
                .map(|i| i.map(|i| HostTensor::hollow(i.ty.clone())))
                .collect()
        } else {
            inputs.iter().map(|i| i.and_then(|i| i.known.clone())).collect()
        };
        let known: Vec<Option<&HostTensor>> = hollow.iter().map(Option::as_ref).collect();
        Some(operator.evaluate(&known).map_err(invalid)?)
    } else {
        None
    };

    let results: Vec<(ValueId, Value)> = wanted
        .into_iter()
        .enumerate()
        .map(|(_, (id, ty))| (id, ty.clone()))
        .map(|(id, ty)| {
            let output = node.outputs.iter().position(|o| *o == Some(id)).unwrap_or(0);
            let known = if ty.elements() == 0 {
                Some(HostTensor::zeros(ty.clone()))
            } else {
                folded.as_ref().and_then(|tensors| tensors.get(output).cloned())
            };
            (id, Value { ty, known })
        })
        .collect();
    for (id, value) in results {
        if let Some(known) = &value.known
            && *known.ty() != value.ty
        {
            let reason = format!("computes {}, but inferred {}", known.ty(), value.ty);
            return Err(program.invalid(index, reason));
        }
        values[id.0 as usize] = Some(value);
    }
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
