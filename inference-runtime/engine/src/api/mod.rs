//! The engine's own vocabulary: what every wire protocol is translated into and out of.
//!
//! Nothing here knows HTTP, gRPC or ONNX Runtime. Wire modules decode to these types and encode from them; the
//! engine's inside works on nothing else.

mod config;
mod embedding;
mod error;
mod infer;
mod load;
mod model;
mod statistics;
mod tensor;

pub use config::{DynamicBatching, ModelConfig};
pub use embedding::{EmbedInput, EmbeddingModel, Embeddings};
pub use error::{Error, Kind, Result};
pub use infer::{InferRequest, InferResponse, RequestedOutput};
pub use load::ModelLoad;
pub use model::{IndexEntry, ModelMetadata, ModelState, Placement, TensorSpec};
pub use statistics::{BatchStatistics, Duration, InferStatistics, ModelStatistics};
pub use tensor::{Data, Datatype, NamedTensor, Tensor};
