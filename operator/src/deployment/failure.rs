//! What a replica's reason means for where it should be.

use afterglow_crds::{ModelReplica, condition};

/// What a replica is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It serves.
    Ready,
    /// It is on its way: fetched, probed, loaded.
    Working,
    /// The model or its source is at fault: the same would happen on any device, so it stays and no other is tried. The
    /// agent tries again by itself.
    SourceFailed,
    /// It failed on this device and may work on another.
    DeviceFailed,
}

/// From the replica's `Ready` condition.
pub(crate) fn state(replica: &ModelReplica) -> State {
    let Some(ready) = replica
        .status
        .as_ref()
        .and_then(|status| condition::find(&status.conditions, condition::READY))
    else {
        return State::Working;
    };
    if ready.status == "True" {
        return State::Ready;
    }
    match ready.reason.as_str() {
        "SourceNotFound" | "SourceUnreachable" | "SourceForbidden" | "DigestMismatch" | "SourceTooLarge"
        | "PackageInvalid" | "ModelInvalid" => State::SourceFailed,
        "ProbeMismatch" | "PlacementRefused" | "OutOfMemory" | "ProbeFailed" | "DeviceUnknown"
        | "DeviceUnhealthy" | "EngineFailed" | "CacheFull" | "CacheUnusable" => State::DeviceFailed,
        // Also reasons of a newer agent: waiting harms nobody.
        _ => State::Working,
    }
}

/// Whether a replica that failed on its device, having served there, may serve there again by itself.
pub(crate) fn may_pass(replica: &ModelReplica) -> bool {
    matches!(
        words(replica).0,
        "EngineFailed" | "DeviceUnhealthy" | "DeviceUnknown"
    )
}

/// Reason and message of the `Ready` condition.
pub(crate) fn words(replica: &ModelReplica) -> (&str, &str) {
    replica
        .status
        .as_ref()
        .and_then(|status| condition::find(&status.conditions, condition::READY))
        .map_or(("Pending", ""), |ready| (&ready.reason, &ready.message))
}
