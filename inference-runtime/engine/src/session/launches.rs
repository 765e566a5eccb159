//! What our provider did within a run, as spans below the run's: for traces that somebody will see, and only for those.
//!
//! The provider's library is a program of its own, with a `tracing` of its own that nobody listens to; it tells through a
//! function that it exports (`ort_ep_sys::observe`).

use std::time::{Duration, UNIX_EPOCH};

use afterglow_telemetry::{Attribute, Past};
use ort_ep_sys::session::{Launch, Run};
use tracing::Span;

use super::runtime;

/// Runs, and records what the provider says of it.
pub(super) fn recorded<T>(span: &Span, run: impl FnOnce() -> T) -> T {
    let Some(watch) = afterglow_telemetry::sampled(span).then(runtime::watch).flatten() else {
        return run();
    };
    watch.during(&mut |run| record(span, &run), run)
}

fn record(span: &Span, run: &Run) {
    let at = |since: Duration| UNIX_EPOCH + run.began + since;
    let attributes = vec![
        Attribute::new("node", run.node.clone()),
        Attribute::new("launches", run.launches.len() as i64),
    ];
    let compute = Past::below(span, "compute", (at(Duration::ZERO), at(run.ended)), attributes);
    let cached = Attribute::new("cached", run.plan_cached);
    compute.part("plan", (at(Duration::ZERO), at(run.planned)), vec![cached]);
    for launch in &run.launches {
        compute.part(
            "launch",
            (at(launch.begin), at(launch.end)),
            attributes_of(launch),
        );
    }
}

fn attributes_of(launch: &Launch) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::new("kernel", launch.kernel.clone()),
        Attribute::new("node", launch.node.clone()),
        Attribute::new("operator", launch.operator.clone()),
        Attribute::new(
            "device_ns",
            launch.end.saturating_sub(launch.begin).as_nanos() as i64,
        ),
    ];
    // A copy has none.
    if launch.global != [0; 3] {
        attributes.push(Attribute::new("global", extents(launch.global)));
        attributes.push(Attribute::new("local", extents(launch.local)));
    }
    attributes
}

/// `1024x1x1`.
fn extents(items: [u64; 3]) -> String {
    let [x, y, z] = items;
    format!("{x}x{y}x{z}")
}
