//! Statistics as Triton's clients read them: all eight members of `inference_stats` are there, always.

use afterglow_proto::inference as proto;
use serde_json::{Value, json};

use crate::api::{BatchStatistics, Duration, InferStatistics, ModelStatistics};

/// `{"model_stats": […]}`.
pub(crate) fn json(statistics: &[ModelStatistics]) -> Value {
    json!({"model_stats": statistics.iter().map(model_json).collect::<Vec<_>>()})
}

fn model_json(statistics: &ModelStatistics) -> Value {
    let ModelStatistics {
        name,
        version,
        last_inference,
        inference_count,
        execution_count,
        inference,
        batches,
        device_bytes,
        host_bytes,
    } = statistics;
    let InferStatistics {
        success,
        fail,
        queue,
        compute_input,
        compute_infer,
        compute_output,
    } = inference;
    json!({
        "name": name,
        "version": version,
        "last_inference": last_inference,
        "inference_count": inference_count,
        "execution_count": execution_count,
        "inference_stats": {
            "success": duration_json(*success),
            "fail": duration_json(*fail),
            "queue": duration_json(*queue),
            "compute_input": duration_json(*compute_input),
            "compute_infer": duration_json(*compute_infer),
            "compute_output": duration_json(*compute_output),
            "cache_hit": duration_json(Duration::default()),
            "cache_miss": duration_json(Duration::default()),
        },
        "response_stats": {},
        "batch_stats": batches.iter().map(|batch| json!({
            "batch_size": batch.batch_size,
            "compute_input": duration_json(batch.compute_input),
            "compute_infer": duration_json(batch.compute_infer),
            "compute_output": duration_json(batch.compute_output),
        })).collect::<Vec<_>>(),
        "memory_usage": memory(*host_bytes, *device_bytes).map(|(kind, bytes)| {
            json!({"type": kind, "id": 0, "byte_size": bytes})
        }).collect::<Vec<_>>(),
    })
}

fn duration_json(duration: Duration) -> Value {
    json!({"count": duration.count, "ns": duration.nanoseconds})
}

/// The same as a message.
pub(crate) fn message(statistics: Vec<ModelStatistics>) -> proto::ModelStatisticsResponse {
    proto::ModelStatisticsResponse {
        model_stats: statistics.into_iter().map(model_message).collect(),
    }
}

fn model_message(statistics: ModelStatistics) -> proto::ModelStatistics {
    let ModelStatistics {
        name,
        version,
        last_inference,
        inference_count,
        execution_count,
        inference,
        batches,
        device_bytes,
        host_bytes,
    } = statistics;
    let InferStatistics {
        success,
        fail,
        queue,
        compute_input,
        compute_infer,
        compute_output,
    } = inference;
    proto::ModelStatistics {
        name,
        version,
        last_inference,
        inference_count,
        execution_count,
        inference_stats: Some(proto::InferStatistics {
            success: duration_message(success),
            fail: duration_message(fail),
            queue: duration_message(queue),
            compute_input: duration_message(compute_input),
            compute_infer: duration_message(compute_infer),
            compute_output: duration_message(compute_output),
            cache_hit: duration_message(Duration::default()),
            cache_miss: duration_message(Duration::default()),
        }),
        batch_stats: batches
            .into_iter()
            .map(
                |BatchStatistics {
                     batch_size,
                     compute_input,
                     compute_infer,
                     compute_output,
                 }| {
                    proto::InferBatchStatistics {
                        batch_size,
                        compute_input: duration_message(compute_input),
                        compute_infer: duration_message(compute_infer),
                        compute_output: duration_message(compute_output),
                    }
                },
            )
            .collect(),
        memory_usage: memory(host_bytes, device_bytes)
            .map(|(kind, byte_size)| proto::MemoryUsage {
                r#type: kind.to_owned(),
                id: 0,
                byte_size,
            })
            .collect(),
        response_stats: std::collections::BTreeMap::new(),
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "every message field of a message is optional"
)]
fn duration_message(duration: Duration) -> Option<proto::StatisticDuration> {
    Some(proto::StatisticDuration {
        count: duration.count,
        ns: duration.nanoseconds,
    })
}

/// Kinds of memory in use; one process has one device, so every id is 0.
fn memory(host: u64, device: u64) -> impl Iterator<Item = (&'static str, u64)> {
    [("CPU", host), ("GPU", device)]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_never_ran_has_every_member() {
        let statistics = ModelStatistics {
            name: "m".into(),
            version: "1".into(),
            ..ModelStatistics::default()
        };
        let json = json(std::slice::from_ref(&statistics));
        let inference = json["model_stats"][0]["inference_stats"].as_object().unwrap();
        assert_eq!(inference.len(), 8);
        assert!(
            inference
                .values()
                .all(|duration| duration == &json!({"count": 0, "ns": 0}))
        );
        assert_eq!(json["model_stats"][0]["version"], "1");
        let message = message(vec![statistics]);
        let inference = message.model_stats[0].inference_stats.unwrap();
        assert!(inference.cache_hit.is_some() && inference.compute_output.is_some());
    }

    #[test]
    fn memory_in_use_is_listed_by_kind() {
        let statistics = ModelStatistics {
            device_bytes: 7,
            ..ModelStatistics::default()
        };
        let json = json(&[statistics]);
        assert_eq!(
            json["model_stats"][0]["memory_usage"],
            json!([{"type": "GPU", "id": 0, "byte_size": 7}])
        );
    }
}
