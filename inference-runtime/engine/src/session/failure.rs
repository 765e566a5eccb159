//! Whose fault a failed run is.

use ort::ErrorCode;

use crate::api::{Error, Kind};

/// What ONNX Runtime's CPU kernels say about the request's own data while answering the unspecific code `FAIL`. The
/// text is all there is to tell them by; each was seen from 1.31.1 and the tests below keep the sentences whole.
const REQUEST_FAULTS: [&str; 10] = [
    "out of data bounds",
    "Out of range value in index tensor",
    "invalid index found",
    "Attempting to broadcast an axis by a dimension other than 1",
    "cannot be reshaped to the requested shape",
    "dimension mismatch",
    "dimensions must match",
    "is not equal to kernel channels",
    "num_dims does not match",
    "should not be greater than specified axis dim value",
];

/// Sorts a failed run: the request's fault ([`Kind::Invalid`]), stopped because nobody waits any more
/// ([`Kind::Cancelled`]), more memory than there is ([`Kind::Unavailable`]), or ours ([`Kind::Internal`]).
pub(super) fn sort(error: &ort::Error) -> Error {
    by_text(error.code() == ErrorCode::InvalidArgument, error.message())
}

fn by_text(invalid_argument: bool, message: &str) -> Error {
    let text = tidy(message);
    if message.contains("terminate flag") {
        Error::new(
            Kind::Cancelled,
            "the run was stopped: nobody waits for its answer",
        )
    } else if message.contains("Failed to allocate memory") {
        Error::unavailable(format!("not enough memory for this request: {text}"))
    } else if invalid_argument || REQUEST_FAULTS.iter().any(|fault| message.contains(fault)) {
        Error::invalid(format!("the model refuses this input: {text}"))
    } else {
        Error::internal(format!("the run failed: {text}"))
    }
}

/// ONNX Runtime's sentence without the paths, conditions and signatures of its build.
pub(super) fn tidy(message: &str) -> String {
    let node = message
        .split_once("while running ")
        .and_then(|(_, rest)| rest.split_once(" node."))
        .map(|(operator, _)| format!("{operator}: "))
        .unwrap_or_default();
    let mut text = message
        .split_once("Status Message: ")
        .map_or(message, |(_, text)| text);
    // "Load model from PATH failed:REASON"
    if let Some((_, reason)) = text
        .strip_prefix("Load model from ")
        .and_then(|text| text.split_once(" failed:"))
    {
        text = reason;
    }
    if text.contains("/onnxruntime_src/") {
        // "PATH:LINE SIGNATURE CONDITION was false. TEXT" or "PATH:LINE SIGNATURE [with …] TEXT"
        text = ["was false. ", "] ", ") "]
            .iter()
            .find_map(|mark| text.rfind(mark).map(|at| &text[at + mark.len()..]))
            .unwrap_or(text);
    }
    let text = text
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    format!("{node}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_this_machine_stay_here() {
        assert_eq!(
            tidy("Load model from /srv/models/m/1/model.onnx failed:Fatal error: x"),
            "Fatal error: x"
        );
    }

    #[test]
    fn faults_of_the_request_are_told_from_ours() {
        use Kind::{Cancelled, Internal, Invalid, Unavailable};
        let rows = [
            (
                true,
                "Non-zero status code returned while running Gather node. Name:'y' Status Message: indices element out of data bounds, idx=11 must be within the inclusive range [-10,9]",
                Invalid,
                "Gather: indices element out of data bounds, idx=11 must be within the inclusive range [-10,9]",
            ),
            (
                true,
                "Got invalid dimensions for input: INPUT0 for the following indices\n index: 1 Got: 15 Expected: 16\n Please fix either the inputs/outputs or the model.",
                Invalid,
                "Got invalid dimensions for input: INPUT0 for the following indices index: 1 Got: 15 Expected: 16 Please fix either the inputs/outputs or the model.",
            ),
            (
                false,
                "Non-zero status code returned while running Add node. Name:'y' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:563 void onnxruntime::BroadcastIterator::Init(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 3 by 4\n",
                Invalid,
                "Add: Attempting to broadcast an axis by a dimension other than 1. 3 by 4",
            ),
            (
                false,
                "Non-zero status code returned while running GatherElements node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/gather_elements.cc:150 void onnxruntime::core_impl(const Tensor*) [with Tin = long int; int64_t = long int] GatherElements op: Out of range value in index tensor\n",
                Invalid,
                "GatherElements: GatherElements op: Out of range value in index tensor",
            ),
            (
                false,
                "Non-zero status code returned while running MatMul node. Name:'' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch",
                Invalid,
                "MatMul: matmul_helper.h:59 Compute MatMul dimension mismatch",
            ),
            (
                false,
                "Non-zero status code returned while running Conv node. Name:'' Status Message: Input channels C is not equal to kernel channels * group. C: 4 kernel channels: 3 group: 1",
                Invalid,
                "Conv: Input channels C is not equal to kernel channels * group. C: 4 kernel channels: 3 group: 1",
            ),
            (
                false,
                "Non-zero status code returned while running Expand node. Name:'' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 17592186044416\n",
                Unavailable,
                "Expand: Failed to allocate memory for requested buffer of size 17592186044416",
            ),
            (
                false,
                "Exiting due to terminate flag being set to true.",
                Cancelled,
                "nobody waits",
            ),
            (
                false,
                "enqueue of kernel gemm failed: CL_OUT_OF_RESOURCES",
                Internal,
                "CL_OUT_OF_RESOURCES",
            ),
        ];
        for (invalid_argument, message, kind, text) in rows {
            let error = by_text(invalid_argument, message);
            assert_eq!(error.kind, kind, "{message}");
            assert!(
                error.message.ends_with(text) || error.message.contains(text),
                "{}",
                error.message
            );
            assert!(!error.message.contains("/onnxruntime_src/"), "{}", error.message);
        }
    }
}
