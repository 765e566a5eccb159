//! Operators that make one number of many: sums, means, extremes and where they are, running sums.

use super::Registration;

pub(in crate::ops) mod rows;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[];
