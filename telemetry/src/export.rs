//! Spans on their way to the collector: a bounded queue, and a thread of its own that empties it. A request never waits for
//! either; what does not fit any more is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::Key;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter as Export,
};

use crate::sample::Whole;

/// Spans that wait where `OTEL_BSP_MAX_QUEUE_SIZE` says nothing. A run of a model is some hundred launches, and several runs
/// end at once: OpenTelemetry's 2,048 would lose the ends of traces.
const QUEUE: usize = 8192;

/// Makes and ends spans for this service; sampler and limits by the environment. To be called within an async runtime.
pub(crate) fn provider(
    service: &'static str,
    endpoint: &str,
) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = Watched {
        inner: SpanExporter::builder().with_tonic().build()?,
        endpoint: endpoint.to_owned(),
        failing: AtomicBool::new(false),
    };
    let mut batches = BatchConfigBuilder::default();
    if std::env::var_os("OTEL_BSP_MAX_QUEUE_SIZE").is_none() {
        batches = batches.with_max_queue_size(QUEUE);
    }
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches.build())
        .build();
    Ok(SdkTracerProvider::builder()
        .with_resource(resource(service))
        .with_sampler(Whole::by_environment())
        .with_span_processor(processor)
        .build())
}

/// What this process is: the environment's word (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`), else ours.
fn resource(service: &'static str) -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::from_static_str("service.name"));
    let unknown = name.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    if unknown {
        builder.with_service_name(service).build()
    } else {
        builder.build()
    }
}

/// An exporter that says once when the collector is away, and once when it is back.
#[derive(Debug)]
struct Watched<E> {
    inner: E,
    endpoint: String,
    failing: AtomicBool,
}

impl<E: Export> Export for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.inner.export(batch).await;
        let failed = outcome.is_err();
        if self.failing.swap(failed, Ordering::Relaxed) != failed {
            match &outcome {
                Ok(()) => tracing::info!(endpoint = self.endpoint, "traces reach the collector again"),
                Err(error) => tracing::warn!(
                    endpoint = self.endpoint,
                    %error,
                    "traces do not reach the collector and are dropped; requests go on"
                ),
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
