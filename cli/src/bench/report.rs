//! What came of a load.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::render::Table;

/// The longest latency told apart from longer ones.
const LONGEST: Duration = Duration::from_mins(10);

/// Counts and latencies of one server.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    server: String,
    rows: usize,
    elapsed: Duration,
    latencies: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

/// A report's figures.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    server: String,
    requests: u64,
    failures: u64,
    seconds: f64,
    requests_per_second: f64,
    rows_per_second: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    errors: BTreeMap<String, u64>,
}

impl Report {
    /// An empty report on a server whose requests answer `rows` rows each.
    pub(crate) fn new(server: &str, rows: usize) -> Self {
        let latencies =
            Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 3).expect("constant bounds are valid");
        Self {
            server: server.to_owned(),
            rows,
            elapsed: Duration::ZERO,
            latencies,
            failures: BTreeMap::new(),
        }
    }

    /// A request was answered.
    pub(crate) fn success(&mut self, latency: Duration) {
        self.latencies.saturating_record(latency.as_micros() as u64);
    }

    /// A request failed.
    pub(crate) fn failure(&mut self, error: String) {
        *self.failures.entry(error).or_default() += 1;
    }

    /// No more will come.
    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
    }

    /// Adds another turn's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latencies += &other.latencies;
        self.elapsed += other.elapsed;
        for (error, count) in &other.failures {
            *self.failures.entry(error.clone()).or_default() += count;
        }
    }

    /// A line for the progress bar.
    pub(crate) fn short(&self, elapsed: Duration) -> String {
        let rate = self.latencies.len() as f64 / elapsed.as_secs_f64().max(1e-9);
        format!(
            "{rate:.0}/s, p50 {:.2} ms, {} failed",
            self.milliseconds(0.5),
            self.failed()
        )
    }

    /// Whether anything failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The figures.
    pub(crate) fn figures(&self) -> Figures {
        let per_second = self.latencies.len() as f64 / self.elapsed.as_secs_f64().max(1e-9);
        Figures {
            server: self.server.clone(),
            requests: self.latencies.len() + self.failed(),
            failures: self.failed(),
            seconds: self.elapsed.as_secs_f64(),
            requests_per_second: per_second,
            rows_per_second: per_second * self.rows as f64,
            p50_ms: self.milliseconds(0.5),
            p95_ms: self.milliseconds(0.95),
            p99_ms: self.milliseconds(0.99),
            max_ms: self.latencies.max() as f64 / 1e3,
            errors: self.failures.clone(),
        }
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1e3
    }
}

/// The figures of several servers as one table, their errors below.
pub(crate) fn table(figures: &[Figures]) -> String {
    let mut table = Table::new([
        "SERVER",
        "REQUESTS",
        "FAILED",
        "REQUESTS/S",
        "ROWS/S",
        "P50 MS",
        "P95 MS",
        "P99 MS",
        "MAX MS",
    ]);
    for f in figures {
        table.row([
            f.server.clone(),
            f.requests.to_string(),
            f.failures.to_string(),
            format!("{:.1}", f.requests_per_second),
            format!("{:.1}", f.rows_per_second),
            format!("{:.2}", f.p50_ms),
            format!("{:.2}", f.p95_ms),
            format!("{:.2}", f.p99_ms),
            format!("{:.2}", f.max_ms),
        ]);
    }
    let mut text = table.to_string();
    for f in figures {
        for (error, count) in &f.errors {
            let _ = writeln!(text, "{}: {count} × {error}", f.server);
        }
    }
    text
}

/// Two servers loaded in turn: ratios of each pair of turns, since a machine's speed drifts over minutes.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    throughput_ratio: Spread,
    p50_ratio: Spread,
}

/// Smallest, median and largest of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        Self {
            min: at(0),
            median: at(values.len() / 2),
            max: at(values.len().saturating_sub(1)),
        }
    }
}

impl Comparison {
    /// The ratios A/B of paired turns.
    pub(crate) fn of(turns: &[(Report, Report)]) -> Self {
        let ratios = |figure: fn(&Figures) -> f64| {
            Spread::of(
                turns
                    .iter()
                    .map(|(a, b)| figure(&a.figures()) / figure(&b.figures()))
                    .collect(),
            )
        };
        Self {
            throughput_ratio: ratios(|f| f.requests_per_second),
            p50_ratio: ratios(|f| f.p50_ms),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, spread) in [
            ("throughput", self.throughput_ratio),
            ("p50 latency", self.p50_ratio),
        ] {
            let Spread { min, median, max } = spread;
            writeln!(
                f,
                "{what}, first server / second: median {median:.2} (turns {min:.2} to {max:.2})"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(latencies: &[u64], seconds: u64) -> Report {
        let mut report = Report::new("s", 2);
        for &ms in latencies {
            report.success(Duration::from_millis(ms));
        }
        report.finish(Duration::from_secs(seconds));
        report
    }

    #[test]
    fn throughput_counts_answers_and_rows_not_failures() {
        let mut report = report(&[1, 2, 3, 4], 2);
        report.failure("refused".into());
        let figures = report.figures();
        assert_eq!((figures.requests, figures.failures), (5, 1));
        assert!(
            (figures.requests_per_second - 2.0).abs() < 1e-9 && (figures.rows_per_second - 4.0).abs() < 1e-9
        );
    }

    #[test]
    fn a_comparison_is_the_median_of_paired_turns() {
        let turns = [1, 2, 4].map(|n| (report(&vec![5; n], 1), report(&[5], 1)));
        let ratio = Comparison::of(&turns).throughput_ratio;
        assert_eq!(
            ratio,
            Spread {
                min: 1.0,
                median: 2.0,
                max: 4.0
            }
        );
    }

    #[test]
    fn merging_turns_adds_counts_and_time() {
        let mut all = report(&[1], 1);
        all.merge(&report(&[3], 3));
        assert!((all.figures().requests_per_second - 0.5).abs() < 1e-9);
    }
}
