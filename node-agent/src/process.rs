//! The engine's program as a child of this process. Everything about it has an end: what is kept of its words, how long it
//! may run, how long its death is waited for, and it dies with us.
//!
//! Each child has a keeper, a task that waits for it for as long as the kernel needs. A driver that hangs can keep a process
//! from dying of SIGKILL for ever; whoever started it hears of that and goes on, while what the child `holds` (its device, its
//! ports) is given back only when it is really gone.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::watch;

/// A process that SIGKILL has not ended by then is held by the kernel: its driver waits for the card.
pub(crate) const DEATH: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });
/// Answers are lists and profiles of some KiB. More is read, so that nobody waits for us, and thrown away.
const ANSWER: u64 = 4 << 20;
/// What is kept of a process's last words.
const WORDS: usize = 16 << 10;
/// A longer line comes in pieces.
const LINE: u64 = 16 << 10;

/// A process that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    orders: watch::Sender<Order>,
    end: watch::Receiver<Option<String>>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

/// What its keeper is to do.
#[derive(Debug, Clone, Copy)]
enum Order {
    Wait,
    /// Ask it to end (SIGTERM).
    Ask,
    /// End it (SIGKILL).
    Kill,
}

/// What a process that ran to its end said.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended: `exit status: 1`, `signal: 11 (SIGSEGV)`.
    pub(crate) status: String,
    pub(crate) stdout: Vec<u8>,
    /// The end of it.
    pub(crate) stderr: String,
}

/// Why a process has no output.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It could not be started.
    Start(io::Error),
    /// It did not end in time and was killed.
    Late,
}

impl Process {
    /// Starts `command`, an `afterglow-engine`; `holds` is dropped when it has ended.
    pub(crate) fn start(mut command: Command, holds: impl Send + 'static) -> io::Result<Self> {
        let mut child = command
            .arg(format!("--die-with-parent={}", std::process::id()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (orders, told) = watch::channel(Order::Wait);
        let (ended, end) = watch::channel(None);
        tokio::spawn(keep(child, told, ended, holds));
        Ok(Self {
            orders,
            end,
            stdout,
            stderr,
        })
    }

    /// Runs `command` to its end, but not longer than `limit`.
    pub(crate) async fn run(
        mut command: Command,
        limit: Duration,
        holds: impl Send + 'static,
    ) -> Result<Output, Failed> {
        command.stdout(Stdio::piped());
        let mut process = Self::start(command, holds).map_err(Failed::Start)?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let work = async { tokio::join!(head(stdout), tail(stderr), process.ended()) };
        let (stdout, stderr, status) = tokio::time::timeout(limit, work)
            .await
            .map_err(|_| Failed::Late)?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Waits for its end; answers how it ended.
    pub(crate) async fn ended(&self) -> String {
        let mut end = self.end.clone();
        let status = end.wait_for(Option::is_some).await;
        let status = status.ok().and_then(|status| status.clone());
        status.unwrap_or_else(|| "nobody waited for it".to_owned())
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn ask(&self) {
        self.orders.send_replace(Order::Ask);
    }

    /// Ends it (SIGKILL); answers whether that is done, or the kernel holds it.
    pub(crate) async fn kill(&self) -> bool {
        self.orders.send_replace(Order::Kill);
        tokio::time::timeout(DEATH, self.ended()).await.is_ok()
    }

    pub(crate) fn take_stderr(&mut self) -> Option<ChildStderr> {
        self.stderr.take()
    }

    /// A process that nothing can end, and what ends it nevertheless.
    #[cfg(test)]
    pub(crate) fn held_by_the_kernel() -> (Self, watch::Sender<Option<String>>) {
        let (ended, end) = watch::channel(None);
        let process = Self {
            orders: watch::Sender::new(Order::Wait),
            end,
            stdout: None,
            stderr: None,
        };
        (process, ended)
    }
}

async fn keep(
    mut child: Child,
    mut orders: watch::Receiver<Order>,
    ended: watch::Sender<Option<String>>,
    holds: impl Send,
) {
    let status = loop {
        let order = tokio::select! {
            status = child.wait() => break status,
            changed = orders.changed() => match changed {
                Ok(()) => *orders.borrow_and_update(),
                // Whoever started it is gone.
                Err(_) => Order::Kill,
            }
        };
        match order {
            Order::Wait => {}
            // It has not been waited for, so its number is still its own.
            Order::Ask => {
                if let Some(pid) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            Order::Kill => {
                let _ = child.start_kill();
                break child.wait().await;
            }
        }
    };
    // Who hears of the end finds free what it held.
    drop(holds);
    ended.send_replace(Some(
        status.map_or_else(|e| e.to_string(), |status| status.to_string()),
    ));
}

async fn head(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let _ = (&mut stream).take(ANSWER).read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}

async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let mut buffer = vec![0; 4 << 10];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            kept.extend_from_slice(&buffer[..n]);
            if kept.len() > 2 * WORDS {
                kept.drain(..kept.len() - WORDS);
            }
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Hands each line of a stream over, whatever bytes are in it: drivers write into an engine's log too.
pub(crate) async fn lines(stream: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stream).take(LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => each(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r'])),
        }
    }
}

/// The last line that says something, if there is one.
pub(crate) fn last_words(text: &str) -> Option<&str> {
    let mut lines = text.lines().rev().map(str::trim);
    lines.find(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const EVER: Duration = Duration::from_mins(1);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script, "engine"]);
        command
    }

    #[tokio::test]
    async fn a_process_that_talks_without_end_costs_no_more_memory_than_one_that_does_not() {
        let script = "head -c 9000000 /dev/zero; head -c 9000000 /dev/zero >&2; echo the last >&2; exit 3";
        let output = Process::run(shell(script), EVER, ()).await.unwrap();
        assert_eq!(output.stdout.len() as u64, ANSWER);
        assert!(output.stderr.len() <= 2 * WORDS, "{}", output.stderr.len());
        assert!(output.stderr.ends_with("the last\n"));
        assert_eq!(output.status, "exit status: 3", "nobody made it wait");
    }

    #[tokio::test]
    async fn a_line_of_any_bytes_is_a_line_and_an_endless_one_comes_in_pieces() {
        let mut bytes = b"first\nbad \xff byte\r\n\n".to_vec();
        bytes.resize(bytes.len() + 40_000, b'x');
        bytes.extend(b"\nlast");
        let mut got = Vec::new();
        lines(&bytes[..], |line| got.push(line.to_owned())).await;
        assert_eq!(got[..3], ["first", "bad \u{fffd} byte", ""]);
        let long: Vec<usize> = got[3..].iter().map(String::len).collect();
        assert_eq!(long, [16 << 10, 16 << 10, 40_000 - (32 << 10), 4]);
    }

    #[tokio::test]
    async fn what_a_process_holds_is_free_when_it_has_ended_and_not_before() {
        let held = Arc::new(());
        let process = Process::start(shell("exec sleep 600"), Arc::clone(&held)).unwrap();
        assert_eq!(Arc::strong_count(&held), 2);
        // Perhaps not at once, on a busy machine.
        process.kill().await;
        assert_eq!(process.ended().await, "signal: 9 (SIGKILL)");
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn a_process_is_asked_before_it_is_killed_and_killed_when_nobody_has_it_any_more() {
        let script = "trap 'exit 7' TERM; echo ready >&2; while :; do sleep 0.01; done";
        let mut process = Process::start(shell(script), ()).unwrap();
        let mut stderr = process.take_stderr().unwrap();
        stderr.read_exact(&mut [0; 6]).await.unwrap();
        process.ask();
        assert_eq!(process.ended().await, "exit status: 7");

        let dropped = Process::start(shell("exec sleep 600"), ()).unwrap();
        let mut end = dropped.end.clone();
        drop(dropped);
        let ended = tokio::time::timeout(EVER, end.wait_for(Option::is_some)).await;
        assert!(ended.unwrap().unwrap().as_deref().unwrap().contains("signal: 9"));
    }

    #[tokio::test]
    async fn a_process_that_the_kernel_holds_is_said_to_be_held() {
        let (process, ended) = Process::held_by_the_kernel();
        assert!(!process.kill().await);
        ended.send_replace(Some("signal: 9".to_owned()));
        assert!(process.kill().await);
    }

    #[tokio::test]
    async fn a_process_is_told_whose_child_it_is() {
        let output = Process::run(shell("echo $1"), EVER, ()).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(said.trim(), format!("--die-with-parent={}", std::process::id()));
    }
}
