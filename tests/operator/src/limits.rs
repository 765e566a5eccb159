//! An operator with little memory and little time, on any machine: neither root nor cgroups are asked for.
//!
//! `prlimit` bounds its data, its heap and the stacks of its threads, at which the kernel gives it no more. And it is stopped for
//! most of every tenth of a second, as the kernel does with a container that has used up its share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use afterglow_e2e::process::Process;
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use crate::child::Child;

/// Of every such time it runs for its share: what the kernel takes for containers.
const PERIOD: Duration = Duration::from_millis(100);

/// What an operator has to do with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// MiB of data that it may have; it may not be resident with more either.
    pub memory: u64,
    /// For how much of every hundred milliseconds it runs.
    pub milliseconds: u32,
}

impl Limits {
    /// The command that starts it within them.
    pub(crate) fn around(&self, program: &Path, mut arguments: Vec<String>) -> (PathBuf, Vec<String>) {
        let mut all = vec![
            format!("--data={}", self.bytes()),
            program.to_string_lossy().into_owned(),
        ];
        all.append(&mut arguments);
        ("prlimit".into(), all)
    }

    /// One thread that works, as the runtime chooses by itself in a container with less than a processor.
    pub(crate) fn environment() -> [(&'static str, &'static str); 2] {
        [("TOKIO_WORKER_THREADS", "1"), ("PATH", "/usr/bin:/bin")]
    }

    /// Lets it run for its share from now on.
    pub(crate) fn throttle(&self, process: Process) -> Throttle {
        let shared = Arc::new(Shared::default());
        let share = PERIOD * self.milliseconds / 100;
        thread::spawn({
            let shared = shared.clone();
            move || {
                while !shared.ended.load(Ordering::Relaxed) && process.alive() {
                    thread::sleep(share);
                    // Who has ended meanwhile is missed by others.
                    let _ = process.signal(Signal::STOP);
                    thread::sleep(PERIOD.saturating_sub(share));
                    if stands_still(&process) {
                        shared.stops.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = process.signal(Signal::CONT);
                }
            }
        });
        Throttle(shared)
    }

    /// Whether the limits are in force and were kept to, and what it used, in words.
    pub(crate) fn kept(&self, child: &Child, throttle: &Throttle) -> Result<String> {
        let limits = child.proc("limits")?;
        let data = limits.lines().find(|line| line.starts_with("Max data size"));
        let data = data.context("the kernel names no limit of data")?;
        ensure!(
            data.contains(&self.bytes().to_string()),
            "its data is not limited to {} MiB: {data}",
            self.memory
        );
        let memory = child.peak_memory()?;
        ensure!(
            memory <= self.memory,
            "it had {memory} MiB, and {} are allowed",
            self.memory
        );
        let (lived, stops) = (child.age(), throttle.0.stops.load(Ordering::Relaxed));
        // On a busy machine both parts of a period last longer.
        ensure!(
            u128::from(stops) >= lived.as_millis() / (3 * PERIOD.as_millis()),
            "it stood still {stops} times in {} s",
            lived.as_secs()
        );
        Ok(format!(
            "at most {memory} of {} MiB, stopped {stops} times for {} ms in {} s, of which it worked {} ms",
            self.memory,
            100 - self.milliseconds,
            lived.as_secs(),
            child.worked()?.as_millis()
        ))
    }

    fn bytes(&self) -> u64 {
        self.memory << 20
    }
}

/// Stops and continues a process until it is dropped.
#[derive(Debug)]
pub(crate) struct Throttle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ended: AtomicBool,
    /// How often it was seen to stand still.
    stops: AtomicU64,
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

fn stands_still(process: &Process) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:\tT"))
}
