//! What Prometheus sees, under Triton's names.

/// The metrics of one engine.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        String::new()
    }
}
