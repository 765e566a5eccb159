//! The one ONNX Runtime of this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort_ep_sys::session::Watch;

use super::library::{self, LibraryError};

/// ONNX Runtime cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// No library.
    #[error(transparent)]
    Library(#[from] Arc<LibraryError>),
    /// It is not a library, or one that is too old.
    #[error("ONNX Runtime at `{}` cannot be used, {} is needed: {reason}", path.display(), library::VERSION)]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// Our provider's library is missing.
    #[error(
        "the execution provider `{}` does not exist; `cargo build --release -p opencl-ep` makes it, \
         AFTERGLOW_EP_LIBRARY names another place, `--device cpu` does without",
        .0.display()
    )]
    NoProvider(PathBuf),
    /// Our provider's library refuses.
    #[error("the execution provider `{}` cannot be registered: {reason}", path.display())]
    Provider {
        /// Which file.
        path: PathBuf,
        /// What ONNX Runtime said.
        reason: String,
    },
}

/// The one ONNX Runtime of this process; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(super) environment: Environment,
    library: PathBuf,
}

/// The name under which our provider is registered. The suffix permits devices that ONNX Runtime did not discover.
const REGISTRATION: &str = "afterglow.virtual";

static RUNTIME: OnceLock<Result<Runtime, RuntimeError>> = OnceLock::new();
static PROVIDER: OnceLock<Result<(), RuntimeError>> = OnceLock::new();
static WATCH: OnceLock<Option<Watch>> = OnceLock::new();

impl Runtime {
    /// Loads the library on first use; ONNX Runtime allows one environment a process.
    pub(crate) fn load() -> Result<Self, RuntimeError> {
        RUNTIME.get_or_init(Self::start).clone()
    }

    fn start() -> Result<Self, RuntimeError> {
        let library = library::find().map_err(Arc::new)?;
        let unusable = |reason: String| RuntimeError::Unusable {
            path: library.clone(),
            reason,
        };
        let builder = ort::init_from(&library).map_err(|e| unusable(e.to_string()))?;
        // One pool for all sessions: they take turns on the device, and a pool a session would leave threads of every
        // model asleep. Idle threads must not spin: on machines like these the cores belong to the requests.
        let threads = GlobalThreadPoolOptions::default()
            .with_spin_control(false)
            .and_then(|options| options.with_intra_threads(0))
            .map_err(|e| unusable(e.to_string()))?;
        let environment = builder
            .with_name("afterglow")
            .with_telemetry(false)
            .with_global_thread_pool(threads)
            .with_logger(Arc::new(log))
            .build()
            .map_err(|e| unusable(e.to_string()))?;
        environment.set_log_level(LogLevel::Warning);
        Ok(Self { environment, library })
    }

    /// The release, from the file's name; the loader has checked that it is new enough.
    pub(crate) fn version(&self) -> String {
        let real = self
            .library
            .canonicalize()
            .unwrap_or_else(|_| self.library.clone());
        let name = real.file_name().unwrap_or_default().to_string_lossy();
        name.split_once(".so.").map_or_else(
            || format!("at least 1.{}", ort::MINOR_VERSION),
            |(_, v)| v.to_owned(),
        )
    }

    /// Identifies our provider's build: a profile made with another one says nothing.
    pub(crate) fn provider_identity() -> String {
        let stamp = || {
            let metadata = std::fs::metadata(provider_library()).ok()?;
            let modified = metadata
                .modified()
                .ok()?
                .duration_since(std::time::UNIX_EPOCH)
                .ok()?;
            Some(format!("{} bytes of {}", metadata.len(), modified.as_nanos()))
        };
        stamp().unwrap_or_default()
    }

    /// Registers our provider's library on first use.
    pub(super) fn register_provider(&self) -> Result<(), RuntimeError> {
        PROVIDER
            .get_or_init(|| {
                let path = provider_library();
                if !path.is_file() {
                    return Err(RuntimeError::NoProvider(path));
                }
                self.environment
                    .register_ep_library(REGISTRATION, &path)
                    .map_err(|e| RuntimeError::Provider {
                        path,
                        reason: e.to_string(),
                    })
            })
            .clone()
    }
}

/// How our provider's runs are watched, once it is registered; `None` if it is not, or if its library cannot tell.
pub(super) fn watch() -> Option<Watch> {
    PROVIDER.get()?.as_ref().ok()?;
    *WATCH.get_or_init(|| Watch::of(&provider_library()))
}

/// `AFTERGLOW_EP_LIBRARY`, else beside the executable, else where our images put it. Test binaries live one folder below.
fn provider_library() -> PathBuf {
    const FILE: &str = "libafterglow_opencl_ep.so";
    if let Some(said) = std::env::var_os("AFTERGLOW_EP_LIBRARY").filter(|path| !path.is_empty()) {
        return said.into();
    }
    let folder = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(PathBuf::from))
        .unwrap_or_default();
    let beside = folder.join(FILE);
    if !beside.is_file() && folder.ends_with("deps") {
        return folder.with_file_name(FILE);
    }
    let system = Path::new(library::SYSTEM).join(FILE);
    if !beside.is_file() && system.is_file() {
        return system;
    }
    beside
}

/// ONNX Runtime's log lines become ours.
fn log(level: LogLevel, _category: &str, _id: &str, _location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error => tracing::error!(target: "onnxruntime", "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", "{message}"),
        LogLevel::Info => tracing::info!(target: "onnxruntime", "{message}"),
        LogLevel::Verbose => tracing::trace!(target: "onnxruntime", "{message}"),
    }
}
