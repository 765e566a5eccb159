//! `afterglow.engine.v1.Load`: how busy the models are, for the node's agent and for schedulers.

use std::time::Duration;

use afterglow_proto::load::{Model, Report, WatchRequest, load_server};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::Engine;
use crate::api::ModelLoad;

/// Between two reports where the receiver does not say.
const INTERVAL: Duration = Duration::from_millis(50);

/// A report comes at least this often, so that silence means death.
const SILENCE: Duration = Duration::from_secs(1);

pub(super) struct Load {
    engine: Engine,
    stop: CancellationToken,
}

impl Load {
    pub(super) fn new(engine: Engine, stop: CancellationToken) -> Self {
        Self { engine, stop }
    }
}

#[tonic::async_trait]
impl load_server::Load for Load {
    type WatchStream = ReceiverStream<Result<Report, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let interval = match request.into_inner().minimum_interval_milliseconds {
            0 => INTERVAL,
            wanted => Duration::from_millis(wanted.into()).min(SILENCE),
        };
        let (engine, stop) = (self.engine.clone(), self.stop.clone());
        // One report on its way: a slow receiver gets the newest state when it has read the one before.
        let (reports, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut activity = engine.activity();
            for sequence in 1.. {
                activity.mark_unchanged();
                // Read before the report is made: the last one says that the engine is draining.
                let last = stop.is_cancelled();
                if reports.send(Ok(report(&engine, sequence, last))).await.is_err() || last {
                    return;
                }
                tokio::select! {
                    () = reports.closed() => return,
                    () = stop.cancelled() => continue,
                    () = tokio::time::sleep(interval) => {}
                }
                tokio::select! {
                    () = reports.closed() => return,
                    () = stop.cancelled() => {}
                    _ = activity.changed() => {}
                    () = tokio::time::sleep(SILENCE.saturating_sub(interval)) => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn report(engine: &Engine, sequence: u64, stopping: bool) -> Report {
    Report {
        sequence,
        node: String::new(),
        models: engine.load_report().into_iter().map(model).collect(),
        draining: stopping || engine.draining(),
    }
}

fn model(load: ModelLoad) -> Model {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Model {
        name: load.name,
        ready: load.ready,
        device: String::new(),
        waiting: count(load.waiting),
        running: count(load.running),
        waiting_rows: count(load.waiting_rows),
        max_batch_size: count(load.max_batch_size),
        run_microseconds: u64::try_from(load.run_time.as_micros()).unwrap_or(u64::MAX),
        runs: load.runs,
    }
}
