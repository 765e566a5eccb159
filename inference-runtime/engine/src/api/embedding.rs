//! Text in, vectors out: the vocabulary of `/v1/embeddings`.

/// A model that embeds text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingModel {
    /// Model name, as requests use it.
    pub name: String,
    /// What answers call it.
    pub shown_as: String,
    /// When it was loaded, in seconds since the epoch.
    pub created: u64,
    /// Length of its vectors; `None` where the model leaves it open.
    pub dimension: Option<usize>,
}

/// One thing to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmbedInput {
    /// Text, tokenised by the model's own tokenizer.
    Text(String),
    /// Token ids of the model's own vocabulary, special tokens included by the caller.
    Tokens(Vec<u32>),
}

/// Vectors, in the order of the inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// What answers call the model.
    pub model: String,
    /// The version that answered.
    pub version: String,
    /// One vector an input.
    pub vectors: Vec<Vec<f32>>,
    /// Tokens fed to the model, special tokens included and after truncation.
    pub prompt_tokens: usize,
}
