//! What is typed on the command line, and what the operator is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Makes agents, schedulers and replicas out of `InferenceCluster` and `ModelDeployment`.
#[derive(Debug, Parser)]
#[command(name = "afterglow-operator", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controllers until SIGTERM.
    Run(Run),
}

/// The flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Namespace of the operator, the agents and the schedulers.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: String,
    /// Image of agents whose `InferenceCluster` names none.
    #[arg(long, env = "AFTERGLOW_AGENT_IMAGE")]
    pub agent_image: String,
    /// Image of schedulers whose `InferenceCluster` names none.
    #[arg(long, env = "AFTERGLOW_SCHEDULER_IMAGE")]
    pub scheduler_image: String,
    /// When the nodes pull the images of agents and schedulers.
    #[arg(long, env = "AFTERGLOW_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub image_pull_policy: PullPolicy,
    /// DNS domain of the Kubernetes cluster.
    #[arg(long, env = "AFTERGLOW_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// `ClusterRole` that the agents are bound to.
    #[arg(long, env = "AFTERGLOW_AGENT_ROLE", default_value = "afterglow-agent")]
    pub agent_role: String,
    /// `ClusterRole` that the schedulers are bound to.
    #[arg(long, env = "AFTERGLOW_SCHEDULER_ROLE", default_value = "afterglow-scheduler")]
    pub scheduler_role: String,
    /// File with an `InferenceCluster` in JSON that is applied at the start: the one that comes with the installation.
    #[arg(long, env = "AFTERGLOW_CLUSTER_FILE")]
    pub cluster_file: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "AFTERGLOW_METRICS", default_value = "0.0.0.0:8080")]
    pub metrics: SocketAddr,
    /// Whether the pods of agents and schedulers carry `prometheus.io/scrape` and its kin.
    #[arg(
        long,
        env = "AFTERGLOW_SCRAPE_ANNOTATIONS",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub scrape_annotations: bool,
    /// Collector that operator, schedulers, agents and engines send traces to, over OTLP's gRPC, such as `http://collector:4317`.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Which requests they trace, as OpenTelemetry names samplers.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "NAME")]
    pub traces_sampler: Option<String>,
    /// What that sampler needs to know, such as a share between 0 and 1.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "VALUE")]
    pub traces_sampler_arg: Option<String>,
    /// Name of this process among operators, for the leader's Lease. Default: the pod's name, else the host's.
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// The operators' own `Deployment`, which the leader's Lease goes with. Default: the Lease stays.
    #[arg(long, env = "AFTERGLOW_DEPLOYMENT")]
    pub deployment: Option<String>,
}

/// When a node pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PullPolicy {
    /// At every start of a container.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: it was loaded by hand.
    Never,
}

impl PullPolicy {
    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What the operator is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Namespace of the operator, the agents and the schedulers.
    pub namespace: String,
    /// Image of agents whose `InferenceCluster` names none.
    pub agent_image: String,
    /// Image of schedulers whose `InferenceCluster` names none.
    pub scheduler_image: String,
    /// When the nodes pull them.
    pub image_pull_policy: PullPolicy,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// `ClusterRole` that the agents are bound to.
    pub agent_role: String,
    /// `ClusterRole` that the schedulers are bound to.
    pub scheduler_role: String,
    /// File with an `InferenceCluster` that is applied at the start.
    pub cluster_file: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz; `None`: they are not served.
    pub metrics: Option<SocketAddr>,
    /// Whether the pods of agents and schedulers carry `prometheus.io/scrape` and its kin.
    pub scrape_annotations: bool,
    /// Name of this process among operators; unique.
    pub identity: String,
    /// The operators' own `Deployment`, which the leader's Lease goes with.
    pub deployment: Option<String>,
    /// Where schedulers and agents send traces; `None`: they make none.
    pub traces: Option<Traces>,
}

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// The collector.
    pub endpoint: String,
    /// OpenTelemetry's name of a sampler.
    pub sampler: Option<String>,
    /// What that sampler needs to know.
    pub sampler_argument: Option<String>,
}

impl From<Run> for Options {
    fn from(run: Run) -> Self {
        Self {
            namespace: run.namespace,
            agent_image: run.agent_image,
            scheduler_image: run.scheduler_image,
            image_pull_policy: run.image_pull_policy,
            cluster_domain: run.cluster_domain,
            agent_role: run.agent_role,
            scheduler_role: run.scheduler_role,
            cluster_file: run.cluster_file,
            metrics: Some(run.metrics),
            scrape_annotations: run.scrape_annotations,
            identity: run.identity.unwrap_or_else(host_name),
            deployment: run.deployment,
            traces: run
                .otlp_endpoint
                .filter(|endpoint| !endpoint.is_empty())
                .map(|endpoint| Traces {
                    endpoint,
                    sampler: run.traces_sampler,
                    sampler_argument: run.traces_sampler_arg,
                }),
        }
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(
        |_| format!("operator-{}", std::process::id()),
        |name| format!("{}-{}", name.trim(), std::process::id()),
    )
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn flags_become_options() {
        let args = Args::parse_from([
            "afterglow-operator",
            "run",
            "--namespace=n",
            "--agent-image=a",
            "--scheduler-image=s",
            "--image-pull-policy=Never",
            "--identity=me",
        ]);
        let Command::Run(run) = args.command;
        let options = Options::from(run);
        assert_eq!(options.image_pull_policy.as_str(), "Never");
        assert_eq!(options.cluster_domain, "cluster.local");
        assert_eq!(options.identity, "me");
    }
}
