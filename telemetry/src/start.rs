//! The one call at the beginning of a program.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::export;
use crate::wish::{self, Wish};

/// Whose spans these are, beside the service.
pub(crate) const SCOPE: &str = "afterglow";

/// At the end, what is queued may take this long to reach the collector.
const FLUSH_WITHIN: Duration = Duration::from_secs(3);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For machines: one object a line
    Json,
}

/// Which log lines are written, and how.
#[derive(Debug)]
pub struct Lines {
    format: Format,
    filter: EnvFilter,
}

impl Lines {
    /// What `RUST_LOG` says, else `otherwise`.
    pub fn of(format: Format, otherwise: &str) -> Self {
        Self::by(EnvFilter::DEFAULT_ENV, format, otherwise)
    }

    /// What this variable says, else `otherwise`.
    pub fn by(variable: &str, format: Format, otherwise: &str) -> Self {
        Self {
            format,
            filter: EnvFilter::try_from_env(variable).unwrap_or_else(|_| EnvFilter::new(otherwise)),
        }
    }
}

/// Sends what is left when it is dropped: the last thing that a program does within its async runtime.
#[derive(Debug)]
#[must_use = "dropped at once, it ends all tracing"]
pub struct Guard(Option<SdkTracerProvider>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::warn!(%error, "the last traces did not reach the collector");
        }
    }
}

/// Starts log lines, and nothing else: for what people call and wait for. A second start (tests in one process) keeps the first.
pub fn log(lines: Lines) {
    let _ = Registry::default().with(written(lines)).try_init();
}

/// Starts log lines and, where the environment names a collector, traces of `service`. To be called within an async runtime.
///
/// A wrong wish for traces is said in the log and nothing more: a server serves without them.
pub fn start(service: &'static str, lines: Lines) -> Guard {
    let made = match wish::read(|name| std::env::var(name).ok()) {
        Wish::Nothing => {
            log(lines);
            return Guard(None);
        }
        Wish::Refused(why) => Err(why),
        Wish::Collector(endpoint) => match export::provider(service, &endpoint) {
            Ok(provider) => Ok((provider, endpoint)),
            Err(error) => Err(error.to_string()),
        },
    };
    let (provider, endpoint) = match made {
        Ok(made) => made,
        Err(why) => {
            log(lines);
            tracing::error!("requests are not traced: {why}");
            return Guard(None);
        }
    };
    let traces = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer(SCOPE))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false)
        .with_filter(filter_fn(traced).with_max_level_hint(LevelFilter::DEBUG));
    let started = Registry::default().with(written(lines)).with(traces).try_init();
    if started.is_err() {
        return Guard(None);
    }
    opentelemetry::global::set_tracer_provider(provider.clone());
    tracing::info!(endpoint, "requests are traced");
    Guard(Some(provider))
}

fn written(Lines { format, filter }: Lines) -> impl Layer<Registry> {
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    lines.with_filter(filter)
}

/// Our own spans, and what our programs log within them; libraries' spans would bury ours.
fn traced(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let ours = target.starts_with("afterglow") || target.starts_with("engine::");
    let most = if metadata.is_span() {
        Level::DEBUG
    } else {
        Level::INFO
    };
    ours && *metadata.level() <= most
}
