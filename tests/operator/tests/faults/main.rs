//! What the operator does when something goes wrong, number by number; `docs/dev/operator-faults.md` has the table.

mod crash;
