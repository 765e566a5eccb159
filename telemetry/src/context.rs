//! A trace across processes: W3C trace context in headers, and links between traces.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Makes `span` a part of the trace that the headers name, if they name one. To be called before the span is entered.
pub fn adopt(span: &Span, headers: &HeaderMap) {
    if span.is_disabled() {
        return;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Incoming(headers));
    if context.has_active_span() {
        // Refused for spans that only the log wants: those have no trace.
        let _ = span.set_parent(context);
    }
}

/// Puts the current span's context into headers that go out, in place of whatever is there. Without a trace they stay as they
/// are: a client's own context then passes through.
pub fn inject(headers: &mut HeaderMap) {
    let span = Span::current();
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Outgoing(headers));
    }
}

/// Whether somebody will see this span.
pub fn sampled(span: &Span) -> bool {
    !span.is_disabled() && span.context().span().span_context().is_sampled()
}

/// Notes on `span` that it has to do with `other`, which may be of another trace.
pub fn link(span: &Span, other: &Span) {
    if sampled(span) && sampled(other) {
        span.add_link(other.context().span().span_context().clone());
    }
}

struct Incoming<'h>(&'h HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Outgoing<'h>(&'h mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) else {
            return;
        };
        // An empty `tracestate` says nothing.
        if value.is_empty() {
            self.0.remove(name);
        } else {
            self.0.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::kept::Kept;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn headers(parent: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static("traceparent"), parent.parse().unwrap())])
    }

    fn traced<T>(sampler: Sampler, run: impl FnOnce() -> T) -> (T, Vec<opentelemetry_sdk::trace::SpanData>) {
        let exporter = Kept::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler)
            .with_simple_exporter(exporter.clone())
            .build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        let value = tracing::subscriber::with_default(subscriber, run);
        (value, exporter.spans())
    }

    fn always() -> Sampler {
        Sampler::ParentBased(Box::new(Sampler::AlwaysOn))
    }

    #[test]
    fn a_clients_trace_goes_on_and_the_next_one_hears_of_our_span() {
        let (sent, spans) = traced(always(), || {
            let span = tracing::debug_span!("serve");
            let mut passed = headers(&format!("00-{TRACE}-b7ad6b7169203331-01"));
            adopt(&span, &passed);
            span.in_scope(|| inject(&mut passed));
            passed
        });
        assert_eq!(spans.len(), 1);
        assert_eq!(spans[0].span_context.trace_id().to_string(), TRACE);
        assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
        let ours = spans[0].span_context.span_id();
        assert_eq!(sent["traceparent"], format!("00-{TRACE}-{ours}-01"));
        assert!(!sent.contains_key("tracestate"), "there was none");
    }

    #[test]
    fn what_is_not_a_trace_context_begins_a_new_trace() {
        for wrong in [
            "",
            "nonsense",
            "00-0-0-01",
            &format!("00-{TRACE}-0000000000000000-01"),
        ] {
            let (sampled, spans) = traced(always(), || {
                let span = tracing::debug_span!("serve");
                adopt(&span, &headers(wrong));
                sampled(&span)
            });
            assert!(sampled, "{wrong}");
            assert_ne!(spans[0].span_context.trace_id().to_string(), TRACE);
        }
    }

    #[test]
    fn a_client_that_does_not_want_to_be_traced_is_not_and_its_trace_is_handed_on_so() {
        let (sent, spans) = traced(always(), || {
            let span = tracing::debug_span!("serve");
            let mut passed = headers(&format!("00-{TRACE}-b7ad6b7169203331-00"));
            adopt(&span, &passed);
            assert!(!sampled(&span));
            span.in_scope(|| inject(&mut passed));
            passed
        });
        assert!(spans.is_empty());
        let sent = sent["traceparent"].to_str().unwrap();
        assert!(
            sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"),
            "{sent}"
        );
    }

    #[test]
    fn without_tracing_headers_pass_as_they_are() {
        let mut passed = headers("00-anything");
        let span = tracing::debug_span!("serve");
        adopt(&span, &passed);
        span.in_scope(|| inject(&mut passed));
        assert_eq!(passed["traceparent"], "00-anything");
        assert!(!sampled(&span));
    }

    #[test]
    fn spans_of_two_traces_can_point_at_each_other() {
        let ((), spans) = traced(always(), || {
            let (one, other) = (tracing::debug_span!("one"), tracing::debug_span!("other"));
            link(&one, &other);
        });
        let (one, other) = (
            spans.iter().find(|span| span.name == "one").unwrap(),
            spans.iter().find(|span| span.name == "other").unwrap(),
        );
        assert_ne!(one.span_context.trace_id(), other.span_context.trace_id());
        assert_eq!(one.links.links[0].span_context, other.span_context);
    }
}
