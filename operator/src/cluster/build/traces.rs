//! Where schedulers, agents and engines send traces: where the operator itself does.

use serde_json::{Value, json};

use super::Blueprint;

/// OpenTelemetry's own variables, for a container's `env`; none where nothing is traced. An engine is a child of its agent and
/// finds them in its environment.
pub(super) fn env(blueprint: &Blueprint<'_>) -> Vec<Value> {
    let Some(traces) = &blueprint.options.traces else {
        return Vec::new();
    };
    let mut env = vec![json!({ "name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": traces.endpoint })];
    for (name, value) in [
        ("OTEL_TRACES_SAMPLER", &traces.sampler),
        ("OTEL_TRACES_SAMPLER_ARG", &traces.sampler_argument),
    ] {
        if let Some(value) = value {
            env.push(json!({ "name": name, "value": value }));
        }
    }
    env
}
