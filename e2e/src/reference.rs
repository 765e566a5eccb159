//! What a server without a cluster answers: the measure of every answer that the cluster gives.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::faults::Dice;
use crate::load::Question;
use crate::models::Models;
use crate::tools::Tools;
use crate::wire;

/// Sentences of several lengths.
pub const TEXTS: [&str; 6] = [
    "old hardware, new work",
    "A card from 2017 still multiplies matrices.",
    "Nobody asked the mining rig what it wanted to be when it grew up, but it is happy to answer questions now.",
    "hi",
    "Der Regen in Wien fällt auch auf den Prater.",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
];

/// Token numbers, as a client of the tensor interface sends them.
const TOKENS: [i64; 7] = [101, 2214, 8051, 1010, 2047, 2147, 102];

/// Answers of a standalone server.
#[derive(Debug, Clone)]
pub struct Reference {
    /// `minilm-1`'s vector of each text.
    pub plain: Vec<Vec<f32>>,
    /// `minilm-2`'s.
    pub prompted: Vec<Vec<f32>>,
    /// What `minilm` makes of [`Self::tokens`].
    pub hidden: Vec<f32>,
    /// What `perceptron` makes of [`Self::row`].
    pub perceptron: Vec<f32>,
    /// Many rows for `perceptron`, each with an answer that no other has.
    pub questions: Vec<Question>,
}

/// More than a scheduler has under way at a time: an answer that goes astray is another one's.
const QUESTIONS: u8 = 64;

impl Reference {
    /// Serves the packages' contents standalone, asks, and stops the server.
    pub async fn ask(tools: &Tools, models: &Models) -> Result<Self> {
        let folder = tools.target.join("standalone");
        let _ = fs::remove_dir_all(&folder);
        for name in ["minilm-1", "minilm-2", "perceptron"] {
            let version = folder.join("models").join(name).join("1");
            fs::create_dir_all(&version).with_context(|| format!("make {}", version.display()))?;
            let package = File::open(models.file(name)).with_context(|| format!("open {name}.tar"))?;
            tar::Archive::new(package)
                .unpack(&version)
                .with_context(|| format!("unpack {name}.tar"))?;
            fs::rename(version.join("model.yaml"), version.with_file_name("model.yaml"))
                .with_context(|| format!("place {name}'s model.yaml"))?;
        }
        let mut server = Standalone::start(tools, &folder)?;
        server.ready().await?;
        let rest = wire::rest()?;
        let mut answers = Self {
            plain: Vec::new(),
            prompted: Vec::new(),
            hidden: Vec::new(),
            perceptron: wire::infer(&rest, &server.rest, None, "perceptron", &Self::row()).await?,
            questions: Vec::new(),
        };
        let mut dice = Dice::new(1);
        for _ in 0..QUESTIONS {
            let row: Vec<f32> = (0..32).map(|_| dice.between(0, 64) as f32 / 16.0 - 2.0).collect();
            let wanted = wire::infer(&rest, &server.rest, None, "perceptron", &row).await?;
            if let Some(twin) = answers
                .questions
                .iter()
                .find(|other| wire::same(&other.wanted, &wanted).is_ok())
            {
                bail!(
                    "{:?} and {row:?} have the same answer: take other questions",
                    twin.row
                );
            }
            answers.questions.push(Question { row, wanted });
        }
        for text in TEXTS {
            let ask = async |model| wire::embed(&rest, &server.rest, None, model, text).await;
            answers.plain.push(ask("minilm-1").await?);
            answers.prompted.push(ask("minilm-2").await?);
        }
        let mut grpc = wire::grpc(&server.grpc)?;
        answers.hidden = wire::infer_tokens(&mut grpc, "minilm-1", Self::tokens()).await?;
        server.stop()?;
        Ok(answers)
    }

    /// One row for `perceptron`.
    pub fn row() -> Vec<f32> {
        (0..32_u8).map(|place| f32::from(place) / 16.0 - 1.0).collect()
    }

    /// One row of tokens for `minilm`.
    pub fn tokens() -> &'static [i64] {
        &TOKENS
    }
}

/// `afterglow up` on a folder; killed when it is dropped.
#[derive(Debug)]
pub struct Standalone {
    child: Child,
    log: PathBuf,
    /// Its REST address.
    pub rest: String,
    /// Its gRPC address.
    pub grpc: String,
}

impl Standalone {
    /// Starts it on ports that nobody uses.
    pub fn start(tools: &Tools, folder: &Path) -> Result<Self> {
        let ports = ports()?;
        let [http, grpc, metrics] = ports.map(|port| format!("127.0.0.1:{port}"));
        let log = folder.join("up.log");
        let file = File::create(&log).with_context(|| format!("write {}", log.display()))?;
        let child = Command::new(tools.root.join("target/release/afterglow"))
            .arg("up")
            .arg(folder)
            .args(["--http", &http, "--grpc", &grpc, "--metrics", &metrics])
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share the log file")?)
            .stderr(file)
            .spawn()
            .context("start afterglow up: build it first (make build)")?;
        Ok(Self {
            child,
            log,
            rest: format!("http://{http}"),
            grpc: format!("http://{grpc}"),
        })
    }

    /// Waits until it serves.
    pub async fn ready(&mut self) -> Result<()> {
        let rest = wire::rest()?;
        let end = Instant::now() + crate::world::FIRST_START;
        loop {
            if let Some(status) = self.child.try_wait().context("look after afterglow up")? {
                bail!("afterglow up ended with {status}: {}", self.last_words());
            }
            let asked = rest.get(format!("{}/v2/health/ready", self.rest)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("afterglow up is not ready: {}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks it to end, and expects that it ends well.
    pub fn stop(mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            kill_process(pid, Signal::TERM).context("stop afterglow up")?;
        }
        let status = crate::command::until("afterglow up has stopped", Duration::from_mins(1), || {
            self.child.try_wait().context("wait for afterglow up")
        })?;
        if !status.success() {
            bail!("afterglow up stopped with {status}: {}", self.last_words());
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three ports that nobody uses; all are held until the last is found, so that they differ.
fn ports() -> Result<[u16; 3]> {
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?);
    }
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().context("read a port")?.port();
    }
    Ok(ports)
}
