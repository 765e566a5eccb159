//! What a model takes and gives: requests are checked against it, merged into batches and taken apart again.
//!
//! Pure: no session, no queue, no clock.

mod batch;
mod classification;
mod signature;

pub(crate) use batch::{gather, scatter};
pub(crate) use classification::classify;
pub(crate) use signature::{Axes, Signature};
