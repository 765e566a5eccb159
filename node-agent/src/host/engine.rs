//! One engine a device: started when a replica needs it, started again when it dies, stopped when nobody needs it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use afterglow_crds::gpu_node::Device;
use afterglow_proto::load::load_client::LoadClient;
use afterglow_proto::load::{Report, WatchRequest};
use tokio::process::{ChildStderr, Command};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::loads::Published;
use super::{Options, package};
use crate::occupants::{Occupant, Occupants};
use crate::process::{self, DEATH, Process};

/// The first pause before an engine that died is started again; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// An engine that lived this long died of something else than its start.
const SETTLED: Duration = Duration::from_mins(1);
/// From its start to its first load report.
const START: Duration = Duration::from_mins(1);
/// A report comes every second; after so long without one schedulers are told to send nothing new …
const DOUBT: Duration = Duration::from_secs(2);
/// … and after so long the process hangs.
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
    pub(super) metrics: SocketAddr,
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
    /// The newest process that is to end, because it did not free what it should.
    renew: watch::Sender<u64>,
    stop: CancellationToken,
}

impl Engine {
    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Ends the process of `generation` and starts another: memory that it keeps must not be promised twice.
    pub(super) fn renew(&self, generation: u64) {
        self.renew.send_if_modified(|last| {
            let news = *last < generation;
            *last = generation.max(*last);
            news
        });
    }
}

/// One engine as seen from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vital {
    /// Where its metrics are; `None`: it does not answer.
    pub metrics: Option<SocketAddr>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u64,
}

/// The engine of each device that has had one since the agent started.
pub type Vitals = BTreeMap<String, Vital>;

/// The engines of this node; clones are the same.
#[derive(Clone)]
pub(super) struct Engines(Arc<Inner>);

struct Inner {
    options: Options,
    devices: watch::Receiver<Vec<Device>>,
    running: Mutex<BTreeMap<String, Running>>,
    /// A device keeps its number, and so its ports, as long as this agent lives.
    numbers: Mutex<BTreeMap<String, u16>>,
    /// One engine at a time is on a device: its own seat, which the next waits for.
    seats: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    occupants: Occupants,
    loads: Published,
    vitals: watch::Sender<Vitals>,
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
        let is_mine = |running: &&mut Running| Arc::ptr_eq(&running.engine, &self.engine);
        if let Some(running) = self.engines.running().get_mut(&self.device).filter(is_mine) {
            running.users -= 1;
            running.idle_since = Instant::now();
        }
        // Somebody may be waiting for the device.
        self.engines.tidy();
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
            seats: Mutex::default(),
            occupants: Occupants::default(),
            loads: Published::default(),
            vitals: watch::Sender::default(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What schedulers are told of how busy the engines are.
    pub(super) fn loads(&self) -> &Published {
        &self.0.loads
    }

    pub(super) fn vitals(&self) -> watch::Receiver<Vitals> {
        self.0.vitals.subscribe()
    }

    pub(super) fn occupants(&self) -> &Occupants {
        &self.0.occupants
    }

    fn seat(&self, device: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut seats = self.0.seats.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(seats.entry(device.to_owned()).or_default())
    }

    /// Starts the engine of `device` anew, if there is one: nobody knows any more what it has loaded.
    pub(super) fn renew(&self, device: &str) {
        if let Some(running) = self.running().get(device)
            && let Standing::Up(up) = &*running.engine.standing.borrow()
        {
            running.engine.renew(up.generation);
        }
    }

    /// The engine of `device`, started unless it runs.
    pub(super) fn of(&self, device: &str) -> Using {
        let mut all = self.running();
        let running = all.entry(device.to_owned()).or_insert_with(|| {
            let (sender, standing) = watch::channel(Standing::Coming(None));
            let stop = self.0.stop.child_token();
            let renew = watch::Sender::new(0);
            let supervisor = Supervisor {
                engines: self.clone(),
                device: device.to_owned(),
                standing: sender,
                renew: renew.subscribe(),
                stop: stop.clone(),
            };
            self.0.tasks.spawn(supervisor.run());
            Running {
                engine: Arc::new(Engine {
                    standing,
                    probing: tokio::sync::Mutex::default(),
                    renew,
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

    /// Stops engines that nobody has used for a while, and at once those that nobody uses on a device that is not offered any
    /// more or is wanted back.
    pub(super) fn tidy(&self) {
        let idle = self.0.options.idle_engine;
        let devices = self.0.devices.borrow().clone();
        let wanted = self.0.occupants.wanted_back().borrow().clone();
        self.running().retain(|device, running| {
            let offered = devices.iter().any(|known| known.name == *device && known.offered);
            let may_idle = offered && !wanted.contains(device);
            let keep = running.users > 0 || (may_idle && running.idle_since.elapsed() < idle);
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

/// A device's one place for an engine; its processes hold it until they have really ended.
type Seat = Arc<(OwnedMutexGuard<()>, Occupant)>;

struct Supervisor {
    engines: Engines,
    device: String,
    standing: watch::Sender<Standing>,
    renew: watch::Receiver<u64>,
    stop: CancellationToken,
}

impl Supervisor {
    async fn run(self) {
        let Some(seat) = self.seat().await else { return };
        let mut pause = PAUSE;
        self.note(|_| ());
        for generation in 1.. {
            let started = Instant::now();
            let why = self.live(generation, &seat).await;
            self.note(|vital| vital.metrics = None);
            if self.stop.is_cancelled() {
                self.unload();
                break;
            }
            tracing::warn!(device = self.device, ?pause, "{why}; it is started again");
            self.note(|vital| vital.restarts += 1);
            self.lost(why);
            if started.elapsed() >= SETTLED {
                pause = PAUSE;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Writes down what is to be seen of the engine from outside.
    fn note(&self, change: impl FnOnce(&mut Vital)) {
        self.engines.0.vitals.send_modify(|vitals| {
            change(vitals.entry(self.device.clone()).or_default());
        });
    }

    /// Waits until the device's former engine has really ended: it has the memory, and the ports.
    async fn seat(&self) -> Option<Seat> {
        let seat = self.engines.seat(&self.device);
        let waits = async {
            let mut turn = pin!(seat.lock_owned());
            if let Ok(turn) = tokio::time::timeout(FAREWELL + DEATH, &mut turn).await {
                return turn;
            }
            self.lost(held(&format!("the former engine of {} was stopped", self.device)));
            turn.await
        };
        let turn = self.stop.run_until_cancelled(waits).await?;
        Some(Arc::new((turn, self.engines.0.occupants.enter(&self.device))))
    }

    /// Nobody counts on the engine from now on.
    fn lost(&self, why: String) {
        self.unload();
        self.standing.send_replace(Standing::Coming(Some(why)));
    }

    fn unload(&self) {
        self.engines.0.loads.remove(&self.device);
    }

    /// One process, from its start to its end; answers what ended it.
    async fn live(&self, generation: u64, seat: &Seat) -> String {
        let name = format!("the engine of {}", self.device);
        let (mut process, up) = match self.start(generation, seat) {
            Ok(started) => started,
            Err(why) => return format!("{name} cannot be started: {why}"),
        };
        let (words, mut last) = mpsc::channel(1);
        if let Some(stderr) = process.take_stderr() {
            tokio::spawn(log(self.device.clone(), stderr, words));
        }
        let mut ended = None;
        let why = tokio::select! {
            status = process.ended() => {
                ended = Some(status);
                String::new()
            }
            why = self.follow(&up) => format!("{name} {why} and was ended"),
            () = self.renewed(generation) => format!("{name} did not free a model and was ended"),
            () = self.stop.cancelled() => {
                self.engines.0.loads.doubt(&self.device);
                self.farewell(&process).await;
                return format!("{name} was stopped");
            }
        };
        // A process that dies breaks its reports off a moment before its end is known, and its end says more.
        let ended = match ended {
            None => tokio::time::timeout(LAST_BREATH, process.ended()).await.ok(),
            ended => ended,
        };
        let Some(status) = ended else {
            self.end(&process, &why).await;
            return why;
        };
        let words = tokio::time::timeout(Duration::from_secs(1), last.recv()).await;
        let words = words.ok().flatten().unwrap_or_default();
        let words = process::last_words(&words).unwrap_or("it said nothing");
        format!("{name} ended ({status}): {words}")
    }

    /// Until this process is to be replaced by another.
    async fn renewed(&self, generation: u64) {
        let mut renew = self.renew.clone();
        if renew.wait_for(|last| *last >= generation).await.is_err() {
            // Nobody is left who could ask.
            std::future::pending::<()>().await;
        }
    }

    /// Ends a process that does not answer. What it served is said to be gone before, because its end may never come.
    async fn end(&self, process: &Process, why: &str) {
        self.lost(why.to_owned());
        if process.kill().await {
            return;
        }
        let why = held(why);
        tracing::error!(device = self.device, "{why}");
        self.lost(why);
        tokio::select! {
            _ = process.ended() => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn farewell(&self, process: &Process) {
        process.ask();
        let asked = tokio::time::timeout(FAREWELL, process.ended()).await;
        if asked.is_err() && !process.kill().await {
            let why = held(&format!("the engine of {} was stopped", self.device));
            tracing::error!(device = self.device, "{why}");
        }
    }

    fn start(&self, generation: u64, seat: &Seat) -> Result<(Process, Up), String> {
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
            .args(["--device", &selector])
            .args(["--grpc", &grpc.to_string(), "--http", &http.to_string()])
            .args(["--metrics", &metrics.to_string()])
            .stdout(Stdio::null());
        let process = Process::start(command, Arc::clone(seat))
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
            metrics,
            repository,
            channel,
        };
        Ok((process, up))
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
            metrics: up.metrics,
            repository: up.repository.clone(),
            channel: up.channel.clone(),
        })));
        self.note(|vital| vital.metrics = Some(up.metrics));
        tracing::info!(device = self.device, grpc = %up.grpc, http = %up.http, "the engine is up");
        loop {
            self.engines.0.loads.report(&self.device, report);
            let mut next = pin!(reports.message());
            let next = if let Ok(next) = tokio::time::timeout(DOUBT, &mut next).await {
                Ok(next)
            } else {
                self.engines.0.loads.doubt(&self.device);
                tokio::time::timeout(SILENCE.saturating_sub(DOUBT), next).await
            };
            report = match next {
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
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "OTEL_SERVICE_NAME"] {
        command.env_remove(name);
    }
    command
}

/// Passes an engine's log lines on, and its last one for the record.
async fn log(device: String, stderr: ChildStderr, words: mpsc::Sender<String>) {
    let mut last = String::new();
    process::lines(stderr, |line| {
        tracing::info!(target: "engine", device, "{line}");
        if !line.trim().is_empty() {
            line.clone_into(&mut last);
        }
    })
    .await;
    let _ = words.send(last).await;
}

/// A process that even SIGKILL has not ended.
fn held(why: &str) -> String {
    format!(
        "{why}, but the kernel does not let its process end: the card or its driver hangs; look into the node's kernel log, \
         and restart the node"
    )
}

#[cfg(test)]
mod tests;
