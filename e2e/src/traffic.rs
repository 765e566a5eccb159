//! Clients that go on asking whatever the cluster is doing: on schedule, not when the last answer came, and each answer is
//! compared with the standalone one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::reference::{Reference, TEXTS};
use crate::wire;
use crate::world::{MINILM, World};

/// Below what two cores answer while they also compile kernels; the point is that none is lost.
const EVERY: Duration = Duration::from_millis(250);

/// What came back.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Right answers over REST of the first revision.
    pub plain: usize,
    /// Right answers over REST of the second one.
    pub prompted: usize,
    /// Right answers over gRPC.
    pub tensors: usize,
    /// Everything else, in words.
    pub failures: Vec<String>,
    /// The longest wait for a right answer.
    pub longest: Duration,
}

/// The clients; they stop when they are asked for their tally, or dropped.
pub struct Traffic {
    stop: CancellationToken,
    tally: Arc<Mutex<Tally>>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts both clients against MiniLM in the default namespace.
    pub fn start(world: &World) -> Result<Self> {
        let (stop, tally) = (CancellationToken::new(), Arc::default());
        let rest = Rest {
            client: wire::rest()?,
            base: world.rest()?,
            reference: Arc::new(world.reference.clone()),
        };
        let address = world.grpc()?;
        let grpc = wire::grpc(&address)?;
        let hidden = Arc::new(world.reference.hidden.clone());
        let by_rest = ask_on_schedule(stop.clone(), Arc::clone(&tally), move |turn| {
            let rest = rest.clone();
            async move { rest.ask(turn).await }
        });
        let by_grpc = ask_on_schedule(stop.clone(), Arc::clone(&tally), move |_| {
            let (mut grpc, hidden) = (grpc.clone(), Arc::clone(&hidden));
            async move {
                let found = wire::infer_tokens(&mut grpc, MINILM, Reference::tokens()).await?;
                wire::same(&found, &hidden)?;
                Ok(Kind::Tensors)
            }
        });
        Ok(Self {
            stop,
            tally,
            clients: vec![tokio::spawn(by_rest), tokio::spawn(by_grpc)],
        })
    }

    /// What came back so far.
    pub fn so_far(&self) -> Tally {
        self.tally
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Stops asking, waits for the last answers, and fails if one of them was wrong or missing.
    pub async fn nothing_lost(mut self) -> Result<Tally> {
        self.stop.cancel();
        for client in self.clients.drain(..) {
            client.await?;
        }
        let tally = self.so_far();
        let right = tally.plain + tally.prompted + tally.tensors;
        if !tally.failures.is_empty() {
            let first: Vec<&str> = tally.failures.iter().take(5).map(String::as_str).collect();
            bail!(
                "{} of {} requests failed, among them: {}",
                tally.failures.len(),
                right + tally.failures.len(),
                first.join("; ")
            );
        }
        ensure!(
            tally.tensors > 0 && tally.plain + tally.prompted > 0,
            "no request was sent: {tally:?}"
        );
        Ok(tally)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Which answer it was.
enum Kind {
    Plain,
    Prompted,
    Tensors,
}

#[derive(Clone)]
struct Rest {
    client: reqwest::Client,
    base: String,
    reference: Arc<Reference>,
}

impl Rest {
    async fn ask(&self, turn: usize) -> Result<Kind> {
        let which = turn % TEXTS.len();
        let found = wire::embed(&self.client, &self.base, None, MINILM, TEXTS[which]).await?;
        match wire::same(&found, &self.reference.plain[which]) {
            Ok(()) => Ok(Kind::Plain),
            Err(error) => wire::same(&found, &self.reference.prompted[which])
                .map(|()| Kind::Prompted)
                .map_err(|_| error.context("it is neither revision's answer")),
        }
    }
}

async fn ask_on_schedule<F>(stop: CancellationToken, tally: Arc<Mutex<Tally>>, ask: impl Fn(usize) -> F)
where
    F: Future<Output = Result<Kind>> + Send + 'static,
{
    let mut schedule = interval(EVERY);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut open = JoinSet::new();
    for turn in 0.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = schedule.tick() => {}
        }
        let (answer, tally) = (ask(turn), Arc::clone(&tally));
        open.spawn(async move {
            let sent = Instant::now();
            let answer = answer.await;
            let mut tally = tally.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match answer {
                Ok(kind) => {
                    match kind {
                        Kind::Plain => tally.plain += 1,
                        Kind::Prompted => tally.prompted += 1,
                        Kind::Tensors => tally.tensors += 1,
                    }
                    tally.longest = tally.longest.max(sent.elapsed());
                }
                Err(error) => tally.failures.push(format!("{error:#}")),
            }
        });
    }
    open.join_all().await;
}
