//! A model's configuration as Triton's clients read it.
//!
//! Only what is true is said: clients act on the mere presence of a key (`sequence_batching` alone turns `perf_analyzer`
//! to sequences), so an absent feature has none.

use afterglow_proto::inference as proto;
use afterglow_proto::inference::model_config::SchedulingChoice;
use serde_json::{Value, json};

use crate::api::{Datatype, ModelConfig, Placement, TensorSpec};

const BACKEND: &str = "onnxruntime";
const FILE: &str = "model.onnx";

/// The configuration as JSON.
pub(crate) fn json(config: &ModelConfig) -> Value {
    let ModelConfig {
        name,
        platform,
        max_batch_size,
        inputs,
        outputs,
        dynamic_batching,
        placement,
    } = config;
    let mut object = json!({
        "name": name,
        "platform": platform,
        "backend": BACKEND,
        "max_batch_size": max_batch_size,
        "input": inputs.iter().map(tensor).collect::<Vec<_>>(),
        "output": outputs.iter().map(tensor).collect::<Vec<_>>(),
        "default_model_filename": FILE,
        "parameters": parameters(placement)
            .map(|(key, value)| (key.to_owned(), json!({ "string_value": value })))
            .collect::<serde_json::Map<_, _>>(),
    });
    if let Some(batching) = dynamic_batching {
        object["dynamic_batching"] = json!({
            "preferred_batch_size": batching.preferred_batch_size,
            "max_queue_delay_microseconds": batching.max_queue_delay_microseconds,
        });
    }
    object
}

/// The configuration as a message.
pub(crate) fn message(config: ModelConfig) -> proto::ModelConfig {
    let ModelConfig {
        name,
        platform,
        max_batch_size,
        inputs,
        outputs,
        dynamic_batching,
        placement,
    } = config;
    proto::ModelConfig {
        name,
        platform: platform.to_owned(),
        backend: BACKEND.to_owned(),
        max_batch_size: i32::try_from(max_batch_size).unwrap_or(i32::MAX),
        input: inputs
            .into_iter()
            .map(|input| proto::ModelInput {
                data_type: data_type(input.datatype).into(),
                name: input.name,
                dims: input.shape,
                ..proto::ModelInput::default()
            })
            .collect(),
        output: outputs
            .into_iter()
            .map(|output| proto::ModelOutput {
                data_type: data_type(output.datatype).into(),
                name: output.name,
                dims: output.shape,
                ..proto::ModelOutput::default()
            })
            .collect(),
        default_model_filename: FILE.to_owned(),
        parameters: parameters(&placement)
            .map(|(key, string_value)| (key.to_owned(), proto::ModelParameter { string_value }))
            .collect(),
        scheduling_choice: dynamic_batching.map(|batching| {
            SchedulingChoice::DynamicBatching(proto::ModelDynamicBatching {
                preferred_batch_size: batching
                    .preferred_batch_size
                    .iter()
                    .map(|size| i32::try_from(*size).unwrap_or(i32::MAX))
                    .collect(),
                max_queue_delay_microseconds: batching.max_queue_delay_microseconds,
                ..proto::ModelDynamicBatching::default()
            })
        }),
        ..proto::ModelConfig::default()
    }
}

/// What of the model runs where, in the one place that Triton's configuration leaves to servers.
fn parameters(placement: &Placement) -> impl Iterator<Item = (&'static str, String)> {
    let Placement {
        device,
        device_nodes,
        cpu_nodes,
        partitions,
        cpu_operators,
    } = placement;
    let operators: Vec<String> = cpu_operators
        .iter()
        .map(|(op, count)| format!("{op} ×{count}"))
        .collect();
    [
        ("afterglow.cpu_nodes", cpu_nodes.to_string()),
        ("afterglow.cpu_operators", operators.join(", ")),
        ("afterglow.device", device.clone()),
        ("afterglow.device_nodes", device_nodes.to_string()),
        ("afterglow.partitions", partitions.to_string()),
    ]
    .into_iter()
}

fn tensor(spec: &TensorSpec) -> Value {
    json!({"name": spec.name, "data_type": data_type(spec.datatype).as_str_name(), "dims": spec.shape})
}

fn data_type(datatype: Datatype) -> proto::DataType {
    match datatype {
        Datatype::Bool => proto::DataType::TypeBool,
        Datatype::Uint8 => proto::DataType::TypeUint8,
        Datatype::Uint16 => proto::DataType::TypeUint16,
        Datatype::Uint32 => proto::DataType::TypeUint32,
        Datatype::Uint64 => proto::DataType::TypeUint64,
        Datatype::Int8 => proto::DataType::TypeInt8,
        Datatype::Int16 => proto::DataType::TypeInt16,
        Datatype::Int32 => proto::DataType::TypeInt32,
        Datatype::Int64 => proto::DataType::TypeInt64,
        Datatype::Fp16 => proto::DataType::TypeFp16,
        Datatype::Fp32 => proto::DataType::TypeFp32,
        Datatype::Fp64 => proto::DataType::TypeFp64,
        Datatype::Bf16 => proto::DataType::TypeBf16,
        Datatype::Bytes => proto::DataType::TypeString,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DynamicBatching;

    fn config(dynamic_batching: Option<DynamicBatching>) -> ModelConfig {
        let tensor = |name: &str, datatype| TensorSpec {
            name: name.into(),
            datatype,
            shape: vec![-1, 3],
        };
        ModelConfig {
            name: "m".into(),
            platform: "onnxruntime_onnx",
            max_batch_size: 8,
            inputs: vec![tensor("x", Datatype::Bytes)],
            outputs: vec![tensor("y", Datatype::Fp32)],
            dynamic_batching,
            placement: Placement {
                device: "opencl:0".into(),
                device_nodes: 7,
                cpu_nodes: 2,
                partitions: 1,
                cpu_operators: vec![("NonZero".into(), 2)],
            },
        }
    }

    #[test]
    fn the_share_on_the_cpu_is_told_in_both_forms() {
        let json = json(&config(None));
        assert_eq!(
            json["parameters"]["afterglow.cpu_operators"]["string_value"],
            "NonZero ×2"
        );
        let message = message(config(None));
        assert_eq!(message.parameters["afterglow.cpu_nodes"].string_value, "2");
    }

    #[test]
    fn no_key_stands_for_an_absent_feature() {
        let json = json(&config(None));
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        let wanted = [
            "backend",
            "default_model_filename",
            "input",
            "max_batch_size",
            "name",
            "output",
            "parameters",
            "platform",
        ];
        assert_eq!(keys, wanted);
        assert_eq!(
            json["input"][0],
            json!({"name": "x", "data_type": "TYPE_STRING", "dims": [-1, 3]})
        );
    }

    #[test]
    fn json_and_message_say_the_same() {
        let batching = DynamicBatching {
            preferred_batch_size: vec![4, 8],
            max_queue_delay_microseconds: 100,
        };
        let json = json(&config(Some(batching.clone())));
        let message = message(config(Some(batching)));
        assert_eq!(
            json["dynamic_batching"],
            json!({"preferred_batch_size": [4, 8], "max_queue_delay_microseconds": 100})
        );
        let Some(SchedulingChoice::DynamicBatching(batching)) = &message.scheduling_choice else {
            panic!("dynamic batching");
        };
        assert_eq!(batching.preferred_batch_size, [4, 8]);
        assert_eq!(message.max_batch_size, 8);
        assert_eq!(message.output[0].data_type(), proto::DataType::TypeFp32);
    }
}
