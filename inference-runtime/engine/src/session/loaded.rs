//! A model, loaded for a device and ready to run.

use std::path::Path;
use std::sync::Arc;

use ort::session::{RunOptions, SessionInputValue};
use ort::value::{Outlet, ValueType};

use super::{Device, Placed, failure, launches, value};
use crate::api::{Datatype, Error, NamedTensor, Result, Tensor};

/// An input or output of a model as ONNX Runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    /// Name.
    pub(crate) name: String,
    /// Element type.
    pub(crate) datatype: Datatype,
    /// Extents, −1 = dynamic.
    pub(crate) shape: Vec<i64>,
    /// The dynamic extents' names; empty where there is none.
    pub(crate) symbols: Vec<String>,
}

/// A model, loaded for a device and ready to run. Owned by one thread at a time.
#[derive(Debug)]
pub(crate) struct Session {
    inner: ort::session::Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    placed: Placed,
}

/// Stops a run from another thread.
#[derive(Clone)]
pub(crate) struct RunHandle(Arc<RunOptions>);

impl RunHandle {
    /// A handle for one run.
    pub(crate) fn new() -> Result<Self> {
        RunOptions::new()
            .map(|options| Self(Arc::new(options)))
            .map_err(|e| Error::internal(format!("run options cannot be made: {e}")))
    }

    /// The run ends before its next node with [`crate::api::Kind::Cancelled`]; a node that runs is not interrupted.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.0.terminate() {
            tracing::warn!(%error, "a run could not be stopped");
        }
    }
}

impl Session {
    /// Loads `model` for `device`. Takes as long as ONNX Runtime takes; there is no way to interrupt it.
    pub(crate) fn open(device: &Device, model: &Path) -> Result<Self> {
        let failed = |e: &ort::Error<()>| {
            Error::unavailable(format!(
                "ONNX Runtime cannot load the model: {}",
                failure::tidy(e.message())
            ))
        };
        let mut builder = device.session_builder().map_err(|e| failed(&e))?;
        let session = builder.commit_from_file(model).map_err(|e| failed(&e))?;
        let inputs = session
            .inputs()
            .iter()
            .map(|outlet| port("input", outlet))
            .collect::<Result<_>>()?;
        let outputs = session
            .outputs()
            .iter()
            .map(|outlet| port("output", outlet))
            .collect::<Result<_>>()?;
        let placed = Placed::read(&session)
            .map_err(|e| Error::internal(format!("ONNX Runtime does not say which node runs where: {e}")))?;
        Ok(Self {
            inner: session,
            inputs,
            outputs,
            placed,
        })
    }

    /// Inputs in the model's order.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Outputs in the model's order.
    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Which node runs where.
    pub(crate) fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Runs once and answers all outputs in the model's order. Names and types of the inputs are those of
    /// [`Self::inputs`]; shapes are checked by the model itself.
    pub(crate) fn run(&mut self, inputs: &[NamedTensor], handle: &RunHandle) -> Result<Vec<NamedTensor>> {
        let feed = inputs
            .iter()
            .map(|input| {
                Ok((
                    input.name.as_str(),
                    SessionInputValue::from(value::to_value(&input.tensor)?),
                ))
            })
            .collect::<Result<Vec<_>>>()?;
        let span = tracing::debug_span!("run");
        let _within = span.enter();
        let outputs = launches::recorded(&span, || self.inner.run_with_options(feed, &handle.0))
            .map_err(|e| failure::sort(&e))?;
        outputs
            .iter()
            .map(|(name, output)| {
                Ok(NamedTensor {
                    name: name.to_owned(),
                    tensor: value::from_value(&output, name)?,
                })
            })
            .collect()
    }

    /// [`Self::run`] without a way to stop it, for probes and warm-ups.
    pub(crate) fn run_once(&mut self, inputs: &[NamedTensor]) -> Result<Vec<Tensor>> {
        Ok(self
            .run(inputs, &RunHandle::new()?)?
            .into_iter()
            .map(|output| output.tensor)
            .collect())
    }
}

fn port(role: &str, outlet: &Outlet) -> Result<Port> {
    let refuse = |what: String| {
        Error::unavailable(format!(
            "{role} `{}` is {what}, which the inference protocol cannot carry; only tensors of numbers, booleans \
             and strings can be served",
            outlet.name()
        ))
    };
    match outlet.dtype() {
        ValueType::Tensor {
            ty,
            shape,
            dimension_symbols,
        } => Ok(Port {
            name: outlet.name().to_owned(),
            datatype: value::datatype(*ty).ok_or_else(|| refuse(format!("a tensor of {ty}")))?,
            shape: shape.iter().map(|&d| d.max(-1)).collect(),
            symbols: dimension_symbols.iter().map(String::clone).collect(),
        }),
        other => Err(refuse(format!("of type {other}"))),
    }
}
