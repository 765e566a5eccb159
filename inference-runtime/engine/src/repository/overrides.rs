//! Settings that come with a load request (repository extension, parameter `config`).
//!
//! The parameter holds Triton's `ModelConfig` as JSON. The part that this engine honours changes the settings for as
//! long as the model stays loaded; every other key is refused, because its sender believes it works.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Settings;
use super::settings::VersionPolicy;

/// What is honoured, for the error.
const HONOURED: &str = "max_batch_size, dynamic_batching {preferred_batch_size, max_queue_delay_microseconds, \
                        default_queue_policy {max_queue_size}}, version_policy {latest {num_versions}, all, specific \
                        {versions}}; name, backend and platform are accepted where they say what is so anyway";

/// `settings` as `config` changes them.
pub(crate) fn apply(name: &str, settings: &Settings, config: &Value) -> Result<Settings, String> {
    let mut settings = settings.clone();
    for (key, value) in object("config", config)? {
        match key.as_str() {
            "name" if value == name => {}
            "backend" if value == "onnxruntime" => {}
            "platform" if value == "onnxruntime_onnx" => {}
            "name" | "backend" | "platform" => {
                return Err(format!("config.{key} is {value}, which this model is not"));
            }
            "max_batch_size" => settings.batching.max_batch_size = Some(number("max_batch_size", value)?),
            "dynamic_batching" => batching(&mut settings, object("dynamic_batching", value)?)?,
            "version_policy" => settings.version_policy = policy(object("version_policy", value)?)?,
            other => return Err(refusal(other)),
        }
    }
    settings.check().map_err(|e| format!("config: {e}"))?;
    Ok(settings)
}

fn batching(settings: &mut Settings, object: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in object {
        match key.as_str() {
            "preferred_batch_size" => settings.batching.preferred_sizes = numbers(key, value)?,
            "max_queue_delay_microseconds" => {
                settings.batching.max_delay = Duration::from_micros(number(key, value)? as u64);
            }
            "default_queue_policy" => {
                for (key, value) in self::object(key, value)? {
                    match key.as_str() {
                        "max_queue_size" => settings.batching.max_queue = number(key, value)?,
                        other => return Err(refusal(other)),
                    }
                }
            }
            other => return Err(refusal(other)),
        }
    }
    Ok(())
}

fn policy(object: &Map<String, Value>) -> Result<VersionPolicy, String> {
    let mut entries = object.iter();
    match (entries.next(), entries.next()) {
        (Some((key, value)), None) => match key.as_str() {
            "all" => Ok(VersionPolicy::All),
            "latest" => Ok(VersionPolicy::Latest(match value.get("num_versions") {
                Some(n) => number("num_versions", n)?,
                None => 1,
            })),
            "specific" => Ok(VersionPolicy::Specific(
                numbers("versions", value.get("versions").unwrap_or(&Value::Null))?
                    .into_iter()
                    .map(|v| v as u64)
                    .collect(),
            )),
            other => Err(refusal(other)),
        },
        _ => Err("config.version_policy holds one of latest, all and specific".to_owned()),
    }
}

fn refusal(key: &str) -> String {
    format!("config: `{key}` is not honoured by this engine; honoured are {HONOURED}")
}

fn object<'a>(key: &str, value: &'a Value) -> Result<&'a Map<String, Value>, String> {
    value
        .as_object()
        .ok_or_else(|| format!("config: `{key}` must be an object"))
}

/// Triton's JSON writes 64-bit integers as strings.
fn number(key: &str, value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(|| format!("config: `{key}` must be a whole number, it is {value}"))
}

fn numbers(key: &str, value: &Value) -> Result<Vec<usize>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("config: `{key}` must be a list of whole numbers"))?
        .iter()
        .map(|value| number(key, value))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_honoured_changes_the_settings() {
        let config = json!({
            "name": "m", "backend": "onnxruntime", "max_batch_size": 16,
            "dynamic_batching": {
                "preferred_batch_size": [4, 8], "max_queue_delay_microseconds": "500",
                "default_queue_policy": { "max_queue_size": 9 }
            },
            "version_policy": { "specific": { "versions": ["1", 3] } }
        });
        let settings = apply("m", &Settings::default(), &config).unwrap();
        assert_eq!(settings.batching.max_batch_size, Some(16));
        assert_eq!(settings.batching.preferred_sizes, [4, 8]);
        assert_eq!(settings.batching.max_delay, Duration::from_micros(500));
        assert_eq!(settings.batching.max_queue, 9);
        assert_eq!(settings.version_policy, VersionPolicy::Specific(vec![1, 3]));
        assert_eq!(apply("m", &settings, &json!({})).unwrap(), settings);
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        for (config, expected) in [
            (json!({"instance_group": [{"count": 2}]}), "instance_group"),
            (
                json!({"dynamic_batching": {"preserve_ordering": true}}),
                "preserve_ordering",
            ),
            (json!({"name": "other"}), "name"),
            (json!({"backend": "tensorrt"}), "backend"),
            (json!({"max_batch_size": -1}), "max_batch_size"),
            (json!({"max_batch_size": 5000}), "maxBatchSize"),
            (
                json!({"version_policy": {"latest": {}, "all": {}}}),
                "version_policy",
            ),
            (json!([]), "object"),
        ] {
            let error = apply("m", &Settings::default(), &config).unwrap_err();
            assert!(error.contains(expected), "{config}: {error}");
        }
    }
}
