//! The model is tried on the device before an engine may load it, in a process of its own.

use std::path::Path;

use afterglow_crds::gpu_node::{Device, DeviceType};
use afterglow_crds::model_replica::{Latency, Profile};
use afterglow_crds::quantity::quantity;
use serde::Deserialize;

use super::Options;
use crate::fetch::{Failure, Retry};
use crate::process::{self, Failed, Process};

/// What of the engine's profile matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    reason_code: String,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    load_seconds: f64,
    #[serde(default)]
    host_bytes: u64,
    #[serde(default)]
    device_bytes: Option<u64>,
    #[serde(default)]
    latencies: Vec<Measured>,
}

#[derive(Debug, Default, Deserialize)]
struct Placement {
    device_nodes: i64,
    cpu_nodes: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    batch: i32,
    p50_milliseconds: f64,
}

/// Probes the model in `folder` (a model's folder with one version in it); a profile that the engine's cache has is as
/// good. The process has what it `holds` until it has really ended.
pub(super) async fn probe(
    options: &Options,
    folder: &Path,
    device: &Device,
    holds: impl Send + 'static,
) -> Result<Profile, Failure> {
    let failed = |message: String| Failure::new("ProbeFailed", Retry::Slowly, message);
    let selector = super::engine::selector(device).map_err(failed)?;
    let mut command = super::engine::command(options);
    command
        .arg("probe")
        .arg(folder)
        .args(["--device", &selector, "--output", "json", "--cached"])
        .args(["--seconds", &options.probe_seconds.to_string()]);
    let limit = options.probe_limit;
    let output = Process::run(command, limit, holds).await.map_err(|why| match why {
        Failed::Start(error) => failed(format!(
            "the engine `{}` cannot be started: {error}",
            options.engine.display()
        )),
        Failed::Late => failed(format!(
            "trying the model on {} took more than {limit:?} and was stopped: the model stalls ONNX Runtime",
            device.name
        )),
    })?;
    match serde_json::from_slice::<Answer>(&output.stdout) {
        Ok(answer) => judge(answer, device.type_),
        Err(_) => Err(failed(format!(
            "the probe on {} ended without an answer ({}): {}",
            device.name,
            output.status,
            process::last_words(&output.stderr).unwrap_or("it said nothing")
        ))),
    }
}

fn judge(answer: Answer, device: DeviceType) -> Result<Profile, Failure> {
    if answer.verdict != "passed" {
        let (reason, retry) = match answer.reason_code.as_str() {
            "invalid" => ("ModelInvalid", Retry::Never),
            "placement" => ("PlacementRefused", Retry::Never),
            "mismatch" => ("ProbeMismatch", Retry::Never),
            "outOfMemory" => ("OutOfMemory", Retry::Slowly),
            _ => ("ProbeFailed", Retry::Slowly),
        };
        return Err(Failure::new(reason, retry, answer.reason));
    }
    let memory = match device {
        DeviceType::Gpu => answer.device_bytes.unwrap_or(answer.host_bytes),
        DeviceType::Cpu => answer.host_bytes,
    };
    Ok(Profile {
        memory: quantity(memory),
        load_milliseconds: (answer.load_seconds * 1e3).round() as i64,
        device_nodes: answer.placement.device_nodes,
        cpu_nodes: answer.placement.cpu_nodes,
        latencies: answer
            .latencies
            .iter()
            .map(|latency| Latency {
                batch: latency.batch,
                p50_microseconds: (latency.p50_milliseconds * 1e3).round() as i64,
            })
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(json: &str) -> Answer {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_cannot_change_is_not_tried_again() {
        for (code, reason, retry) in [
            ("invalid", "ModelInvalid", Retry::Never),
            ("placement", "PlacementRefused", Retry::Never),
            ("mismatch", "ProbeMismatch", Retry::Never),
            ("outOfMemory", "OutOfMemory", Retry::Slowly),
            ("failed", "ProbeFailed", Retry::Slowly),
        ] {
            let json = format!(r#"{{"verdict": "failed", "reason": "because", "reasonCode": "{code}"}}"#);
            let failure = judge(answer(&json), DeviceType::Gpu).unwrap_err();
            assert_eq!(
                (failure.reason, failure.retry, failure.message.as_str()),
                (reason, retry, "because")
            );
        }
    }

    #[test]
    fn a_card_counts_its_own_memory_and_a_processor_the_hosts() {
        let json = r#"{"verdict": "passed", "placement": {"device_nodes": 7, "cpu_nodes": 2}, "loadSeconds": 0.25,
            "hostBytes": 1024, "deviceBytes": 4096, "latencies": [{"batch": 8, "p50Milliseconds": 1.5, "runs": 3}]}"#;
        let card = judge(answer(json), DeviceType::Gpu).unwrap();
        assert_eq!(
            (
                card.memory.0.as_str(),
                card.device_nodes,
                card.cpu_nodes,
                card.load_milliseconds
            ),
            ("4Ki", 7, 2, 250)
        );
        assert_eq!(card.latencies[0].p50_microseconds, 1500);
        assert_eq!(judge(answer(json), DeviceType::Cpu).unwrap().memory.0, "1Ki");
    }
}
