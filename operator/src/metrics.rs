//! The operator's metrics. Label values come from closed sets, never from names or error texts.

use std::time::Duration;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Everything that is counted.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    duration: HistogramVec,
    leader: IntGauge,
    api_errors: IntCounterVec,
    writes: IntCounterVec,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("name and labels are valid")
        };
        let metrics = Self {
            reconciles: counter(
                "afterglow_operator_reconciles_total",
                "Reconciles by kind and result (ok or the step that failed).",
                &["kind", "result"],
            ),
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "afterglow_operator_reconcile_duration_seconds",
                    "How long a reconcile took.",
                )
                .buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
                &["kind"],
            )
            .expect("name and labels are valid"),
            leader: IntGauge::new(
                "afterglow_operator_leader",
                "1 while this process runs the controllers, else 0.",
            )
            .expect("name is valid"),
            api_errors: counter(
                "afterglow_operator_api_errors_total",
                "Calls to the API server that failed or had no answer in time, by verb.",
                &["verb"],
            ),
            writes: counter(
                "afterglow_operator_writes_total",
                "Writes to the API server that succeeded, by kind of object and verb.",
                &["kind", "verb"],
            ),
            registry,
        };
        let Self {
            registry,
            reconciles,
            duration,
            leader,
            api_errors,
            writes,
        } = &metrics;
        for collector in [
            Box::new(reconciles.clone()) as Box<dyn prometheus::core::Collector>,
            Box::new(duration.clone()),
            Box::new(leader.clone()),
            Box::new(api_errors.clone()),
            Box::new(writes.clone()),
        ] {
            registry
                .register(collector)
                .expect("each name is registered once");
        }
        metrics
    }

    /// A reconcile has ended.
    pub(crate) fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        self.reconciles.with_label_values(&[kind, result]).inc();
        self.duration
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
    }

    /// Whether this process leads.
    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// A call failed.
    pub(crate) fn api_error(&self, verb: &str) {
        self.api_errors.with_label_values(&[verb]).inc();
    }

    /// Something was written.
    pub(crate) fn wrote(&self, kind: &str, verb: &str) {
        self.writes.with_label_values(&[kind, verb]).inc();
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics could not be rendered");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
