//! What the operator decides, without its hands: for those who run it without a cluster, such as `tests/simulation`.
//!
//! Everything here gets its time as an argument and touches neither the network nor a thread.

pub use crate::deployment::{
    Applied, Facts, Machine, Plan, Progress, Refusal, Revision, Rival, Seen, Unreadable, Wanted, check,
    facts, plan, status,
};
pub use crate::expectations::Expectations;
pub use crate::leader::{Term, renew, take};
pub use crate::liveness::{Judgement, Observer};
pub use crate::pace::Pace;
pub use crate::queue::Key;
pub use crate::sweep::is_abandoned;
