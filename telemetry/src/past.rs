//! Spans whose times are known only when they are over, such as what a device did.

use std::borrow::Cow;
use std::time::SystemTime;

pub use opentelemetry::KeyValue as Attribute;
use opentelemetry::trace::{TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, global};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::start::SCOPE;

/// A span that is over. Parts may still be put below it.
#[derive(Debug)]
pub struct Past(Context);

impl Past {
    /// Below a span of now.
    pub fn below(
        span: &Span,
        name: impl Into<Cow<'static, str>>,
        times: (SystemTime, SystemTime),
        attributes: Vec<Attribute>,
    ) -> Self {
        Self::record(&span.context(), name.into(), times, attributes)
    }

    /// A part of it.
    pub fn part(
        &self,
        name: impl Into<Cow<'static, str>>,
        times: (SystemTime, SystemTime),
        attributes: Vec<Attribute>,
    ) {
        Self::record(&self.0, name.into(), times, attributes);
    }

    fn record(
        parent: &Context,
        name: Cow<'static, str>,
        (begin, end): (SystemTime, SystemTime),
        attributes: Vec<Attribute>,
    ) -> Self {
        let tracer = global::tracer(SCOPE);
        let span = tracer
            .span_builder(name)
            .with_start_time(begin)
            .with_attributes(attributes)
            .start_with_context(&tracer, parent);
        let context = parent.with_span(span);
        context.span().end_with_timestamp(end);
        Self(context)
    }
}
