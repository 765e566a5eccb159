//! JSON as the wire needs it: a reader that walks a body once without building a tree, and writers of single values.
//!
//! `serde_json` is not enough on the way in: tensors of millions of numbers must not become trees of values, and
//! clients (Python's `json`, `RapidJSON`) write `NaN` and `Infinity`, which JSON proper does not know.

mod reader;
mod write;

pub(crate) use reader::{Kind, Reader};
pub(crate) use write::{float32, float64, string};
