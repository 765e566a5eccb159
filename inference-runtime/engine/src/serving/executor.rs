//! What a model's worker runs.

use std::sync::Arc;

use crate::api::{Error, NamedTensor, Result};
use crate::model::{self, Axes};
use crate::queue::Execute;
use crate::session::{RunHandle, Session};
use crate::text::Encoder;

/// A session behind a queue.
pub(crate) struct Executor {
    pub(super) session: Session,
    pub(super) encoder: Option<Arc<Encoder>>,
}

/// What a request brings.
#[derive(Debug)]
pub(crate) enum Input {
    /// Tensors in the model's order.
    Tensors(Vec<NamedTensor>),
    /// Texts as tokens; padded when it is known who shares the batch.
    Tokens(Vec<Vec<u32>>),
}

/// What a request gets.
#[derive(Debug)]
pub(crate) enum Output {
    /// All outputs in the model's order.
    Tensors(Vec<NamedTensor>),
    /// A vector a text.
    Vectors(Vec<Vec<f32>>),
}

/// Which requests may share a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Shapes(Axes),
    Tokens,
}

impl Execute for Executor {
    type Input = Input;
    type Output = Output;
    type Key = Key;
    type Batch = Vec<NamedTensor>;
    type Outcome = Vec<NamedTensor>;
    type Stop = RunHandle;

    fn stopper(&self) -> Result<RunHandle> {
        RunHandle::new()
    }

    fn stop(stop: &RunHandle) {
        stop.stop();
    }

    fn gather(&self, inputs: &[&Input]) -> Result<Vec<NamedTensor>> {
        let tensors: Vec<&[NamedTensor]> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Tensors(tensors) => Some(tensors.as_slice()),
                Input::Tokens(_) => None,
            })
            .collect();
        match tensors.len() {
            n if n == inputs.len() => Ok(model::gather(&tensors)),
            0 => Ok(self.encoder()?.batch(&sequences(inputs))),
            _ => Err(mixed()),
        }
    }

    fn run(&mut self, batch: Vec<NamedTensor>, stop: &RunHandle) -> Result<Vec<NamedTensor>> {
        self.session.run(&batch, stop)
    }

    fn scatter(&self, outcome: Vec<NamedTensor>, inputs: &[&Input], rows: &[usize]) -> Result<Vec<Output>> {
        if let Some(Input::Tensors(_)) = inputs.first() {
            return Ok(model::scatter(outcome, rows)?
                .into_iter()
                .map(Output::Tensors)
                .collect());
        }
        let lengths: Vec<usize> = sequences(inputs).iter().map(|tokens| tokens.len()).collect();
        let mut vectors = self.encoder()?.vectors(&outcome, &lengths)?.into_iter();
        Ok(rows
            .iter()
            .map(|&n| Output::Vectors(vectors.by_ref().take(n).collect()))
            .collect())
    }
}

impl Executor {
    fn encoder(&self) -> Result<&Encoder> {
        self.encoder
            .as_deref()
            .ok_or_else(|| Error::internal("tokens for a model without a tokenizer"))
    }
}

fn sequences<'a>(inputs: &[&'a Input]) -> Vec<&'a [u32]> {
    inputs
        .iter()
        .flat_map(|input| match input {
            Input::Tokens(sequences) => sequences.as_slice(),
            Input::Tensors(_) => &[],
        })
        .map(Vec::as_slice)
        .collect()
}

fn mixed() -> Error {
    Error::internal("tokens and tensors in one batch")
}
