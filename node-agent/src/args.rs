//! The command line. Every flag is also an environment variable, which is how the operator's DaemonSet sets them.

use std::net::SocketAddr;
use std::path::PathBuf;

use afterglow_crds::quantity::bytes;
use afterglow_telemetry::Format;
use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Finds this node's GPUs, tells the cluster what they can do, and serves models on them
#[derive(Debug, Parser)]
#[command(name = "afterglow-agent", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve this Kubernetes node
    Run(Box<Run>),
    /// Show what is found here, and test it; needs no Kubernetes
    Devices(Devices),
}

/// `afterglow-agent run`.
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Name of this Kubernetes node
    #[arg(long, env = "NODE_NAME")]
    pub node: String,
    /// Address of this pod, under which schedulers reach the engines
    #[arg(long, env = "POD_IP")]
    pub pod_ip: std::net::IpAddr,
    /// Namespace of this pod
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// The `InferenceCluster` that this node serves
    #[arg(long, env = "AFTERGLOW_CLUSTER")]
    pub cluster: String,
    /// Folder for fetched models
    #[arg(long, env = "AFTERGLOW_CACHE", default_value = "/var/lib/afterglow")]
    pub cache: PathBuf,
    /// What the cache may hold
    #[arg(long, env = "AFTERGLOW_CACHE_SIZE", default_value = "50Gi", value_parser = quantity)]
    pub cache_size: Quantity,
    /// Folder on the node below which `file://` sources may lie; without it they are refused
    #[arg(long, env = "AFTERGLOW_MODEL_PATH")]
    pub model_path: Option<PathBuf>,
    /// Where that folder is mounted in this pod
    #[arg(long, env = "AFTERGLOW_MODEL_PATH_MOUNT", default_value = "/models/host")]
    pub model_path_mount: PathBuf,
    /// Where the volumes of `pvc://NAME/PATH` are mounted: NAME is a folder here
    #[arg(long, env = "AFTERGLOW_MODEL_VOLUMES", default_value = "/models/volumes")]
    pub model_volumes: PathBuf,
    /// Address of the object store of `s3://` sources; Amazon's if absent
    #[arg(long, env = "AFTERGLOW_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,
    /// Region of the object store
    #[arg(long, env = "AFTERGLOW_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// Where schedulers read how busy this node is (gRPC)
    #[arg(long, env = "AFTERGLOW_LOAD", default_value = "0.0.0.0:9400")]
    pub load: SocketAddr,
    /// Where /metrics, /healthz and /readyz are
    #[arg(long, env = "AFTERGLOW_METRICS", default_value = "0.0.0.0:9401")]
    pub metrics: SocketAddr,
    /// The kubelet's folder, for lending devices to other pods
    #[arg(long, env = "AFTERGLOW_KUBELET", default_value = "/var/lib/kubelet")]
    pub kubelet: PathBuf,
    /// Where the container runtime reads CDI files
    #[arg(long, env = "AFTERGLOW_CDI", default_value = "/var/run/cdi")]
    pub cdi: PathBuf,
    /// How log lines are written
    #[arg(long, env = "AFTERGLOW_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    pub log_format: Format,
    /// Where devices are looked for.
    #[command(flatten)]
    pub search: Search,
}

/// `afterglow-agent devices`.
#[derive(Debug, Clone, Args)]
pub struct Devices {
    /// How the list is written
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Where devices are looked for.
    #[command(flatten)]
    pub search: Search,
}

/// Where devices are looked for, and which count.
#[derive(Debug, Clone, Args)]
pub struct Search {
    /// Whether processors may stand in for cards
    #[arg(long, env = "AFTERGLOW_CPU_FALLBACK", value_enum, default_value_t = CpuFallback::Forbidden)]
    pub cpu_fallback: CpuFallback,
    /// The engine's program; beside this one if absent
    #[arg(long, env = "AFTERGLOW_ENGINE")]
    pub engine: Option<PathBuf>,
    /// The kernel's view of the devices
    #[arg(long, env = "AFTERGLOW_SYSFS", default_value = "/sys", hide = true)]
    pub sysfs: PathBuf,
    /// Where the device files are
    #[arg(long, env = "AFTERGLOW_DEV", default_value = "/dev", hide = true)]
    pub dev: PathBuf,
}

/// Whether processors may stand in for cards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CpuFallback {
    /// Only cards are offered
    #[default]
    Forbidden,
    /// PoCL's processor is offered too
    Allowed,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

impl Search {
    /// The engine's program.
    pub fn engine(&self) -> PathBuf {
        self.engine.clone().unwrap_or_else(|| {
            std::env::current_exe().map_or_else(
                |_| PathBuf::from("afterglow-engine"),
                |me| me.with_file_name("afterglow-engine"),
            )
        })
    }
}

fn quantity(text: &str) -> Result<Quantity, String> {
    let size = Quantity(text.to_owned());
    bytes(&size)
        .map(|_| size)
        .ok_or_else(|| format!("`{text}` is no size; sizes look like 50Gi, 500M or 1073741824"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_size_that_is_none_is_refused() {
        let parse = |size: &str| {
            Arguments::try_parse_from([
                "afterglow-agent",
                "run",
                "--node=n",
                "--pod-ip=10.0.0.1",
                "--namespace=s",
                "--cluster=c",
                "--cache-size",
                size,
            ])
        };
        assert!(parse("50Gi").is_ok());
        assert!(parse("plenty").unwrap_err().to_string().contains("50Gi"));
    }
}
