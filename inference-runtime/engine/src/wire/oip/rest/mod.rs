//! The REST encodings of an inference: JSON, JSON with binary tensors behind it, and the raw request.

mod data;
mod frame;
mod raw;
mod request;
mod response;

pub(crate) use frame::{Frame, frame};
pub(crate) use raw::raw;
pub(crate) use request::{Body, decode};
pub(crate) use response::{Answer, encode};

/// Which outputs a client wants as bytes behind the JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Encoding {
    /// Where the output itself says nothing.
    pub(crate) binary: bool,
    /// Outputs that say.
    pub(crate) outputs: Vec<(String, bool)>,
}

impl Encoding {
    fn is_binary(&self, output: &str) -> bool {
        self.outputs
            .iter()
            .find(|(name, _)| name == output)
            .map_or(self.binary, |(_, binary)| *binary)
    }
}

#[cfg(test)]
mod tests;
