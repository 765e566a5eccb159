//! Which spans are recorded: what the environment's sampler says (`OTEL_TRACES_SAMPLER`), of whole traces only.

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Config, SamplingDecision, SamplingResult, ShouldSample};

/// A trace begins where something comes in, with a span of the kind `server` or `consumer`. What happens outside of one (a
/// warm-up, a small question on somebody's behalf) is no trace, and what is below a span that is not recorded is not either.
#[derive(Debug, Clone)]
pub(crate) struct Whole(Box<dyn ShouldSample>);

impl Whole {
    /// By the environment's sampler.
    pub(crate) fn by_environment() -> Self {
        Self(Config::default().sampler)
    }
}

impl ShouldSample for Whole {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let parents = parent
            .map(|parent| parent.span().span_context().clone())
            .filter(opentelemetry::trace::SpanContext::is_valid);
        let begins = matches!(kind, SpanKind::Server | SpanKind::Consumer);
        let of_a_trace = match &parents {
            None => begins,
            Some(parent) => parent.is_remote() || parent.is_sampled(),
        };
        if of_a_trace {
            return self.0.should_sample(parent, trace, name, kind, attributes, links);
        }
        SamplingResult {
            decision: SamplingDecision::Drop,
            attributes: Vec::new(),
            trace_state: parents.map_or_else(TraceState::default, |parent| parent.trace_state().clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    use super::*;
    use crate::kept::Kept;

    fn recorded(sampler: Sampler, kind: SpanKind) -> Vec<String> {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Whole(Box::new(sampler)))
            .with_simple_exporter(exporter.clone())
            .build();
        let tracer = provider.tracer("test");
        let root = tracer.span_builder("root").with_kind(kind);
        let root = Context::new().with_span(root.start_with_context(&tracer, &Context::new()));
        drop(tracer.span_builder("child").start_with_context(&tracer, &root));
        drop(root);
        let spans = exporter.spans();
        spans.into_iter().map(|span| span.name.into_owned()).collect()
    }

    #[test]
    fn a_trace_begins_with_a_request_and_nothing_else() {
        assert_eq!(recorded(Sampler::AlwaysOn, SpanKind::Server), ["child", "root"]);
        assert!(recorded(Sampler::AlwaysOn, SpanKind::Internal).is_empty());
    }

    #[test]
    fn a_trace_is_recorded_whole_or_not_at_all() {
        assert!(recorded(Sampler::AlwaysOff, SpanKind::Server).is_empty());
        assert!(recorded(Sampler::TraceIdRatioBased(0.0), SpanKind::Server).is_empty());
    }
}
