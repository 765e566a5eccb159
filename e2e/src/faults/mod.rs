//! What goes wrong on purpose: faults as values, each undone by itself, and plans of them that a seed gives again.
//!
//! A fault needs a provider that can do it. No clock is skewed: the nodes share the machine's, and Linux has time namespaces
//! for the monotonic clocks only (`docs/dev/e2e.md` says what stands in for it).

mod dice;
mod disk;
mod fault;
mod plan;
mod program;
mod struck;

pub use dice::Dice;
pub use fault::{Fault, Scar, heal};
pub use plan::{Field, REST, Strike, plan};
pub use program::Program;
pub use struck::Struck;
