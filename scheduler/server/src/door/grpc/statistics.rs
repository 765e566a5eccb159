//! Statistics of a model: those of all its replicas, added up by version.

use std::collections::BTreeMap;
use std::sync::Arc;

use afterglow_proto::inference as proto;
use futures::future::join_all;
use serde_json::{Value, json};
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;

use crate::fleet::Replica;
use crate::refusal::{Kind, Refusal};
use crate::send::{Outcome, Scheduler};
use crate::snapshot::{Call, ready};

type Codec = ProstCodec<proto::ModelStatisticsRequest, proto::ModelStatisticsResponse>;

/// Statistics of the call's model; with no model, of all models of the namespace. Replicas that do not answer are left out;
/// if none does, that is said.
pub(crate) async fn of(scheduler: &Scheduler, call: &Call) -> Result<Vec<proto::ModelStatistics>, Refusal> {
    let fleet = scheduler.view();
    let asked: Vec<(String, Arc<Replica>)> = if call.model.is_empty() {
        fleet
            .of(&call.namespace)
            .flat_map(|(name, model)| model.ready.iter().map(|replica| (name.clone(), replica.clone())))
            .collect()
    } else {
        let replicas = ready(&fleet, call)?;
        replicas
            .into_iter()
            .map(|replica| (call.model.clone(), replica))
            .collect()
    };
    let answers = asked.iter().map(async |(name, replica)| {
        let answer = one(scheduler, call, replica).await?;
        Some(answer.into_iter().map(|statistics| proto::ModelStatistics {
            name: name.clone(),
            version: replica.revision.to_string(),
            ..statistics
        }))
    });
    let answers: Vec<_> = join_all(answers).await.into_iter().flatten().collect();
    if answers.is_empty() && !asked.is_empty() {
        return Err(Refusal::new(
            Kind::Unavailable,
            "no replica said what its statistics are",
        ));
    }
    Ok(merge(answers.into_iter().flatten()))
}

async fn one(scheduler: &Scheduler, call: &Call, replica: &Replica) -> Option<Vec<proto::ModelStatistics>> {
    let question = proto::ModelStatisticsRequest {
        name: replica.engine_model.clone(),
        version: String::new(),
    };
    let metadata = MetadataMap::new();
    let asking = scheduler.links.call(
        replica,
        "/inference.GRPCInferenceService/ModelStatistics",
        question,
        Codec::default(),
        &metadata,
        call.deadline,
    );
    let deadline = tokio::time::Instant::from_std(call.deadline);
    match tokio::time::timeout_at(deadline, asking).await {
        Ok(Outcome::Answered(Ok(answer))) => Some(answer.into_inner().model_stats),
        _ => None,
    }
}

fn merge(all: impl Iterator<Item = proto::ModelStatistics>) -> Vec<proto::ModelStatistics> {
    let mut merged: BTreeMap<(String, String), proto::ModelStatistics> = BTreeMap::new();
    for statistics in all {
        let key = (statistics.name.clone(), statistics.version.clone());
        match merged.get_mut(&key) {
            None => drop(merged.insert(key, statistics)),
            Some(sum) => add(sum, statistics),
        }
    }
    merged.into_values().collect()
}

fn add(sum: &mut proto::ModelStatistics, more: proto::ModelStatistics) {
    sum.last_inference = sum.last_inference.max(more.last_inference);
    sum.inference_count += more.inference_count;
    sum.execution_count += more.execution_count;
    let into = sum.inference_stats.get_or_insert_default();
    let from = more.inference_stats.unwrap_or_default();
    for (into, from) in [
        (&mut into.success, from.success),
        (&mut into.fail, from.fail),
        (&mut into.queue, from.queue),
        (&mut into.compute_input, from.compute_input),
        (&mut into.compute_infer, from.compute_infer),
        (&mut into.compute_output, from.compute_output),
        (&mut into.cache_hit, from.cache_hit),
        (&mut into.cache_miss, from.cache_miss),
    ] {
        add_duration(into, from);
    }
    for batch in more.batch_stats {
        match sum
            .batch_stats
            .iter_mut()
            .find(|known| known.batch_size == batch.batch_size)
        {
            None => sum.batch_stats.push(batch),
            Some(known) => {
                add_duration(&mut known.compute_input, batch.compute_input);
                add_duration(&mut known.compute_infer, batch.compute_infer);
                add_duration(&mut known.compute_output, batch.compute_output);
            }
        }
    }
    sum.batch_stats.sort_by_key(|batch| batch.batch_size);
    for usage in more.memory_usage {
        match sum
            .memory_usage
            .iter_mut()
            .find(|known| known.r#type == usage.r#type && known.id == usage.id)
        {
            None => sum.memory_usage.push(usage),
            Some(known) => known.byte_size += usage.byte_size,
        }
    }
}

fn add_duration(into: &mut Option<proto::StatisticDuration>, from: Option<proto::StatisticDuration>) {
    let (a, b) = (into.unwrap_or_default(), from.unwrap_or_default());
    *into = Some(proto::StatisticDuration {
        count: a.count + b.count,
        ns: a.ns + b.ns,
    });
}

/// The same for REST. All eight members of `inference_stats` are there, always: clients read them unasked.
pub(crate) fn json(statistics: &[proto::ModelStatistics]) -> Value {
    let duration = |duration: Option<proto::StatisticDuration>| {
        let proto::StatisticDuration { count, ns } = duration.unwrap_or_default();
        json!({"count": count, "ns": ns})
    };
    let model = |statistics: &proto::ModelStatistics| {
        let inference = statistics.inference_stats.unwrap_or_default();
        json!({
            "name": statistics.name,
            "version": statistics.version,
            "last_inference": statistics.last_inference,
            "inference_count": statistics.inference_count,
            "execution_count": statistics.execution_count,
            "inference_stats": {
                "success": duration(inference.success),
                "fail": duration(inference.fail),
                "queue": duration(inference.queue),
                "compute_input": duration(inference.compute_input),
                "compute_infer": duration(inference.compute_infer),
                "compute_output": duration(inference.compute_output),
                "cache_hit": duration(inference.cache_hit),
                "cache_miss": duration(inference.cache_miss),
            },
            "response_stats": {},
            "batch_stats": statistics.batch_stats.iter().map(|batch| json!({
                "batch_size": batch.batch_size,
                "compute_input": duration(batch.compute_input),
                "compute_infer": duration(batch.compute_infer),
                "compute_output": duration(batch.compute_output),
            })).collect::<Vec<_>>(),
            "memory_usage": statistics.memory_usage.iter().map(|usage| json!({
                "type": usage.r#type, "id": usage.id, "byte_size": usage.byte_size,
            })).collect::<Vec<_>>(),
        })
    };
    json!({"model_stats": statistics.iter().map(model).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(version: &str, count: u64, batch_size: u64) -> proto::ModelStatistics {
        let duration = Some(proto::StatisticDuration {
            count,
            ns: 10 * count,
        });
        proto::ModelStatistics {
            name: "m".into(),
            version: version.into(),
            last_inference: count,
            inference_count: count,
            execution_count: count,
            inference_stats: Some(proto::InferStatistics {
                success: duration,
                ..Default::default()
            }),
            batch_stats: vec![proto::InferBatchStatistics {
                batch_size,
                compute_infer: duration,
                ..Default::default()
            }],
            memory_usage: vec![proto::MemoryUsage {
                r#type: "GPU".into(),
                id: 0,
                byte_size: 100,
            }],
            ..Default::default()
        }
    }

    #[test]
    fn replicas_of_a_version_are_added_up_and_versions_are_kept_apart() {
        let all = [
            statistics("1", 3, 1),
            statistics("1", 4, 8),
            statistics("2", 5, 1),
        ];
        let merged = merge(all.into_iter());
        assert_eq!(merged.len(), 2);
        let json = json(&merged);
        let first = &json["model_stats"][0];
        assert_eq!(first["inference_count"], 7);
        assert_eq!(first["last_inference"], 4);
        assert_eq!(first["inference_stats"]["success"], json!({"count": 7, "ns": 70}));
        assert_eq!(
            first["inference_stats"]["cache_miss"],
            json!({"count": 0, "ns": 0})
        );
        assert_eq!(first["batch_stats"].as_array().unwrap().len(), 2);
        assert_eq!(first["memory_usage"][0]["byte_size"], 200);
        assert_eq!(json["model_stats"][1]["inference_count"], 5);
    }
}
