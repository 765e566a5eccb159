//! A request to the API server, read as what it asks for.

use serde_json::Value;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object, or what the API server has.
    Get,
    /// All objects of a kind.
    List,
    /// And what becomes of them.
    Watch,
    /// A new object.
    Create,
    /// The whole of an object.
    Update,
    /// A part of an object.
    Patch,
    /// A server-side apply.
    Apply,
    /// That it goes.
    Delete,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What is asked for.
    pub verb: Verb,
    /// The kind, in the plural of its path: `modelreplicas`.
    pub resource: String,
    /// Where the object lies, if its kind lies anywhere.
    pub namespace: Option<String>,
    /// Its name, if one is meant.
    pub name: Option<String>,
    /// `status`, say.
    pub part: Option<String>,
    /// Of an Event: what it is about, and its reason.
    pub about: Option<(String, String)>,
    /// Of a list: it may be an old one, from the API server's memory.
    pub may_be_old: bool,
    /// It names this world; what operators do for one another's is no matter here.
    pub is_ours: bool,
    /// Of a watch: the event that it brings.
    pub event: Option<String>,
}

impl Call {
    pub(super) fn read(method: &str, path: &str, query: &str, content: &str, body: &[u8]) -> Self {
        let mut words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        // `api/v1`, or `apis/GROUP/VERSION`
        let head = if words.first() == Some(&"api") { 2 } else { 3 };
        let mut words = words.split_off(head.min(words.len())).into_iter();
        let mut resource = words.next().unwrap_or_default().to_owned();
        let mut namespace = None;
        let mut name = words.next().map(str::to_owned);
        let mut part = words.next().map(str::to_owned);
        if resource == "namespaces"
            && let Some(inner) = part.take_if(|part| part != "status" && part != "finalize")
        {
            namespace = name;
            resource = inner;
            name = words.next().map(str::to_owned);
            part = words.next().map(str::to_owned);
        }
        let verb = match method {
            "POST" => Verb::Create,
            "PUT" => Verb::Update,
            "DELETE" => Verb::Delete,
            "PATCH" if content.starts_with("application/apply-patch") => Verb::Apply,
            "PATCH" => Verb::Patch,
            _ if query.contains("watch=true") => Verb::Watch,
            _ if name.is_none() && !resource.is_empty() => Verb::List,
            _ => Verb::Get,
        };
        let mut about = None;
        if verb == Verb::Create {
            let body: Value = serde_json::from_slice(body).unwrap_or_default();
            let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            name = name.or_else(|| text("/metadata/name"));
            about = text("/regarding/name").zip(text("/reason"));
        }
        Self {
            verb,
            resource,
            namespace,
            name,
            part,
            about,
            may_be_old: verb == Verb::List && query.contains("resourceVersion="),
            is_ours: false,
            event: None,
        }
    }

    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }

    /// Whether a name in it holds this word.
    pub(super) fn names(&self, word: &str) -> bool {
        let about = self.about.as_ref().map(|(name, _)| name);
        let mut names = [self.namespace.as_ref(), self.name.as_ref(), about]
            .into_iter()
            .flatten();
        names.any(|name| name.contains(word))
    }

    /// Whether it is a write about something in this world that somebody wants: the renewal of a lease is the operator's own
    /// affair.
    pub fn is_work(&self) -> bool {
        self.is_write() && self.resource != "leases" && self.is_ours
    }

    /// Whether it is an event of a watch that tells of something with this in its text.
    pub fn tells_of(&self, text: &str) -> bool {
        self.event.as_ref().is_some_and(|event| event.contains(text))
    }

    /// Whether it is about this kind.
    pub fn is_of(&self, resource: &str) -> bool {
        self.resource == resource
    }

    /// `modelreplicas NAMESPACE/NAME`.
    pub fn object(&self) -> String {
        let name = self.name.as_deref().unwrap_or("*");
        let part = self
            .part
            .as_deref()
            .map_or_else(String::new, |part| format!("/{part}"));
        match &self.namespace {
            Some(namespace) => format!("{}{part} {namespace}/{name}", self.resource),
            None => format!("{}{part} {name}", self.resource),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, path: &str, query: &str) -> (Verb, String) {
        let call = Call::read(
            method,
            path,
            query,
            "application/json",
            b"{\"metadata\":{\"name\":\"made\"}}",
        );
        (call.verb, call.object())
    }

    #[test]
    fn paths_are_read_as_the_api_server_reads_them() {
        for (method, path, query, verb, object) in [
            (
                "GET",
                "/api/v1/namespaces",
                "watch=true",
                Verb::Watch,
                "namespaces *",
            ),
            ("GET", "/api/v1/namespaces/team", "", Verb::Get, "namespaces team"),
            (
                "GET",
                "/api/v1/namespaces/team/services",
                "limit=500",
                Verb::List,
                "services team/*",
            ),
            (
                "DELETE",
                "/apis/afterglow.dev/v1alpha1/gpunodes/a",
                "",
                Verb::Delete,
                "gpunodes a",
            ),
            (
                "POST",
                "/apis/afterglow.dev/v1alpha1/namespaces/t/modelreplicas",
                "",
                Verb::Create,
                "modelreplicas t/made",
            ),
            (
                "PATCH",
                "/apis/afterglow.dev/v1alpha1/namespaces/t/modeldeployments/m/status",
                "",
                Verb::Patch,
                "modeldeployments/status t/m",
            ),
            ("GET", "/apis/resource.k8s.io/v1", "", Verb::Get, " *"),
        ] {
            assert_eq!(
                read(method, path, query),
                (verb, object.to_owned()),
                "{method} {path}"
            );
        }
    }
}
