//! One engine a device: started when a replica needs it, started again when it dies, stopped when nobody needs it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::gpu_node::Device;
use afterglow_proto::load::load_client::LoadClient;
use afterglow_proto::load::{Model, Report, WatchRequest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::{Options, package};

/// The first pause before an engine that died is started again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An engine that lived this long died of something else than its start.
const SETTLED: Duration = Duration::from_mins(1);
/// From its start to its first load report.
const START: Duration = Duration::from_mins(1);
/// A report comes every second; after so many without one the process hangs.
const SILENCE: Duration = Duration::from_secs(30);
/// From the end of its reports to the end of its process, if it dies by itself.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// From SIGTERM to SIGKILL: the engine gives running requests 30 s.
const FAREWELL: Duration = Duration::from_secs(35);

/// Where an engine stands.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// It is being started; after a death with what it died of.
    Coming(Option<String>),
    /// It answers.
    Up(Arc<Up>),
}

/// An engine that answers.
#[derive(Debug)]
pub(super) struct Up {
    /// Tells this process from the one before.
    pub(super) generation: u64,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    /// The folder that it loads models from.
    pub(super) repository: PathBuf,
    pub(super) channel: Channel,
}

/// One device's engine.
#[derive(Debug)]
pub(super) struct Engine {
    standing: watch::Receiver<Standing>,
    /// One model at a time is tried on a device: two would measure each other.
    pub(super) probing: tokio::sync::Mutex<()>,
    stop: CancellationToken,
}

impl Engine {
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

/// How busy the models of each device are.
pub(super) type Loads = BTreeMap<String, Vec<Model>>;

/// How many engines' processes run, or are about to, or still end, on each device.
pub type Occupied = BTreeMap<String, usize>;

/// The engines of this node; clones are the same.
#[derive(Clone)]
pub(super) struct Engines(Arc<Inner>);

struct Inner {
    options: Options,
    devices: watch::Receiver<Vec<Device>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// A device keeps its number, and so its ports, as long as this agent lives.
    numbers: Mutex<BTreeMap<String, u16>>,
    loads: watch::Sender<Loads>,
    occupied: watch::Sender<Occupied>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Running {
    engine: Arc<Engine>,
    users: usize,
    idle_since: Instant,
}

/// Keeps a device's engine running.
pub(super) struct Using {
    engines: Engines,
    device: String,
    engine: Arc<Engine>,
}

impl std::ops::Deref for Using {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        let mut running = self.engines.running();
        if let Some(running) = running
            .get_mut(&self.device)
            .filter(|running| Arc::ptr_eq(&running.engine, &self.engine))
        {
            running.users -= 1;
            running.idle_since = Instant::now();
        }
    }
}

impl Engines {
    pub(super) fn new(
        options: Options,
        devices: watch::Receiver<Vec<Device>>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            options,
            devices,
            running: Mutex::default(),
            numbers: Mutex::default(),
            loads: watch::Sender::default(),
            occupied: watch::Sender::default(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn loads(&self) -> watch::Receiver<Loads> {
        self.0.loads.subscribe()
    }

    pub(super) fn occupied(&self) -> watch::Receiver<Occupied> {
        self.0.occupied.subscribe()
    }

    /// The engine of `device`, started unless it runs.
    pub(super) fn of(&self, device: &str) -> Using {
        let mut all = self.running();
        let running = all.entry(device.to_owned()).or_insert_with(|| {
            let (sender, standing) = watch::channel(Standing::Coming(None));
            let stop = self.0.stop.child_token();
            let supervisor = Supervisor {
                engines: self.clone(),
                device: device.to_owned(),
                standing: sender,
                stop: stop.clone(),
            };
            self.0
                .occupied
                .send_modify(|occupied| *occupied.entry(device.to_owned()).or_default() += 1);
            self.0.tasks.spawn(supervisor.run());
            Running {
                engine: Arc::new(Engine {
                    standing,
                    probing: tokio::sync::Mutex::default(),
                    stop,
                }),
                users: 0,
                idle_since: Instant::now(),
            }
        });
        running.users += 1;
        Using {
            engines: self.clone(),
            device: device.to_owned(),
            engine: Arc::clone(&running.engine),
        }
    }

    /// Stops engines that nobody has used for a while, or whose device is not offered any more.
    pub(super) fn tidy(&self) {
        let idle = self.0.options.idle_engine;
        let devices = self.0.devices.borrow().clone();
        self.running().retain(|device, running| {
            // One that is about to be lent is wanted back at once.
            let offered = devices.iter().any(|known| known.name == *device && known.offered);
            let keep = running.users > 0 || (offered && running.idle_since.elapsed() < idle);
            if !keep {
                tracing::info!(device, "no replica needs the engine any more");
                running.engine.stop.cancel();
            }
            keep
        });
    }

    /// Waits until every engine has ended, after the stop that was given.
    pub(super) async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Three addresses: gRPC, HTTP, metrics.
    fn addresses(&self, device: &str) -> std::io::Result<[SocketAddr; 3]> {
        let Options {
            address, first_port, ..
        } = self.0.options;
        if first_port == 0 {
            return free_ports(address);
        }
        let mut numbers = self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for device in self.0.devices.borrow().iter() {
            let next = numbers.len() as u16;
            numbers.entry(device.name.clone()).or_insert(next);
        }
        let next = numbers.len() as u16;
        let number = *numbers.entry(device.to_owned()).or_insert(next);
        let port = |at: u16| SocketAddr::new(address, first_port + 10 * number + at);
        Ok([port(0), port(1), port(2)])
    }
}

/// Ports that are free now; who takes one in between makes the engine end, and the next start finds others.
fn free_ports(address: IpAddr) -> std::io::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind((address, 0));
    let listeners = [bind()?, bind()?, bind()?];
    let at = |i: usize| listeners[i].local_addr();
    Ok([at(0)?, at(1)?, at(2)?])
}

struct Supervisor {
    engines: Engines,
    device: String,
    standing: watch::Sender<Standing>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let mut pause = PAUSE;
        for generation in 1.. {
            let started = Instant::now();
            let why = self.live(generation).await;
            self.engines.0.loads.send_modify(|loads| {
                loads.remove(&self.device);
            });
            if self.stop.is_cancelled() {
                break;
            }
            tracing::warn!(device = self.device, ?pause, "{why}; it is started again");
            self.standing.send_replace(Standing::Coming(Some(why)));
            if started.elapsed() >= SETTLED {
                pause = PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // Its process has ended: from now on the device may be another's.
        self.engines.0.occupied.send_modify(|occupied| {
            if let Some(count) = occupied.get_mut(&self.device) {
                *count = count.saturating_sub(1);
            }
        });
    }

    /// One process, from its start to its end; answers what ended it.
    async fn live(&self, generation: u64) -> String {
        let name = format!("the engine of {}", self.device);
        let (mut child, up) = match self.start(generation) {
            Ok(started) => started,
            Err(why) => return format!("{name} cannot be started: {why}"),
        };
        let (words, mut last) = mpsc::channel(1);
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(log(self.device.clone(), stderr, words));
        }
        let mut ended = None;
        let why = tokio::select! {
            status = child.wait() => {
                ended = Some(status);
                String::new()
            }
            why = self.follow(&up) => format!("{name} {why} and was ended"),
            () = self.stop.cancelled() => {
                farewell(&mut child).await;
                return format!("{name} was stopped");
            }
        };
        // A process that dies breaks its reports off a moment before its end is known, and its end says more.
        let ended = match ended {
            None => tokio::time::timeout(LAST_BREATH, child.wait()).await.ok(),
            ended => ended,
        };
        let Some(status) = ended else {
            let _ = child.kill().await;
            return why;
        };
        let words = tokio::time::timeout(Duration::from_secs(1), last.recv()).await;
        let words = words.ok().flatten().unwrap_or_default();
        format!("{name} ended ({}): {}", describe(status), last_words(&words))
    }

    fn start(&self, generation: u64) -> Result<(Child, Up), String> {
        let options = &self.engines.0.options;
        let device = {
            let devices = self.engines.0.devices.borrow();
            devices.iter().find(|device| device.name == self.device).cloned()
        };
        let device = device.ok_or_else(|| format!("this node has no device `{}`", self.device))?;
        let selector = selector(&device)?;
        let folder = options.cache.join("run").join(&self.device);
        let repository = folder.join(generation.to_string());
        // A new process gets an empty folder: what its predecessor died of must not be loaded unasked.
        let made = package::remove(&folder).and_then(|()| std::fs::create_dir_all(&repository));
        made.map_err(|e| format!("`{}` cannot be made: {e}", repository.display()))?;
        let [grpc, http, metrics] = self
            .engines
            .addresses(&self.device)
            .map_err(|e| format!("no ports: {e}"))?;
        let mut command = command(options);
        command
            .arg("serve")
            .arg("--repository")
            .arg(&repository)
            .args(["--device", &selector, "--die-with-parent"])
            .args(["--grpc", &grpc.to_string(), "--http", &http.to_string()])
            .args(["--metrics", &metrics.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let child = command
            .spawn()
            .map_err(|e| format!("`{}`: {e}", options.engine.display()))?;
        let channel = Endpoint::from_shared(format!("http://{grpc}"))
            .map_err(|e| e.to_string())?
            .connect_timeout(Duration::from_secs(2))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(SILENCE)
            .connect_lazy();
        let up = Up {
            generation,
            grpc,
            http,
            repository,
            channel,
        };
        Ok((child, up))
    }

    /// Follows the engine's load reports; answers what is wrong when they end.
    async fn follow(&self, up: &Up) -> String {
        let first = tokio::time::timeout(START, async {
            loop {
                if let Ok(first) = watch_load(up.channel.clone()).await {
                    return first;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let Ok((mut reports, mut report)) = first.await else {
            return format!("did not answer within {START:?}");
        };
        self.standing.send_replace(Standing::Up(Arc::new(Up {
            generation: up.generation,
            grpc: up.grpc,
            http: up.http,
            repository: up.repository.clone(),
            channel: up.channel.clone(),
        })));
        tracing::info!(device = self.device, grpc = %up.grpc, http = %up.http, "the engine is up");
        loop {
            for model in &mut report.models {
                model.device.clone_from(&self.device);
            }
            self.engines.0.loads.send_if_modified(|loads| {
                let same = loads.get(&self.device) == Some(&report.models);
                if !same {
                    loads.insert(self.device.clone(), std::mem::take(&mut report.models));
                }
                !same
            });
            report = match tokio::time::timeout(SILENCE, reports.message()).await {
                Ok(Ok(Some(report))) => report,
                Ok(Ok(None)) => return "ended its load reports".to_owned(),
                Ok(Err(status)) => return format!("broke its load reports off ({})", status.message()),
                Err(_) => return format!("was silent for {SILENCE:?}"),
            };
        }
    }
}

async fn watch_load(channel: Channel) -> Result<(Streaming<Report>, Report), tonic::Status> {
    let mut reports = LoadClient::new(channel)
        .watch(WatchRequest {
            minimum_interval_milliseconds: 25,
        })
        .await?
        .into_inner();
    let first = reports.message().await?;
    let first = first.ok_or_else(|| tonic::Status::unavailable("no report"))?;
    Ok((reports, first))
}

/// What selects the device for an engine.
pub(super) fn selector(device: &Device) -> Result<String, String> {
    device.selector.clone().ok_or_else(|| {
        format!(
            "OpenCL does not see {}; `afterglow-agent devices` on the node says why",
            device.name
        )
    })
}

/// The engine's program with what every run of it needs.
///
/// It finds ONNX Runtime and our provider beside itself or in `/usr/lib/afterglow`. Mesa's driver for the card is off
/// unless it is asked for by name. Profiles and compiled kernels go into the agent's cache, so that they outlive the pod.
pub(super) fn command(options: &Options) -> Command {
    let mut command = Command::new(&options.engine);
    command.env("AFTERGLOW_CACHE", options.cache.join("engine"));
    if std::env::var_os("RUSTICL_ENABLE").is_none() {
        command.env("RUSTICL_ENABLE", "radeonsi");
    }
    // Ours, not an engine's.
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        command.env_remove(name);
    }
    command
}

/// Passes an engine's log lines on, and its last one for the record.
async fn log(device: String, stderr: tokio::process::ChildStderr, words: mpsc::Sender<String>) {
    let mut lines = BufReader::new(stderr).lines();
    let mut last = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::info!(target: "engine", device, "{line}");
        if !line.trim().is_empty() {
            last = line;
        }
    }
    let _ = words.send(last).await;
}

/// The last line that says something.
pub(super) fn last_words(text: &str) -> &str {
    let mut lines = text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    lines.next().unwrap_or("it said nothing")
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|e| e.to_string(), |status| status.to_string())
}

async fn farewell(child: &mut Child) {
    let asked = child
        .id()
        .and_then(|id| Pid::from_raw(id as i32))
        .map(|pid| kill_process(pid, Signal::TERM));
    if matches!(asked, Some(Ok(()))) && tokio::time::timeout(FAREWELL, child.wait()).await.is_ok() {
        return;
    }
    let _ = child.kill().await;
}
