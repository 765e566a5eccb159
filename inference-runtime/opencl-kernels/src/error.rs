//! What can go wrong between a graph and its answer.

/// The result of planning or running.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a node cannot be lowered. Not a failure: the caller leaves the node to another provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} '{node}' is not supported: {reason}")]
pub struct Unsupported {
    /// The node's name in its graph.
    pub node: String,
    /// The operator, with its domain unless it is ONNX's own.
    pub op: String,
    /// What exactly is not supported, in words a model's author understands.
    pub reason: String,
}

/// Why planning or running a supported graph failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The graph holds something that cannot be lowered.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),

    /// Shapes or values that do not fit together; the request is wrong, not the program.
    #[error("{op} '{node}': {reason}")]
    Invalid {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// What does not fit, with the shapes in question.
        reason: String,
    },

    /// A kernel met an index outside its axis. Outputs of the run are not to be used.
    #[error("{op} '{node}': index {index} is out of range for an axis of length {length}")]
    IndexOutOfRange {
        /// The node's name.
        node: String,
        /// Its operator.
        op: String,
        /// The first offending index that a work-item reported.
        index: i64,
        /// The axis' length.
        length: usize,
    },

    /// The graph itself is malformed (a caller's mistake).
    #[error("graph '{graph}' is malformed: {reason}")]
    Malformed {
        /// The graph's name.
        graph: String,
        /// What is wrong with it.
        reason: String,
    },

    /// There is no usable OpenCL on this machine.
    #[error("no OpenCL device: {0}")]
    NoDevice(String),

    /// An OpenCL call failed.
    #[error("OpenCL: {operation} failed for {object} with {code} ({name})")]
    OpenCl {
        /// The call, e.g. `clEnqueueNDRangeKernel`.
        operation: &'static str,
        /// The buffer, kernel or program concerned.
        object: String,
        /// OpenCL's error code.
        code: i32,
        /// The code's name in the OpenCL headers.
        name: String,
    },

    /// A kernel's source did not compile on this device.
    #[error("OpenCL: program '{program}' does not build for {device}:\n{log}")]
    Build {
        /// The program's name.
        program: String,
        /// The device it was built for.
        device: String,
        /// The driver's build log.
        log: String,
    },

    /// The device has not enough memory for a plan or its constants.
    #[error("{what} needs {wanted} bytes of device memory, {device} allows {limit}")]
    OutOfMemory {
        /// What was to be allocated.
        what: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that the device allows.
        limit: u64,
        /// The device's name.
        device: String,
    },
}
