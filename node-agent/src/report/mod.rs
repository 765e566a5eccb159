//! Tells schedulers how busy this node is: `afterglow.engine.v1.Load`, the engines' reports in one stream.
//!
//! It never goes through the Kubernetes API. A report is the whole state; a scheduler that reads slowly gets the newest
//! one when it is ready for it, and one that does not read at all is dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use afterglow_proto::load::load_server::{self, LoadServer};
use afterglow_proto::load::{Model, Report, WatchRequest};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;

/// Between two reports where the scheduler does not say.
const INTERVAL: Duration = Duration::from_millis(50);
/// A report comes at least this often, so that silence means death.
const SILENCE: Duration = Duration::from_secs(1);
/// Who has not taken a report by then is gone or stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// What one connection may have open, and may give up before it was taken: a scheduler watches once, and asks for health.
const STREAMS: u32 = 64;
/// Requests that a connection's own mistakes may make us give up, as long as it lives; tonic would set no bound.
const MISTAKES: usize = 64;
/// Largest header list, as h2 counts it.
const HEADER_LIST_BYTES: u32 = 16 << 10;

/// How busy the models of each device are.
pub type Loads = watch::Receiver<BTreeMap<String, Vec<Model>>>;

/// Serves the load of `node` on `listener`. When `stop` is cancelled every stream says that the node drains, and ends.
pub async fn serve(
    listener: TcpListener,
    node: String,
    loads: Loads,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    health.set_serving::<LoadServer<Load>>().await;
    let load = Load {
        node,
        loads,
        stop: stop.clone(),
    };
    let ended = stop.clone();
    let ending = async move {
        ended.cancelled().await;
        health.set_service_status("", ServingStatus::NotServing).await;
        health.set_not_serving::<LoadServer<Load>>().await;
    };
    let server = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(PATIENCE))
        .max_concurrent_streams(STREAMS)
        .http2_max_pending_accept_reset_streams(Some(STREAMS as usize))
        .http2_max_local_error_reset_streams(Some(MISTAKES))
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .add_service(health_service)
        .add_service(LoadServer::new(load).max_decoding_message_size(64 << 10))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), ending);
    tokio::select! {
        served = server => served,
        // A watcher of our health keeps its stream open for ever.
        () = async { stop.cancelled().await; tokio::time::sleep(PATIENCE).await } => Ok(()),
    }
}

struct Load {
    node: String,
    loads: Loads,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl load_server::Load for Load {
    type WatchStream = ReceiverStream<Result<Report, Status>>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let interval = match request.into_inner().minimum_interval_milliseconds {
            0 => INTERVAL,
            wanted => Duration::from_millis(wanted.into()).min(SILENCE),
        };
        let (node, stop) = (self.node.clone(), self.stop.clone());
        let mut loads = self.loads.clone();
        let (reports, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            for sequence in 1.. {
                let draining = stop.is_cancelled();
                let report = report(sequence, &node, &loads.borrow_and_update(), draining);
                let sent = tokio::time::timeout(PATIENCE, reports.send(Ok(report))).await;
                if draining || !matches!(sent, Ok(Ok(()))) {
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
                    changed = loads.changed() => if changed.is_err() {
                        // No host any more: the agent ends.
                        return;
                    },
                    () = tokio::time::sleep(SILENCE.saturating_sub(interval)) => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

fn report(sequence: u64, node: &str, loads: &BTreeMap<String, Vec<Model>>, draining: bool) -> Report {
    Report {
        sequence,
        node: node.to_owned(),
        models: loads.values().flatten().cloned().collect(),
        draining,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use afterglow_proto::load::load_client::LoadClient;

    fn model(device: &str, name: &str, waiting: u32) -> Model {
        Model {
            name: name.into(),
            device: device.into(),
            ready: true,
            waiting,
            ..Model::default()
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_stream_tells_of_all_engines_goes_on_and_ends_with_a_farewell() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let loads = watch::Sender::new(BTreeMap::from([(
            "gpu-0".to_owned(),
            vec![model("gpu-0", "a", 0)],
        )]));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, "node-1".into(), loads.subscribe(), stop.clone()));
        let mut client = LoadClient::connect(address.clone()).await.unwrap();
        let mut reports = client
            .watch(WatchRequest {
                minimum_interval_milliseconds: 1,
            })
            .await
            .unwrap()
            .into_inner();
        let first = reports.message().await.unwrap().unwrap();
        assert_eq!(
            (first.sequence, first.node.as_str(), first.draining),
            (1, "node-1", false)
        );
        assert_eq!(first.models, [model("gpu-0", "a", 0)]);

        loads.send_modify(|loads| {
            loads.insert("gpu-1".into(), vec![model("gpu-1", "b", 3)]);
        });
        loop {
            let report = reports.message().await.unwrap().unwrap();
            if report.models.len() == 2 {
                assert_eq!(report.models[1], model("gpu-1", "b", 3));
                break;
            }
        }
        let channel = tonic::transport::Endpoint::from_shared(address)
            .unwrap()
            .connect_lazy();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let answer = health
            .check(tonic_health::pb::HealthCheckRequest::default())
            .await
            .unwrap();
        assert_eq!(
            answer.into_inner().status,
            i32::from(ServingStatus::Serving as u8)
        );
        // Without a change too.
        let sequence = reports.message().await.unwrap().unwrap().sequence;
        assert_eq!(reports.message().await.unwrap().unwrap().sequence, sequence + 1);

        stop.cancel();
        let mut last = None;
        while let Some(report) = reports.message().await.unwrap() {
            last = Some(report);
        }
        assert!(last.unwrap().draining);
        drop((client, health));
        server.await.unwrap().unwrap();
    }
}
