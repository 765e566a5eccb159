//! When requests are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use indicatif::ProgressBar;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::{Report, Target};
use crate::client::Client;

/// How far behind an open loop may fall before more requests are counted as failed instead of sent.
const MOST_OUTSTANDING: u64 = 10_000;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    /// This many at a time, the next as soon as one is answered.
    Closed { concurrency: usize },
    /// This many a second, whatever the server does. Latency counts from the scheduled time, so a stalled server
    /// cannot hide behind requests that were never sent.
    Open { rate: f64 },
}

/// One answered or failed request.
struct Sample {
    latency: Duration,
    error: Option<String>,
}

/// Loads a server for a while.
pub(crate) async fn run(
    client: &Client,
    target: &Target,
    load: Load,
    length: Duration,
    progress: &ProgressBar,
) -> Result<Report> {
    let (samples, mut arriving) = mpsc::unbounded_channel();
    let started = Instant::now();
    let end = started + length;
    let mut tasks = JoinSet::new();
    match load {
        Load::Closed { concurrency } => {
            for _ in 0..concurrency {
                tasks.spawn(closed_loop(client.clone(), target.clone(), end, samples.clone()));
            }
        }
        Load::Open { rate } => {
            tasks.spawn(open_loop(
                client.clone(),
                target.clone(),
                rate,
                end,
                samples.clone(),
            ));
        }
    }
    drop(samples);
    let mut report = Report::new(client.base(), target.rows);
    let mut redraw = interval(Duration::from_millis(100));
    redraw.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            sample = arriving.recv() => match sample {
                Some(Sample { latency, error: None }) => report.success(latency),
                Some(Sample { error: Some(error), .. }) => report.failure(error),
                None => break,
            },
            _ = redraw.tick() => {
                progress.set_position((started.elapsed().min(length)).as_millis() as u64);
                progress.set_message(report.short(started.elapsed()));
            }
        }
    }
    report.finish(started.elapsed());
    Ok(report)
}

async fn closed_loop(client: Client, target: Target, end: Instant, samples: mpsc::UnboundedSender<Sample>) {
    while Instant::now() < end {
        let sample = send(&client, &target, Instant::now()).await;
        let failed = sample.error.is_some();
        if samples.send(sample).is_err() {
            return;
        }
        if failed {
            // A refusing server answers in microseconds; asking it as fast as that measures nothing.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn open_loop(
    client: Client,
    target: Target,
    rate: f64,
    end: Instant,
    samples: mpsc::UnboundedSender<Sample>,
) {
    let outstanding = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    for i in 0_u32.. {
        let scheduled = started + Duration::from_secs_f64(f64::from(i) / rate);
        if scheduled >= end {
            return;
        }
        sleep_until(scheduled).await;
        if outstanding.fetch_add(1, Ordering::Relaxed) >= MOST_OUTSTANDING {
            outstanding.fetch_sub(1, Ordering::Relaxed);
            let error = format!("not sent: {MOST_OUTSTANDING} requests are outstanding");
            if samples
                .send(Sample {
                    latency: Duration::ZERO,
                    error: Some(error),
                })
                .is_err()
            {
                return;
            }
            continue;
        }
        let (client, target, samples, outstanding) = (
            client.clone(),
            target.clone(),
            samples.clone(),
            Arc::clone(&outstanding),
        );
        tokio::spawn(async move {
            let sample = send(&client, &target, scheduled).await;
            outstanding.fetch_sub(1, Ordering::Relaxed);
            // The receiver is gone only if the whole run was given up.
            let _ = samples.send(sample);
        });
    }
}

async fn send(client: &Client, target: &Target, from: Instant) -> Sample {
    let result = client
        .post(&target.path, &target.headers, target.body.clone())
        .await;
    Sample {
        latency: from.elapsed(),
        error: result.err().map(|error| format!("{error:#}")),
    }
}
