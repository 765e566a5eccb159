//! A node's attributes.

use std::collections::BTreeMap;

use crate::tensor::HostTensor;

/// One attribute's value. Sub-graphs are absent on purpose: control flow stays with the host.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Floats(Vec<f32>),
    String(String),
    Strings(Vec<String>),
    Tensor(HostTensor),
}

/// Attributes by name, in a stable order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(BTreeMap<String, Attribute>);

impl Attributes {
    /// Sets an attribute, replacing an earlier one of the same name.
    pub fn set(&mut self, name: impl Into<String>, value: Attribute) {
        self.0.insert(name.into(), value);
    }

    /// The same attributes and one more; for building nodes in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: Attribute) -> Self {
        self.set(name, value);
        self
    }

    /// An attribute of any kind.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// An integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        if let Some(Attribute::Int(value)) = self.get(name) {
            Some(*value)
        } else {
            None
        }
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attribute::Ints(value)) = self.get(name) {
            Some(value)
        } else {
            None
        }
    }

    /// A float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        if let Some(Attribute::Float(value)) = self.get(name) {
            Some(*value)
        } else {
            None
        }
    }

    /// A string attribute.
    pub fn string(&self, name: &str) -> Option<&str> {
        if let Some(Attribute::String(value)) = self.get(name) {
            Some(value)
        } else {
            None
        }
    }

    /// A tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&HostTensor> {
        if let Some(Attribute::Tensor(value)) = self.get(name) {
            Some(value)
        } else {
            None
        }
    }

    /// All names, sorted: lowering uses this to refuse attributes it does not know.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
