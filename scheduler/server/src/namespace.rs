//! Which namespace a request is for: `(header, host, cluster) → namespace`.

/// Says the namespace.
pub(crate) const HEADER: &str = "x-afterglow-namespace";

/// What the answer depends on beside the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// Name of the `InferenceCluster`.
    pub(crate) cluster: &'a str,
    /// Where the scheduler itself runs.
    pub(crate) own: &'a str,
    /// For requests that do not say.
    pub(crate) default: &'a str,
}

/// The header decides; else a namespace's own Service, `afterglow-CLUSTER.NAMESPACE[.svc[.…]]`; else the default.
pub(crate) fn of<'a>(header: Option<&'a str>, host: Option<&'a str>, place: Place<'a>) -> &'a str {
    if let Some(named) = header.map(str::trim).filter(|name| !name.is_empty()) {
        return named;
    }
    host.and_then(|host| by_host(host, place))
        .unwrap_or(place.default)
}

fn by_host<'a>(host: &'a str, place: Place<'_>) -> Option<&'a str> {
    // An IPv6 address has colons too, but never our prefix.
    let host = host.split(':').next().unwrap_or(host);
    let mut labels = host.split('.');
    let service = labels.next()?.strip_prefix("afterglow-")?;
    let namespace = labels.next()?;
    let rest_is_svc = labels.next().is_none_or(|label| label == "svc");
    (service == place.cluster && rest_is_svc && !namespace.is_empty() && namespace != place.own)
        .then_some(namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_then_service_name_then_default() {
        let place = Place {
            cluster: "main",
            own: "afterglow-system",
            default: "default",
        };
        for (header, host, wanted) in [
            (None, None, "default"),
            (Some("team-a"), Some("afterglow-main.team-b.svc"), "team-a"),
            (Some("  "), Some("afterglow-main.team-b.svc"), "team-b"),
            (None, Some("afterglow-main.team-b"), "team-b"),
            (None, Some("afterglow-main.team-b:8000"), "team-b"),
            (
                None,
                Some("afterglow-main.team-b.svc.cluster.local:8001"),
                "team-b",
            ),
            // The schedulers' own Service says nothing about whose models are meant.
            (None, Some("afterglow-main.afterglow-system.svc:8000"), "default"),
            (None, Some("afterglow-other.team-b.svc"), "default"),
            (None, Some("afterglow-main.example.com"), "default"),
            (None, Some("afterglow-main"), "default"),
            (None, Some("127.0.0.1:8000"), "default"),
            (None, Some("[::1]:8000"), "default"),
            (None, Some("team-b.svc"), "default"),
        ] {
            assert_eq!(of(header, host, place), wanted, "{header:?} {host:?}");
        }
    }
}
