//! What the environment asks for, by OpenTelemetry's own variables.

/// What to do with traces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing was asked for.
    Nothing,
    /// They go to this collector.
    Collector(String),
    /// Something was asked for that is not offered; the text says what would be.
    Refused(String),
}

/// Reads the wish. An empty variable is one that is not set, as OpenTelemetry has it.
pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Wish {
    let set = |name: &str| {
        variable(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    };
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| set(name).map(|value| (name, value)))
    };
    if set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Wish::Nothing;
    }
    match set("OTEL_TRACES_EXPORTER").as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Wish::Nothing,
        Some(other) => {
            return Wish::Refused(format!(
                "OTEL_TRACES_EXPORTER is `{other}`; traces go out by `otlp` or not at all (`none`)"
            ));
        }
    }
    let endpoint = first([
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    ]);
    let Some((name, endpoint)) = endpoint else {
        return Wish::Nothing;
    };
    let protocol = first([
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ]);
    if let Some((name, protocol)) = protocol.filter(|(_, protocol)| protocol != "grpc") {
        return Wish::Refused(format!(
            "{name} is `{protocol}`, but only `grpc` is spoken: name the collector's gRPC port, usually 4317, and leave {name} out"
        ));
    }
    if !endpoint.starts_with("http://") {
        return Wish::Refused(format!(
            "{name} is `{endpoint}`; it must be http://HOST:PORT, a collector's gRPC port without TLS"
        ));
    }
    Wish::Collector(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(set: &[(&str, &str)]) -> Wish {
        read(|name| {
            let found = set.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");

    #[test]
    fn without_an_endpoint_nothing_is_traced() {
        assert_eq!(wish(&[]), Wish::Nothing);
        assert_eq!(wish(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Wish::Nothing);
        assert_eq!(wish(&[("OTEL_SERVICE_NAME", "mine")]), Wish::Nothing);
    }

    #[test]
    fn the_endpoint_for_traces_counts_before_the_one_for_everything() {
        assert_eq!(wish(&[ENDPOINT]), Wish::Collector("http://collector:4317".into()));
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:4317");
        assert_eq!(
            wish(&[ENDPOINT, traces]),
            Wish::Collector("http://other:4317".into())
        );
    }

    #[test]
    fn a_switch_turns_it_off_whatever_the_endpoint() {
        assert_eq!(wish(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Wish::Nothing);
        assert_eq!(wish(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Wish::Nothing);
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        for (set, word) in [
            (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), "4317"),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c:4317"),
                "http://",
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317"),
                "http://",
            ),
            (("OTEL_TRACES_EXPORTER", "zipkin"), "otlp"),
        ] {
            let Wish::Refused(why) = wish(&[ENDPOINT, set]) else {
                panic!("{set:?} was taken");
            };
            assert!(why.contains(word) && why.contains(set.0), "{why}");
        }
    }
}
