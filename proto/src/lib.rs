//! What goes over wires: messages, clients and server skeletons. No behaviour lives here.
//!
//! | module | between | source |
//! |---|---|---|
//! | [`inference`] | clients, schedulers, engines: Open Inference Protocol v2 with Triton's extensions | `proto/inference/` |
//! | [`load`] | engines, agents, schedulers: how busy models are | `proto/afterglow/engine/v1/load.proto` |
//! | [`registration`] | kubelet and agent: who the plugin is | `proto/kubelet/pluginregistration.proto` |
//! | [`dra`] | kubelet and agent: devices for claims | `proto/kubelet/dra.proto` |
//!
//! `cargo xtask generate` writes the Rust.
#![forbid(unsafe_code)]

/// A module of generated code.
macro_rules! generated {
    ($(#[doc = $doc:literal])* $name:ident, $file:literal) => {
        $(#[doc = $doc])*
        #[allow(
            missing_docs,
            unreachable_pub,
            clippy::all,
            clippy::pedantic,
            reason = "generated: its documentation is the .proto file's, its style the generator's"
        )]
        pub mod $name {
            include!(concat!("generated/", $file));
        }
    };
}

generated!(
    /// Package `inference`: service `GRPCInferenceService`.
    inference,
    "inference.rs"
);
generated!(
    /// Package `afterglow.engine.v1`: service `Load`.
    load,
    "afterglow.engine.v1.rs"
);
generated!(
    /// Package `pluginregistration`: service `Registration`, which the kubelet calls.
    registration,
    "pluginregistration.rs"
);
generated!(
    /// Package `k8s.io.kubelet.pkg.apis.dra.v1`: service `DRAPlugin`, which the kubelet calls.
    dra,
    "k8s.io.kubelet.pkg.apis.dra.v1.rs"
);
