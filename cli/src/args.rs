//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};

/// Serve AI models on the GPUs you already own.
#[derive(Debug, Parser)]
#[command(name = "afterglow", version, propagate_version = true)]
pub(crate) struct Args {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs; one document on standard output.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a folder of models on this machine until interrupted.
    Up(Up),
    /// Put a model folder into one file, for a `ModelDeployment` to name.
    Pack(Pack),
    /// List the OpenCL devices of this machine, measured and self-tested.
    Devices(Passed),
    /// List the models that a server has, and what of each runs where.
    Models(Server),
    /// Run one inference.
    Infer(Infer),
    /// Turn texts into embeddings.
    Embed(Embed),
    /// Validate, compare with the CPU and measure a model file before it serves.
    Probe(Passed),
    /// Load a server and report latency and throughput.
    Bench(Bench),
}

/// `afterglow up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// A folder with `ModelDeployment`s as YAML, with models as `NAME/VERSION/model.onnx` (directly or below `models/`), or
    /// with both.
    pub(crate) dir: PathBuf,
    /// Where to serve REST (Open Inference Protocol and `OpenAI` embeddings).
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub(crate) http: SocketAddr,
    /// Where to serve gRPC.
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub(crate) grpc: SocketAddr,
    /// Where to serve Prometheus metrics.
    #[arg(long, default_value = "127.0.0.1:8002")]
    pub(crate) metrics: SocketAddr,
    /// `auto` or `opencl` (every GPU, else an OpenCL processor), `opencl:N` as listed by `afterglow devices`, or `cpu`.
    #[arg(long, default_value = "auto")]
    pub(crate) device: String,
    /// Stop if any model of the folder cannot be served, instead of serving the others.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `afterglow pack`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Pack {
    /// A model's folder (`model.yaml`, `NUMBER/model.onnx`) or a version's (`model.onnx`).
    pub(crate) folder: PathBuf,
    /// The file to write: `.tar`, `.tar.gz` or `.tgz`.
    #[arg(long = "out", short = 'o', value_name = "FILE", value_parser = package_file)]
    pub(crate) file: PathBuf,
}

fn package_file(text: &str) -> Result<PathBuf, String> {
    let ends = [".tar", ".tar.gz", ".tgz"];
    if ends
        .iter()
        .any(|end| text.len() > end.len() && text.ends_with(end))
    {
        Ok(text.into())
    } else {
        Err("a package's name ends in .tar, .tar.gz or .tgz".to_owned())
    }
}

/// Verbs that the engine implements: their arguments are passed on as they are.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Passed {
    /// Passed to `afterglow-engine`; try `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// Where the server is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// The server's REST address.
    #[arg(long, env = "AFTERGLOW_URL", default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,
    /// How long to wait for an answer.
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `afterglow infer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Infer {
    /// The model's name, or `NAME/VERSION`.
    pub(crate) model: String,
    /// An input as `NAME=JSON`: a number, a string, or nested lists whose nesting is the shape. Needed once per input.
    #[arg(long = "input", short, value_name = "NAME=JSON")]
    pub(crate) inputs: Vec<String>,
    /// A whole request in the Open Inference Protocol's JSON, from a file or `-` for standard input.
    #[arg(long, conflicts_with = "inputs", value_name = "FILE")]
    pub(crate) request: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `afterglow embed`.
#[derive(Debug, clap::Args)]
pub(crate) struct Embed {
    /// The model's name.
    pub(crate) model: String,
    /// Texts; one a line from standard input if none are given.
    pub(crate) texts: Vec<String>,
    /// Rank the texts by their similarity to this one.
    #[arg(long, value_name = "TEXT")]
    pub(crate) query: Option<String>,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `afterglow bench`.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("load").args(["concurrency", "rate"])))]
pub(crate) struct Bench {
    /// The model's name.
    pub(crate) model: String,
    /// Closed loop: this many requests at a time.
    #[arg(long, short, default_value = "1")]
    pub(crate) concurrency: usize,
    /// Open loop: this many requests a second, sent on schedule whatever the server does; latency counts from the
    /// scheduled time.
    #[arg(long, value_name = "PER_SECOND")]
    pub(crate) rate: Option<f64>,
    /// How long to load each server.
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// Not counted, before: caches fill, plans are made.
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Rows per request.
    #[arg(long, short, default_value = "1")]
    pub(crate) batch: usize,
    /// Extents of an input with dynamic axes, as `NAME:2,128`; the others are taken from the model, dynamic = 1.
    #[arg(long = "shape", value_name = "NAME:EXTENTS")]
    pub(crate) shapes: Vec<String>,
    /// Embed this text through /v1/embeddings instead of sending tensors.
    #[arg(long, conflicts_with = "shapes")]
    pub(crate) text: Option<String>,
    /// A second server, loaded in turn with the first, A B A B …; the ratio A/B is printed.
    #[arg(long, value_name = "URL")]
    pub(crate) versus: Option<String>,
    /// Turns per server with `--versus`.
    #[arg(long, default_value = "5", requires = "versus")]
    pub(crate) turns: u32,
    #[command(flatten)]
    pub(crate) server: Server,
}

/// `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a duration such as 500ms, 10s or 2m"))?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "s" => number,
        "m" => number * 60.0,
        _ => return Err(format!("'{text}' needs a unit: ms, s or m")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("'{text}': {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["", "5", "ten seconds", "-1s", "5h"] {
            assert!(duration(wrong).is_err(), "'{wrong}' was taken for a duration");
        }
    }

    #[test]
    fn flags_after_devices_and_probe_reach_the_engine() {
        let args =
            Args::try_parse_from(["afterglow", "probe", "model.onnx", "--device", "opencl:1"]).unwrap();
        let Command::Probe(passed) = args.command else {
            panic!("not a probe")
        };
        assert_eq!(passed.rest, ["model.onnx", "--device", "opencl:1"]);
    }
}
