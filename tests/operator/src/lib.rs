//! The operator under fault: its real program, a real etcd, API server and garbage collector, and between them a proxy that
//! breaks what it is told to. `docs/dev/operator-faults.md` has the table of claims.
#![forbid(unsafe_code)]

pub mod agents;
pub mod child;
pub mod life;
pub mod limits;
pub mod operator;
pub mod oracles;
pub mod proxy;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod wait;
pub mod world;
