//! The elementwise family.

use super::Registration;

/// What this family lowers.
pub(super) const OPERATORS: &[Registration] = &[];
