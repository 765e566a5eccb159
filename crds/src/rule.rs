//! What may be written: the rules that the API server checks (CEL), each with a sentence for whoever breaks it.
//!
//! Bounds of single numbers and lengths stand at the fields, in the schema's own words. `crds/examples/refused.yaml` has an
//! object for each rule that breaks it, and one beside it that does not.

use kube::core::Rule;

fn rule(expression: &str, message: &str) -> Rule {
    Rule::new(expression).message(message)
}

/// Of a field that must stay as it was made.
pub(crate) fn fixed() -> Rule {
    rule(
        "self == oldSelf",
        "cannot be changed; delete the object and make another",
    )
}

/// Of a field that is written once.
pub(crate) fn fixed_once_set() -> Rule {
    rule(
        "oldSelf == '' || self == oldSelf",
        "cannot be changed once it is set; delete the object and make another",
    )
}

/// Of a spec that must stay as it was made.
pub(crate) fn fixed_spec() -> Rule {
    rule(
        "self == oldSelf",
        "spec cannot be changed: a replica is bound to its device and revision; change the ModelDeployment instead",
    )
}

/// Of objects whose name becomes part of other names.
pub(crate) fn short_name() -> Rule {
    rule(
        "size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must be a DNS label of at most 40 characters (lower-case letters, digits, '-'): names of other objects \
         are made from it",
    )
}

/// Of names that become part of other names.
pub(crate) fn label() -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "must be a DNS label: lower-case letters, digits and '-', with a letter or a digit at both ends",
    )
}

/// Of names of Kubernetes objects.
pub(crate) fn object_name() -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
        "must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
    )
}

/// Of names that clients put into paths.
pub(crate) fn model_name() -> Rule {
    rule(
        "self != 'stats' && self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')",
        "must be letters, digits, '_', '-' and '.', not begin with '-' or '.', and not be 'stats', which the protocol uses",
    )
}

/// Of a source.
pub(crate) fn uri_shape() -> Rule {
    rule(
        "self.matches('^(https?://[]A-Za-z0-9.:@%_[-]+/[!-~]+|s3://[a-z0-9][a-z0-9.-]+/[!-~]+|pvc://[a-z0-9][-a-z0-9]*/[!-~]+|file:///[!-~]+)$')",
        "must be https://HOST/PATH, http://HOST/PATH, s3://BUCKET/KEY, pvc://VOLUME/PATH or file:///PATH, without spaces",
    )
}

/// Of a source.
pub(crate) fn uri_extension() -> Rule {
    rule(
        "self.matches('^[^?#]*[.](onnx|tar|tar[.]gz|tgz)$') || self.matches('^https?://[^?#]*[.](onnx|tar|tar[.]gz|tgz)[?]')",
        "must name an ONNX file (.onnx) or a package (.tar, .tar.gz, .tgz); `afterglow pack` writes one",
    )
}

/// Of a source.
pub(crate) fn uri_stays_below() -> Rule {
    rule(
        "!self.matches('/[.][.]?(/|$)')",
        "must not have '.' or '..' in its path",
    )
}

/// Of a source.
pub(crate) fn uri_without_credentials() -> Rule {
    rule(
        "!self.matches('^https?://[^/]*@')",
        "must not carry credentials, which everybody who may read the object would see",
    )
}

/// Of a file's digest.
pub(crate) fn digest() -> Rule {
    rule(
        "self.matches('^sha256:[0-9a-f]{64}$')",
        "must be 'sha256:' and 64 lower-case hexadecimal digits, as `sha256sum` prints them",
    )
}

/// Of how long a request waits for company.
pub(crate) fn short_duration() -> Rule {
    rule(
        "self.matches('^[0-9]{1,9}(us|ms|s)$') && duration(self) <= duration('10s')",
        "must be a whole number and us, ms or s, e.g. 2ms, and at most 10s",
    )
}

/// Of the sizes at which a batch goes.
pub(crate) fn ascending() -> Rule {
    rule(
        "self.isSorted() && self.all(size, self.exists_one(other, other == size))",
        "must be ascending, each size once",
    )
}

/// Of batching.
pub(crate) fn sizes_fit() -> Rule {
    rule(
        "!has(self.preferredSizes) || !has(self.maxBatchSize) || self.preferredSizes.all(size, size <= self.maxBatchSize)",
        "preferredSizes must not be larger than maxBatchSize",
    )
}

/// Of an amount of memory or disk.
pub(crate) fn positive() -> Rule {
    rule(
        "type(self) == int ? self > 0 : isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
        "must be a quantity above 0, e.g. 512Mi or 4Gi",
    )
}

/// Of a rollout.
pub(crate) fn can_move() -> Rule {
    rule(
        "self.maxSurge + self.maxUnavailable > 0",
        "maxSurge and maxUnavailable must not both be 0: no replica could ever be replaced",
    )
}

/// Of a folder on nodes.
pub(crate) fn folder() -> Rule {
    rule(
        "self.matches('^/[^/]') && !self.matches('/[.][.]?(/|$)')",
        "must be an absolute path of a folder, without '.' or '..' in it",
    )
}

/// Of an object store's address.
pub(crate) fn address() -> Rule {
    rule(
        "self.matches('^https?://[]A-Za-z0-9.:_[-]+$')",
        "must be http://HOST:PORT or https://HOST:PORT, without a path or credentials",
    )
}

/// Of a region's name.
pub(crate) fn region() -> Rule {
    rule(
        "self.matches('^[a-z0-9][a-z0-9-]*$')",
        "must be lower-case letters, digits and '-'",
    )
}

/// Of a Service.
pub(crate) fn ports_are_open() -> Rule {
    rule(
        "self.type != 'ClusterIP' || (!has(self.httpNodePort) && !has(self.grpcNodePort))",
        "httpNodePort and grpcNodePort need type NodePort or LoadBalancer",
    )
}

/// Of a Service.
pub(crate) fn ports_differ() -> Rule {
    rule(
        "!has(self.httpNodePort) || !has(self.grpcNodePort) || self.httpNodePort != self.grpcNodePort",
        "httpNodePort and grpcNodePort must differ",
    )
}
