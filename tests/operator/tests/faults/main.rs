//! What the operator does when something goes wrong, number by number; `docs/dev/operator-faults.md` has the table.

mod contest;
mod crash;
mod deletion;
mod idle;
mod kinds;
mod leaders;
mod limits;
mod nodes;
mod outage;
mod scene;
mod tokens;
mod watches;
mod wishes;
mod writers;
