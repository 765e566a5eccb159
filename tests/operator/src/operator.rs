//! The operator's real program, as a process of its own.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use crate::child::Child;
use crate::limits::{Limits, Throttle};

/// What the chart allows it, in MiB.
const MEMORY: u64 = 256;

/// A running operator.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    call: Call,
    /// How often it has been started.
    starts: u32,
    throttle: Option<Throttle>,
}

/// What it runs under; most tests ask for nothing.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// What time it is.
    pub clock: Clock,
    /// The file with the token that says who it is. Without one the proxy says so.
    pub token: Option<PathBuf>,
    /// What it has to do with.
    pub limits: Option<Limits>,
}

/// How it is started.
#[derive(Debug, Clone)]
struct Call {
    program: PathBuf,
    arguments: Vec<String>,
    kubeconfig: String,
    logs: PathBuf,
    identity: String,
    setting: Setting,
}

/// What time it is, as the operator sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The machine's own.
    #[default]
    Right,
    /// Ten years ahead; seconds are as long as everybody's.
    TenYearsAhead,
    /// Its seconds last two thirds of a second.
    Fast,
}

/// Where Debian's `libfaketime` puts it.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

impl Clock {
    fn environment(self) -> Result<Vec<(&'static str, &'static str)>> {
        let (time, keeps_seconds) = match self {
            Self::Right => return Ok(Vec::new()),
            Self::TenYearsAhead => ("+3650d", "1"),
            Self::Fast => ("+0 x1.5", "0"),
        };
        ensure!(
            Path::new(FAKETIME).exists(),
            "{FAKETIME} is not there: run xtask/setup/setup.sh e2e first"
        );
        Ok(vec![
            ("LD_PRELOAD", FAKETIME),
            ("FAKETIME", time),
            ("FAKETIME_DONT_FAKE_MONOTONIC", keeps_seconds),
        ])
    }
}

impl Operator {
    /// Starts one in `namespace` that finds the API server at `url`. As in a pod, its name outlives a restart.
    pub fn start(namespace: &str, identity: &str, url: &str, logs: &Path, setting: Setting) -> Result<Self> {
        let kubeconfig = logs.join(format!("{identity}.kubeconfig"));
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "k", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"tokenFile": setting.token}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "current-context": "c",
        });
        fs::write(&kubeconfig, text.to_string())
            .with_context(|| format!("write {}", kubeconfig.display()))?;
        let arguments = [
            "run",
            &format!("--namespace={namespace}"),
            &format!("--identity={identity}"),
            "--agent-image=agent:1",
            "--scheduler-image=scheduler:1",
            "--metrics=127.0.0.1:0",
        ];
        let call = Call {
            program: program()?,
            arguments: arguments.map(str::to_owned).into(),
            kubeconfig: kubeconfig.to_string_lossy().into_owned(),
            logs: logs.to_owned(),
            identity: identity.to_owned(),
            setting,
        };
        let child = call.start(1)?;
        Ok(Self {
            throttle: call.throttle(&child),
            child,
            call,
            starts: 1,
        })
    }

    /// Kills it as a machine without memory would, and starts it anew as the kubelet would.
    pub fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start_again()
    }

    /// Starts it anew after it was killed.
    pub fn start_again(&mut self) -> Result<()> {
        self.starts += 1;
        self.child = self.call.start(self.starts)?;
        self.throttle = self.call.throttle(&self.child);
        Ok(())
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> Result<()> {
        self.is_well()?;
        self.child.kill()
    }

    /// Stops it where it stands.
    pub fn stop(&self) -> Result<()> {
        self.child.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub fn go_on(&self) -> Result<()> {
        self.child.signal(Signal::CONT)
    }

    /// What it has logged since its last start.
    pub fn said(&self) -> Result<String> {
        self.child.said()
    }

    /// O5: it runs, nothing in it has panicked, and it has kept to its memory.
    pub fn is_well(&mut self) -> Result<()> {
        let log = self.child.log().display().to_string();
        if let Some(end) = self.child.ended()? {
            anyhow::bail!("the operator ended by itself with {end}; {log} says why");
        }
        let said = self.child.said()?;
        ensure!(
            !said.contains("panicked"),
            "a task of the operator panicked: {log}"
        );
        let memory = self.peak_memory()?;
        ensure!(
            memory <= MEMORY,
            "the operator had {memory} MiB, and the chart allows {MEMORY}"
        );
        self.used()?;
        Ok(())
    }

    /// What it used of the little that it has, in words; an error where its limits were not in force.
    pub fn used(&self) -> Result<Option<String>> {
        let limited = self.call.setting.limits.as_ref().zip(self.throttle.as_ref());
        limited
            .map(|(limits, throttle)| limits.kept(&self.child, throttle))
            .transpose()
    }

    /// The most memory that it had since its last start, in MiB.
    pub fn peak_memory(&self) -> Result<u64> {
        self.child.peak_memory()
    }
}

impl Call {
    fn start(&self, number: u32) -> Result<Child> {
        let log = self.logs.join(format!("{}-{number}.log", self.identity));
        let mut environment = vec![("KUBECONFIG", self.kubeconfig.as_str()), ("HOME", "/nonexistent")];
        environment.extend(self.setting.clock.environment()?);
        let (mut program, mut arguments) = (self.program.clone(), self.arguments.clone());
        if let Some(limits) = &self.setting.limits {
            (program, arguments) = limits.around(&program, arguments);
            environment.extend(Limits::environment());
        }
        Child::start("afterglow-operator", &program, &arguments, &environment, &log)
    }

    fn throttle(&self, child: &Child) -> Option<Throttle> {
        let limits = self.setting.limits.as_ref()?;
        Some(limits.throttle(child.process().clone()))
    }
}

/// Cargo's target folder, in which this test lies: `target/release/deps/faults-…`.
pub fn target() -> Result<PathBuf> {
    above(3)
}

/// A folder so many levels above this test's own program.
fn above(levels: usize) -> Result<PathBuf> {
    let own = env::current_exe().context("find this test's own program")?;
    let folder = own.ancestors().nth(levels).map(Path::to_owned);
    folder.with_context(|| format!("{} lies in no target folder", own.display()))
}

/// The operator's program: in `AFTERGLOW_BIN_DIR`, or beside this test's.
fn program() -> Result<PathBuf> {
    let folder =
        env::var_os("AFTERGLOW_BIN_DIR").map_or_else(|| above(2), |folder| Ok(PathBuf::from(folder)))?;
    let program = folder.join("afterglow-operator");
    ensure!(
        program.exists(),
        "{} is not there: build it with `cargo build --release --locked -p afterglow-operator`, or run `make operator-faults`",
        program.display()
    );
    Ok(program)
}
