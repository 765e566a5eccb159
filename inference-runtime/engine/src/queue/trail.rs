//! A request's trace through the queue.
//!
//! A run serves several requests, each with a trace of its own, and must not be told several times. So each request gets a
//! span `batch` in its own trace, as long as the run; what happens within the run stands below the first one whose trace is
//! sampled, and the others' spans and that one point at each other.

use tracing::{Span, debug_span};

/// A request's spans, taken along from its task to the worker.
pub(super) struct Trail {
    request: Span,
    waiting: Span,
}

impl Trail {
    /// The request that runs here begins to wait.
    pub(super) fn begin() -> Self {
        Self {
            request: Span::current(),
            waiting: debug_span!("queue"),
        }
    }

    /// It does not wait any more.
    pub(super) fn taken(&mut self) {
        self.waiting = Span::none();
    }
}

/// The spans of a run, one for each of its requests.
pub(super) struct Together {
    first: Span,
    _others: Vec<Span>,
}

/// Begins them.
pub(super) fn batch<'t>(
    model: &str,
    rows: usize,
    trails: impl ExactSizeIterator<Item = &'t Trail>,
) -> Together {
    let requests = trails.len();
    let mut others: Vec<Span> = trails
        .map(|trail| {
            debug_span!(
                parent: &trail.request,
                "batch",
                model,
                requests = requests as i64,
                rows = rows as i64,
            )
        })
        .collect();
    let sampled = others.iter().position(afterglow_telemetry::sampled);
    // Of none, what happens in the run is recorded for nobody, as it would be for the first.
    let first = if others.is_empty() {
        Span::none()
    } else {
        others.swap_remove(sampled.unwrap_or(0))
    };
    for other in &others {
        afterglow_telemetry::link(other, &first);
        afterglow_telemetry::link(&first, other);
    }
    Together {
        first,
        _others: others,
    }
}

impl Together {
    /// Runs within the first one.
    pub(super) fn within<T>(&self, run: impl FnOnce() -> T) -> T {
        self.first.in_scope(run)
    }
}
