//! A profile for people.

use std::fmt::Write as _;

use super::{ModelProfile, Verdict};

/// The profile as lines of text.
pub(crate) fn table(profile: &ModelProfile) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<17} {value}");
    };
    line("model", profile.model.clone());
    line("digest", profile.digest.clone());
    line("device", profile.device.clone());
    for (key, value) in &profile.device_details {
        line(&format!("  {key}"), value.clone());
    }
    line(
        "runtime",
        format!("ONNX Runtime {}, engine {}", profile.onnxruntime, profile.engine),
    );
    let placement = &profile.placement;
    let nodes = match profile.device.as_str() {
        "cpu" => format!("{} on the CPU", placement.cpu_nodes),
        _ => format!(
            "{} on the device in {} partition(s), {} on the CPU",
            placement.device_nodes, placement.partitions, placement.cpu_nodes
        ),
    };
    line("nodes", nodes);
    if !placement.cpu_operators.is_empty() && profile.device != "cpu" {
        let operators: Vec<String> = placement
            .cpu_operators
            .iter()
            .map(|(o, n)| format!("{o} ×{n}"))
            .collect();
        line("  on the CPU", operators.join(", "));
    }
    line(
        "load",
        format!(
            "{:.3} s (CPU provider {:.3} s)",
            profile.load_seconds, profile.reference_load_seconds
        ),
    );
    let device = profile
        .device_bytes
        .map_or(String::new(), |bytes| format!(", device {}", mebibytes(bytes)));
    line(
        "memory",
        format!("host {}{device}", mebibytes(profile.host_bytes)),
    );
    line(
        "batch",
        match (profile.max_batch_size, profile.not_batched.as_str()) {
            (0, "") => "requests run alone".to_owned(),
            (0, why) => format!("requests run alone: {why}"),
            (most, _) => format!("up to {most} rows"),
        },
    );
    for c in &profile.comparisons {
        let verdict = match (c.not_deterministic, c.beyond) {
            (true, _) => "not deterministic, not compared".to_owned(),
            (false, 0) => "ok".to_owned(),
            (false, n) => format!("{n} elements beyond the tolerance"),
        };
        line(
            "difference",
            format!(
                "batch {:<4} {:<24} max abs {:.2e}  max rel {:.2e}  {verdict}",
                c.batch, c.output, c.max_absolute, c.max_relative
            ),
        );
    }
    for l in &profile.latencies {
        let per_second = if l.p50_milliseconds > 0.0 {
            l.batch as f64 * 1e3 / l.p50_milliseconds
        } else {
            0.0
        };
        line(
            "latency",
            format!(
                "batch {:<4} p50 {:>10.3} ms  {per_second:>10.1} rows/s  ({} runs)",
                l.batch, l.p50_milliseconds, l.runs
            ),
        );
    }
    line(
        "verdict",
        match profile.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed => format!("failed: {}", profile.reason),
        },
    );
    text
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
