//! `afterglow bench`: loads a server, or two in turn, and reports what came back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::{Bench, Output};
use crate::bench::{self, Comparison, Load, Report, Target};
use crate::client::Client;
use crate::{hint, render};

/// Runs the verb. Exits with 1 if any request failed, so that scripts notice.
pub(super) async fn run(args: Bench, output: Output) -> Result<ExitCode> {
    let load = load(&args)?;
    let first = Client::new(&args.server)?;
    let target = target(&args, &first).await?;
    let Some(versus) = &args.versus else {
        let report = measured(&first, &target, load, args.warm_up, args.duration).await?;
        return finish(&[report], None, output);
    };
    let second = Client::at(versus, args.server.timeout)?;
    let turn = args.duration / args.turns;
    warm_up(&first, &target, load, args.warm_up).await?;
    warm_up(&second, &target, load, args.warm_up).await?;
    let mut turns = Vec::new();
    for _ in 0..args.turns {
        let a = measured(&first, &target, load, Duration::ZERO, turn).await?;
        let b = measured(&second, &target, load, Duration::ZERO, turn).await?;
        turns.push((a, b));
    }
    let mut totals = [
        Report::new(first.base(), target.rows),
        Report::new(second.base(), target.rows),
    ];
    for (a, b) in &turns {
        totals[0].merge(a);
        totals[1].merge(b);
    }
    finish(&totals, Some(Comparison::of(&turns)), output)
}

fn load(args: &Bench) -> Result<Load> {
    match args.rate {
        Some(rate) if rate.is_finite() && rate > 0.0 => Ok(Load::Open { rate }),
        Some(rate) => Err(hint::error(
            format!("a rate of {rate} requests a second"),
            "give a positive number",
        )),
        None if args.concurrency == 0 => {
            Err(hint::error("a concurrency of 0 sends nothing", "give at least 1"))
        }
        None => Ok(Load::Closed {
            concurrency: args.concurrency,
        }),
    }
}

async fn target(args: &Bench, client: &Client) -> Result<Target> {
    match &args.text {
        Some(text) => Ok(Target::text(&args.model, text, args.batch)),
        None => Target::tensors(&client.metadata(&args.model).await?, &args.shapes, args.batch),
    }
}

async fn warm_up(client: &Client, target: &Target, load: Load, length: Duration) -> Result<()> {
    bench::run(client, target, load, length, &ProgressBar::hidden())
        .await
        .map(|_| ())
}

async fn measured(
    client: &Client,
    target: &Target,
    load: Load,
    warm_up_for: Duration,
    length: Duration,
) -> Result<Report> {
    // One request first: a wrong request should say so at once, not after the whole run.
    client
        .post(&target.path, &target.headers, target.body.clone())
        .await?;
    warm_up(client, target, load, warm_up_for).await?;
    let progress = ProgressBar::new(length.as_millis() as u64);
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {msg}").expect("a constant template");
    progress.set_style(style);
    progress.set_prefix(client.base().to_owned());
    let report = bench::run(client, target, load, length, &progress).await;
    progress.finish_and_clear();
    report
}

fn finish(reports: &[Report], comparison: Option<Comparison>, output: Output) -> Result<ExitCode> {
    let figures: Vec<_> = reports.iter().map(Report::figures).collect();
    match output {
        Output::Json => render::json(&json!({ "servers": figures, "comparison": comparison }))?,
        Output::Table => {
            render::text(bench::table(&figures))?;
            if let Some(comparison) = comparison {
                render::text(comparison)?;
            }
        }
    }
    let failed = reports.iter().any(|report| report.failed() > 0);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
