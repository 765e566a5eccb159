//! Stories of requests, with an executor that waits at a gate.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use afterglow_policy::batch::Limits;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::{Error, Kind};

/// Negates numbers; refuses 0; reports each batch and waits at a gate for permission where there is one.
struct Negate {
    seen: mpsc::Sender<Vec<i64>>,
    gate: Option<mpsc::Receiver<()>>,
    cut: bool,
}

type Stop = CancellationToken;

impl Execute for Negate {
    type Input = Vec<i64>;
    type Output = Vec<i64>;
    type Key = usize;
    type Batch = Vec<i64>;
    type Outcome = Vec<i64>;
    type Stop = Stop;

    fn stopper(&self) -> Result<Stop> {
        Ok(Stop::new())
    }
    fn stop(stop: &Stop) {
        stop.cancel();
    }
    fn gather(&self, inputs: &[&Vec<i64>]) -> Result<Vec<i64>> {
        Ok(inputs.iter().flat_map(|input| input.iter().copied()).collect())
    }
    fn run(&mut self, batch: Vec<i64>, stop: &Stop) -> Result<Vec<i64>> {
        self.seen.send(batch.clone()).unwrap();
        if let Some(gate) = &self.gate {
            loop {
                match gate.recv_timeout(Duration::from_millis(1)) {
                    Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) if stop.is_cancelled() => {
                        return Err(Error::new(Kind::Cancelled, "stopped"));
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                }
            }
        }
        assert!(!batch.contains(&13), "thirteen");
        if batch.contains(&0) {
            return Err(Error::invalid("a zero"));
        }
        Ok(batch.iter().map(|v| -v).collect())
    }
    fn scatter(&self, outcome: Vec<i64>, inputs: &[&Vec<i64>], rows: &[usize]) -> Result<Vec<Vec<i64>>> {
        if self.cut && inputs.len() > 1 {
            return Err(Error::internal("cannot be cut"));
        }
        let mut rest = outcome.as_slice();
        Ok(rows
            .iter()
            .map(|&n| {
                let (head, tail) = rest.split_at(n);
                rest = tail;
                head.to_vec()
            })
            .collect())
    }
}

struct Stage {
    queue: Queue<Negate>,
    seen: mpsc::Receiver<Vec<i64>>,
    open: Option<mpsc::Sender<()>>,
    statistics: Arc<Statistics>,
    worker: Option<std::thread::JoinHandle<()>>,
    turn: Arc<Turn>,
}

fn stage(max: usize, delay: Duration, capacity: usize, gated: bool, cut: bool) -> Stage {
    let statistics = Arc::new(Statistics::default());
    let limits = Limits {
        max_rows: max.try_into().unwrap(),
        max_delay: delay,
        preferred_rows: Vec::new(),
    };
    let queue = Queue::new(
        "m".into(),
        limits,
        capacity,
        Arc::clone(&statistics),
        Activity::default(),
    );
    let (sender, seen) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let turn = Arc::new(Turn::default());
    let execute = Negate {
        seen: sender,
        gate: gated.then_some(gate),
        cut,
    };
    let worker = Some(spawn(&queue, execute, Arc::clone(&turn)).unwrap());
    Stage {
        queue,
        seen,
        open: gated.then_some(open),
        statistics,
        worker,
        turn,
    }
}

const EVER: Duration = Duration::from_secs(30);

impl Stage {
    fn ask(&self, values: &[i64]) -> tokio::task::JoinHandle<Result<Vec<i64>>> {
        self.ask_until(values, None, CancellationToken::new())
    }

    fn ask_until(
        &self,
        values: &[i64],
        deadline: Option<Instant>,
        cancel: CancellationToken,
    ) -> tokio::task::JoinHandle<Result<Vec<i64>>> {
        let (queue, input) = (self.queue.clone(), values.to_vec());
        tokio::spawn(async move {
            let rows = input.len();
            let request = Request {
                input,
                rows,
                key: 0,
                priority: 0,
                deadline,
                cancel,
            };
            queue.submit(request).await.map(|answer| answer.output)
        })
    }

    fn batch(&self) -> Vec<i64> {
        self.seen.recv_timeout(EVER).unwrap()
    }

    async fn until(&self, condition: impl Fn(Occupancy) -> bool) {
        let end = Instant::now() + EVER;
        while !condition(self.queue.occupancy()) {
            assert!(Instant::now() < end, "{:?}", self.queue.occupancy());
            tokio::task::yield_now().await;
        }
    }

    fn open(&self) {
        self.open.as_ref().unwrap().send(()).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.open = None;
        self.queue.close();
        self.worker.take().unwrap().join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_while_the_device_is_busy_runs_as_one_batch() {
    let stage = stage(8, Duration::ZERO, 16, true, false);
    let first = stage.ask(&[1]);
    assert_eq!(stage.batch(), [1]);
    let (second, third) = (stage.ask(&[2]), stage.ask(&[3, 4]));
    stage
        .until(|o| (o.waiting, o.waiting_rows, o.running) == (2, 3, 1))
        .await;
    stage.open();
    stage.open();
    assert_eq!(first.await.unwrap().unwrap(), [-1]);
    let mut batch = stage.batch();
    batch.sort_unstable();
    assert_eq!(batch, [2, 3, 4]);
    assert_eq!(second.await.unwrap().unwrap(), [-2]);
    assert_eq!(third.await.unwrap().unwrap(), [-3, -4]);
    let s = stage.statistics.snapshot();
    assert_eq!(s.execution_count, 2);
    assert_eq!(s.batches.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_says_so() {
    let stage = stage(1, Duration::ZERO, 2, true, false);
    let running = stage.ask(&[1]);
    stage.batch();
    let waiting = [stage.ask(&[2]), stage.ask(&[3])];
    stage.until(|o| o.waiting == 2).await;
    let error = stage.ask(&[4]).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("queue of model `m` is full"), "{error}");
    (0..3).for_each(|_| stage.open());
    for ask in std::iter::once(running).chain(waiting) {
        ask.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_while_waiting_is_never_run() {
    let stage = stage(1, Duration::ZERO, 8, true, false);
    let first = stage.ask(&[1]);
    stage.batch();
    let cancel = CancellationToken::new();
    let (second, third, fourth) = (
        stage.ask_until(&[2], None, cancel.clone()),
        stage.ask(&[3]),
        stage.ask(&[4]),
    );
    stage.until(|o| o.waiting == 3).await;
    cancel.cancel();
    assert_eq!(second.await.unwrap().unwrap_err().kind, Kind::Cancelled);
    // A dropped future leaves as well: that is what a closed connection looks like.
    third.abort();
    stage.until(|o| o.waiting == 1).await;
    stage.open();
    stage.open();
    first.await.unwrap().unwrap();
    assert_eq!(stage.batch(), [4]);
    assert_eq!(fourth.await.unwrap().unwrap(), [-4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_nobody_waits_for_is_stopped() {
    let stage = stage(4, Duration::ZERO, 8, true, false);
    let cancel = CancellationToken::new();
    let only = stage.ask_until(&[1], None, cancel.clone());
    stage.batch();
    cancel.cancel();
    assert_eq!(only.await.unwrap().unwrap_err().kind, Kind::Cancelled);
    // The gate was never opened.
    stage.until(|o| (o.waiting, o.running) == (0, 0)).await;
    assert_eq!(stage.statistics.snapshot().execution_count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_requests_that_wait_and_requests_that_run() {
    let stage = stage(1, Duration::ZERO, 8, true, false);
    let past = stage.ask_until(&[9], Some(Instant::now()), CancellationToken::new());
    assert_eq!(past.await.unwrap().unwrap_err().kind, Kind::DeadlineExceeded);
    let after = |milliseconds| Some(Instant::now() + Duration::from_millis(milliseconds));
    // The waiting one's deadline comes first: once the run is stopped, whoever still waits may run.
    let running = stage.ask_until(&[1], after(1000), CancellationToken::new());
    stage.batch();
    let waiting = stage.ask_until(&[2], after(20), CancellationToken::new());
    assert_eq!(waiting.await.unwrap().unwrap_err().kind, Kind::DeadlineExceeded);
    assert_eq!(running.await.unwrap().unwrap_err().kind, Kind::DeadlineExceeded);
    stage.until(|o| (o.waiting, o.running) == (0, 0)).await;
    assert!(
        stage.seen.try_recv().is_err(),
        "neither the past nor the waiting one ran"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_request_does_not_fail_its_neighbours() {
    let stage = stage(8, Duration::ZERO, 8, true, false);
    let first = stage.ask(&[1]);
    stage.batch();
    let asks = [stage.ask(&[2]), stage.ask(&[0]), stage.ask(&[3])];
    stage.until(|o| o.waiting == 3).await;
    (0..5).for_each(|_| stage.open());
    first.await.unwrap().unwrap();
    let [good, bad, also_good] = asks;
    assert_eq!(good.await.unwrap().unwrap(), [-2]);
    assert_eq!(bad.await.unwrap().unwrap_err().kind, Kind::Invalid);
    assert_eq!(also_good.await.unwrap().unwrap(), [-3]);
    assert_eq!(
        stage.statistics.snapshot().execution_count,
        3,
        "only what succeeded is an execution"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_cannot_be_cut_is_computed_singly() {
    let stage = stage(8, Duration::ZERO, 8, true, true);
    let first = stage.ask(&[1]);
    stage.batch();
    let asks = [stage.ask(&[2]), stage.ask(&[3])];
    stage.until(|o| o.waiting == 2).await;
    (0..4).for_each(|_| stage.open());
    first.await.unwrap().unwrap();
    for (ask, expected) in asks.into_iter().zip([-2, -3]) {
        assert_eq!(ask.await.unwrap().unwrap(), [expected]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_run_is_an_error_and_the_worker_lives_on() {
    let stage = stage(1, Duration::ZERO, 8, false, false);
    let error = stage.ask(&[13]).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Internal);
    assert!(error.message.contains("thirteen"), "{error}");
    assert_eq!(stage.ask(&[5]).await.unwrap().unwrap(), [-5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_queue_finishes_what_it_has_without_waiting_for_company() {
    let stage = stage(8, Duration::from_hours(1), 8, false, false);
    let waiting = stage.ask(&[1]);
    stage.until(|o| o.waiting == 1).await;
    stage.queue.close();
    assert_eq!(waiting.await.unwrap().unwrap(), [-1]);
    let error = stage.ask(&[2]).await.unwrap().unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_on_filling_while_another_model_has_the_device() {
    let stage = stage(8, Duration::ZERO, 8, false, false);
    let held = stage.turn.take();
    let asks = [stage.ask(&[1]), stage.ask(&[2]), stage.ask(&[3])];
    stage.until(|o| o.waiting == 3).await;
    drop(held);
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
    assert_eq!(stage.batch().len(), 3);
}
