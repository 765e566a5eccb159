//! Which replica answers a request: `(replicas, request, strategy, randomness) → a replica and because of what`.

/// A replica that could answer, as the scheduler sees it now.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// `NAMESPACE/NAME` of the ModelReplica.
    pub id: String,
    /// Requests that wait on it: reported, plus those that this scheduler has sent since the report.
    pub waiting: u32,
    /// Requests that run on it.
    pub running: u32,
    /// Rows that a run may hold; 1 = requests run alone.
    pub max_batch_size: u32,
    /// Microseconds of one run: reported if anything ran, else the probe's measurement; 0 = unknown.
    pub run_microseconds: u64,
    /// GFLOP/s of its device as measured; 0 = unknown.
    pub gflops: u64,
    /// Whether its device is a processor.
    pub on_cpu: bool,
    /// Bytes per second to the device as measured; 0 = unknown.
    pub upload_bytes_per_second: u64,
    /// Age of what is known of its load.
    pub report_age_microseconds: u64,
}

/// What is known of a request before it is decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Bytes of its body.
    pub bytes: u64,
    /// Requests with the same key go to the same replica while that is there and not overloaded.
    pub session: Option<String>,
    /// Replicas that have already refused this request.
    pub excluded: Vec<String>,
}

/// How a replica is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The fewest requests waiting and running.
    LeastLoaded,
    /// The fastest device for the model first; among equals the least loaded.
    GpuMatch,
    /// The earliest expected answer.
    #[default]
    Adaptive,
}
