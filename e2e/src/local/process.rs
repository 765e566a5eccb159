//! Processes that outlive the call that started them: with a log, a record on disk, and a decided end.

use std::fmt;
use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::state::State;
use crate::command::until;
use crate::process::Stat;
use crate::tools::Tools;

/// When the cluster ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// With the harness, however that ends: a test that is aborted leaves nothing running.
    WithStarter,
    /// When it is told to.
    WhenTold,
}

/// A process that was started: a pid alone could be somebody else's by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    pub(super) pid: i32,
    start: u64,
}

impl Recorded {
    fn of(pid: i32) -> Result<Self> {
        let start = Stat::read(pid)
            .with_context(|| format!("process {pid} ended at once"))?
            .start;
        Ok(Self { pid, start })
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let (pid, start) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    /// A zombie is gone: it only waits to be read.
    pub(super) fn alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && stat.alive())
    }

    /// Asks it to end, and insists after ten seconds.
    pub(super) fn end(&self) {
        self.signal(Signal::TERM);
        let gone = || Ok((!self.alive()).then_some(()));
        if until("the process has ended", Duration::from_secs(10), gone).is_err() {
            self.kill();
        }
    }

    /// Ends it at once and waits until it is gone.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
        let gone = || Ok((!self.alive()).then_some(()));
        // Nothing survives KILL; but a whole node in the kernel's hands takes its time on a busy machine.
        let _ = until("the process is gone", Duration::from_mins(1), gone);
    }

    /// The first child, which for `unshare --fork` is the first process of the new namespace.
    pub(super) fn child(&self) -> Result<Self> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        until("the node has its first process", Duration::from_secs(10), || {
            let text = std::fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
            Ok(text.split_whitespace().next().and_then(|pid| pid.parse().ok()))
        })
        .and_then(Self::of)
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.alive()) {
            let _ = kill_process(pid, signal); // it may have ended meanwhile, which is what is wanted
        }
    }
}

impl fmt::Display for Recorded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.pid, self.start)
    }
}

/// Starts a process with a log of its own, in a session of its own, and records it.
pub(super) fn start(tools: &Tools, state: &State, name: &str, ends: Ends, call: &[&str]) -> Result<Recorded> {
    let log = state.logs().join(format!("{name}.log"));
    let file = File::options()
        .create(true)
        .append(true)
        .open(&log)
        .with_context(|| format!("open {}", log.display()))?;
    let mut command = match ends {
        // The signal is tied to the thread that starts the child: that is the main one, or one that never ends.
        Ends::WithStarter => {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "setsid"]);
            command
        }
        Ends::WhenTold => Command::new("setsid"),
    };
    let child = command
        .args(call)
        .env_clear()
        .env("PATH", tools.path())
        .env("HOME", "/root")
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("share the log file")?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let process = Recorded::of(child.id() as i32)?;
    state.record(name, &process)?;
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alive_until_it_ends_and_a_record_of_another_start_is_not_it() {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = Recorded::of(child.id() as i32).unwrap();
        assert!(process.alive());
        assert_eq!(Recorded::parse(&process.to_string()), Some(process.clone()));
        let earlier = Recorded {
            start: process.start - 1,
            ..process.clone()
        };
        assert!(!earlier.alive());
        earlier.kill(); // must not touch it
        assert!(process.alive());
        process.end();
        assert!(!process.alive());
        child.wait().unwrap();
    }
}
