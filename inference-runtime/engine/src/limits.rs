//! How much one request may ask for.

/// Bounds that hold for every model; each is tested at the limit and beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body in bytes as it arrives.
    pub body_bytes: usize,
    /// Largest request body in bytes after decompression.
    pub decompressed_bytes: usize,
    /// Deepest nesting of a JSON body.
    pub json_depth: usize,
    /// Most inputs of one embedding request.
    pub embedding_inputs: usize,
    /// Longest deadline that a client may ask for; longer ones are cut to it.
    pub longest_deadline: std::time::Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            decompressed_bytes: 64 << 20,
            json_depth: 100,
            // What OpenAI's own service accepts.
            embedding_inputs: 2048,
            longest_deadline: std::time::Duration::from_mins(10),
        }
    }
}
