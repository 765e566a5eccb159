//! How results look.

mod table;

use std::io::Write as _;

use anyhow::Result;
use serde::Serialize;

pub(crate) use table::Table;

/// Prints a document for programs.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = anstream::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints lines for people.
pub(crate) fn text(text: impl std::fmt::Display) -> Result<()> {
    write!(anstream::stdout().lock(), "{text}")?;
    Ok(())
}
