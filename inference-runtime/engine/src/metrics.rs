//! What Prometheus sees: Triton's names and meanings, and a few of our own.
//!
//! Nothing is counted here. A scrape reads the same [`crate::statistics`] as the statistics extension, so the two
//! agree, and a model that is gone has no series.

use std::sync::Arc;

use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector,
};

use crate::devices::Sensors;
use crate::serving::Models;
use crate::statistics::Failure;

/// The metrics of one engine.
pub struct Metrics {
    models: Arc<Models>,
    sensors: Sensors,
}

/// What tells one model version's series from another's.
const LABELS: [&str; 2] = ["model", "version"];

impl Metrics {
    pub(crate) fn new(models: Arc<Models>) -> Self {
        let sensors = Sensors::of(&models.loader().device);
        Self { models, sensors }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.gather().unwrap_or_else(|error| {
            tracing::error!(%error, "metrics cannot be written");
            String::new()
        })
    }

    fn gather(&self) -> prometheus::Result<String> {
        let registry = Registry::new();
        self.models_into(&registry)?;
        self.engine_into(&registry)?;
        TextEncoder::new().encode_to_string(&registry.gather())
    }

    fn models_into(&self, registry: &Registry) -> prometheus::Result<()> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            add(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauge = |name: &str, help: &str| add(registry, IntGaugeVec::new(Opts::new(name, help), &LABELS)?);
        let success = counter("nv_inference_request_success", "Successful requests", &LABELS)?;
        let failure = counter(
            "nv_inference_request_failure",
            "Failed requests by reason",
            &["model", "version", "reason"],
        )?;
        let count = counter("nv_inference_count", "Inferences: a batch of n counts n", &LABELS)?;
        let executions = counter("nv_inference_exec_count", "Executions: a batch counts 1", &LABELS)?;
        let duration =
            |part: &str, help: &str| counter(&format!("nv_inference_{part}_duration_us"), help, &LABELS);
        let request = duration("request", "Requests end to end, microseconds in all")?;
        let queue = duration("queue", "Waiting for the device, microseconds in all")?;
        let input = duration("compute_input", "Gathering inputs, microseconds in all")?;
        let infer = duration("compute_infer", "Running, microseconds in all")?;
        let output = duration("compute_output", "Scattering outputs, microseconds in all")?;
        let pending = gauge(
            "nv_inference_pending_request_count",
            "Requests accepted and not yet executing",
        )?;
        let running = gauge("afterglow_model_running_requests", "Requests executing")?;
        let device_nodes = gauge(
            "afterglow_model_device_nodes",
            "Nodes of the model that run on the device",
        )?;
        let cpu_nodes = gauge(
            "afterglow_model_cpu_nodes",
            "Nodes of the model that run on the CPU",
        )?;
        let host = gauge(
            "afterglow_model_host_bytes",
            "Host memory the model took when it was probed",
        )?;

        let (mut all_waiting, mut all_running) = (0, 0);
        for model in self.models.served(None) {
            let version = model.version.to_string();
            let labels = [model.name.as_str(), version.as_str()];
            let s = model.statistics.snapshot();
            let set = |vec: &IntCounterVec, value: u64| vec.with_label_values(&labels).inc_by(value);
            set(&success, s.inference.success.count);
            set(&count, s.inference_count);
            set(&executions, s.execution_count);
            set(&request, s.inference.success.nanoseconds / 1000);
            set(&queue, s.inference.queue.nanoseconds / 1000);
            set(&input, s.inference.compute_input.nanoseconds / 1000);
            set(&infer, s.inference.compute_infer.nanoseconds / 1000);
            set(&output, s.inference.compute_output.nanoseconds / 1000);
            for reason in Failure::ALL {
                failure
                    .with_label_values(&[labels[0], labels[1], reason.name()])
                    .inc_by(s.failed(reason));
            }
            let occupancy = model.occupancy();
            all_waiting += occupancy.waiting;
            all_running += occupancy.running;
            pending.with_label_values(&labels).set(occupancy.waiting as i64);
            running.with_label_values(&labels).set(occupancy.running as i64);
            device_nodes
                .with_label_values(&labels)
                .set(model.placement.device_nodes as i64);
            cpu_nodes
                .with_label_values(&labels)
                .set(model.placement.cpu_nodes as i64);
            host.with_label_values(&labels).set(model.host_bytes() as i64);
        }
        // What an endpoint picker reads of a model server, whatever it serves; 0, never nothing.
        let total = |name: &str, help: &str, value: usize| -> prometheus::Result<()> {
            add(registry, IntGauge::new(name, help)?)?.set(value as i64);
            Ok(())
        };
        total(
            "vllm:num_requests_waiting",
            "Requests that wait, all models",
            all_waiting,
        )?;
        total(
            "vllm:num_requests_running",
            "Requests that run, all models",
            all_running,
        )
    }

    fn engine_into(&self, registry: &Registry) -> prometheus::Result<()> {
        let device = &self.models.loader().device;
        let info = Opts::new("afterglow_engine_info", "This engine; the value is 1");
        let info = add(
            registry,
            IntGaugeVec::new(info, &["version", "onnxruntime", "device"])?,
        )?;
        let (label, runtime) = (device.label(), device.runtime().version());
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), runtime.as_str(), label.as_str()])
            .set(1);
        let resident = Gauge::new("process_resident_memory_bytes", "Resident memory of the engine")?;
        add(registry, resident)?.set(crate::probe::resident_bytes() as f64);
        for reading in self.sensors.read() {
            let gauge = GaugeVec::new(Opts::new(reading.name, reading.help), &["gpu_uuid"])?;
            add(registry, gauge)?
                .with_label_values(&[self.sensors.id()])
                .set(reading.value);
        }
        Ok(())
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
