//! What Prometheus sees. Labels come from tables and from the fleet, never from clients.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use crate::send::Scheduler;

/// Nodes that are named in series; further ones share `other`.
const MOST_NODES: usize = 1000;

/// Counters that live as long as the server.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    picks: IntCounterVec,
    retries: IntCounterVec,
    ejections: IntCounter,
}

impl Metrics {
    /// Of a scheduler of the `InferenceCluster` of that name.
    pub(crate) fn new(cluster: &str) -> prometheus::Result<Self> {
        let registry = registry(cluster)?;
        let requests = add(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "afterglow_scheduler_requests_total",
                    "Requests by door and outcome",
                ),
                &["door", "code"],
            )?,
        )?;
        let seconds = HistogramOpts::new(
            "afterglow_scheduler_request_duration_seconds",
            "From a request's head to the head of its answer",
        )
        .buckets(vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
        ]);
        let seconds = add(&registry, HistogramVec::new(seconds, &["door"])?)?;
        let picks = add(
            &registry,
            IntCounterVec::new(
                Opts::new("afterglow_scheduler_picks_total", "Replicas picked, by reason"),
                &["because"],
            )?,
        )?;
        let retries = add(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "afterglow_scheduler_retries_total",
                    "Requests sent again, by what the attempt before came to; over-budget were not",
                ),
                &["after"],
            )?,
        )?;
        let ejections = add(
            &registry,
            IntCounter::new(
                "afterglow_scheduler_broken_connections_total",
                "Attempts that ended without an answer, or could not be begun",
            )?,
        )?;
        for after in ["busy", "missing", "broken", "fault", "late", "over-budget"] {
            retries.with_label_values(&[after]);
        }
        Ok(Self {
            registry,
            requests,
            seconds,
            picks,
            retries,
            ejections,
        })
    }

    /// A request was answered, whatever with.
    pub(crate) fn answered(&self, door: &str, code: &str, took: Duration) {
        self.requests.with_label_values(&[door, code]).inc();
        self.seconds
            .with_label_values(&[door])
            .observe(took.as_secs_f64());
    }

    pub(crate) fn pick(&self, because: &str) {
        self.picks.with_label_values(&[because]).inc();
    }

    pub(crate) fn retry(&self, after: &str) {
        self.retries.with_label_values(&[after]).inc();
    }

    pub(crate) fn ejection(&self) {
        self.ejections.inc();
    }
}

impl Scheduler {
    /// The text exposition format.
    pub(crate) fn render(&self) -> String {
        self.gather().unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }

    fn gather(&self) -> prometheus::Result<String> {
        let now = registry(&self.cluster)?;
        let gauge = |name: &str, help: &str, value: usize| -> prometheus::Result<()> {
            add(&now, IntGauge::new(name, help)?)?.set(value as i64);
            Ok(())
        };
        let fleet = self.view();
        let models = fleet.models.values().map(std::collections::BTreeMap::len).sum();
        let unready = fleet.models.values().flat_map(std::collections::BTreeMap::values);
        let unready = unready.map(|model| model.unready.iter().filter(|one| one.revision.is_some()).count());
        gauge("afterglow_scheduler_models", "Models of the fleet", models)?;
        let replicas = add(
            &now,
            IntGaugeVec::new(
                Opts::new("afterglow_scheduler_replicas", "Replicas of the fleet"),
                &["ready"],
            )?,
        )?;
        replicas
            .with_label_values(&["true"])
            .set(fleet.replicas().count() as i64);
        replicas
            .with_label_values(&["false"])
            .set(unready.sum::<usize>() as i64);
        gauge(
            "afterglow_scheduler_requests_in_flight",
            "Requests that are under way",
            self.admission.requests(),
        )?;
        gauge(
            "afterglow_scheduler_bytes_in_flight",
            "Bytes of requests that are under way",
            self.admission.bytes(),
        )?;
        let ages = add(
            &now,
            GaugeVec::new(
                Opts::new(
                    "afterglow_scheduler_load_report_age_seconds",
                    "Time since a node's last load report",
                ),
                &["gpu_node"],
            )?,
        )?;
        for (place, (node, age)) in self.table.ages(Instant::now()).into_iter().enumerate() {
            let label = if place < MOST_NODES {
                node.as_str()
            } else {
                "other"
            };
            ages.with_label_values(&[label]).set(age.as_secs_f64());
        }
        let mut families = self.metrics.registry.gather();
        families.extend(now.gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

/// Every series says whose scheduler it comes from.
fn registry(cluster: &str) -> prometheus::Result<Registry> {
    let labels = HashMap::from([("inference_cluster".to_owned(), cluster.to_owned())]);
    Registry::new_custom(None, Some(labels))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
