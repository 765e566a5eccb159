//! The node agent: discover → offer → host → report.
#![forbid(unsafe_code)]
