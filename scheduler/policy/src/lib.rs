//! Every decision of the platform as a synchronous, deterministic function.
//!
//! Nothing here knows a clock, a thread, a socket or a random number: time, state and limits are arguments, the
//! decision is the result. So every decision can be tested as a table, replayed and simulated.
#![forbid(unsafe_code)]

pub mod batch;
pub mod breaker;
pub mod pick;
pub mod place;
pub mod rollout;
