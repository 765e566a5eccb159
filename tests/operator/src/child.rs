//! A program that ends with the test that started it, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afterglow_e2e::process::Process;
use anyhow::{Context as _, Result};
use rustix::process::Signal;

/// A running program with a log of its own.
#[derive(Debug)]
pub struct Child {
    name: String,
    handle: std::process::Child,
    process: Process,
    log: PathBuf,
    started: Instant,
}

impl Child {
    /// Starts it. The signal that ends it with its starter is tied to the thread that calls this.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
        let handle = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let process = Process::read(handle.id() as i32).with_context(|| format!("{name} ended at once"))?;
        Ok(Self {
            name: name.to_owned(),
            handle,
            process,
            log: log.to_owned(),
            started: Instant::now(),
        })
    }

    /// Where its words go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it has said so far.
    pub fn said(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let status = self
            .handle
            .try_wait()
            .with_context(|| format!("ask for the end of {}", self.name))?;
        Ok(status.map(|status| status.to_string()))
    }

    /// It, for whoever sends it signals.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What `/proc` has of it under this name.
    pub fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.process.pid);
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// For how long processors have worked for it.
    pub fn worked(&self) -> Result<Duration> {
        let text = self.proc("stat")?;
        // The name, in parentheses, may hold spaces; after it the fields 3 and on: of them 14 and 15 are ticks.
        let fields = text.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(str::parse::<u64>)
            .sum::<Result<u64, _>>()
            .with_context(|| format!("read the time of {}", self.name))?;
        Ok(Duration::from_millis(
            ticks * 1000 / rustix::param::clock_ticks_per_second(),
        ))
    }

    /// The most memory that it had, in MiB.
    pub fn peak_memory(&self) -> Result<u64> {
        self.proc("status")?
            .lines()
            .find_map(|line| {
                line.strip_prefix("VmHWM:")?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .map(|kilobytes: u64| kilobytes / 1024)
            .with_context(|| format!("the status of {} has no VmHWM", self.name))
    }

    /// Ends it at once, and waits until it has ended.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.handle
            .wait()
            .with_context(|| format!("wait for the end of {}", self.name))?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself; nobody is left to tell.
        let _ = self.kill();
    }
}
