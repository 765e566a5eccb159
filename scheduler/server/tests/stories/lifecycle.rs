use std::sync::Arc;
use std::time::Duration;

use afterglow_proto::load::load_server::{Load, LoadServer};
use afterglow_proto::load::{Model, Report, WatchRequest};
use afterglow_scheduler::Limits;
use tokio_stream::wrappers::{IntervalStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::upstream::{Mood, listen, text};
use crate::world::World;

#[tokio::test]
async fn an_end_takes_nobodys_request_away() {
    let world = World::limited(1, Limits::default(), Duration::from_millis(300)).await;
    world.upstreams[0].mood(Mood::Waits);
    let running = world.post("/v2/models/m/infer", &[], b"{}");
    let end = async {
        world.upstreams[0].arrived().await;
        world.stop.cancel();
        // Not ready at once, so that nobody sends more, and open for those who have not heard of it.
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while world.page("/readyz").await.status() == 200 {
            assert!(tokio::time::Instant::now() < until, "still ready");
        }
        assert_eq!(world.get("/v2/health/ready").await.status(), 503);
        assert_eq!(world.get("/v2/health/live").await.status(), 200);
        world.upstreams[0].let_go();
    };
    let (answer, ()) = tokio::join!(running, end);
    assert_eq!(answer.status(), 200);
    let served = tokio::time::timeout(Duration::from_secs(40), world.served).await;
    served.expect("it ends").unwrap().unwrap();
}

struct Node(tokio::sync::watch::Receiver<Report>);

#[tonic::async_trait]
impl Load for Node {
    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<Report, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        // Again every 100 ms: silence would mean that nothing is known.
        let mut reports = self.0.clone();
        let again = IntervalStream::new(tokio::time::interval(Duration::from_millis(100)));
        let again = again.map(move |_| Ok(reports.borrow_and_update().clone()));
        Ok(Response::new(Box::pin(again)))
    }
}

#[tokio::test]
async fn load_that_a_node_reports_sends_requests_elsewhere() {
    let world = World::new(2).await;
    let model = |name: &str, waiting| Model {
        name: name.into(),
        ready: true,
        waiting,
        max_batch_size: 1,
        run_microseconds: 1000,
        ..Model::default()
    };
    let report = Report {
        models: vec![model("team.a", 50), model("team.b", 0)],
        ..Report::default()
    };
    let (_reports, reports_in) = tokio::sync::watch::channel(report);
    let listener = listen().await;
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(LoadServer::new(Node(reports_in)))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    world.fleet.send_modify(|fleet| {
        let mut new = afterglow_scheduler::Fleet::clone(fleet);
        new.load.insert("n".into(), address);
        *fleet = Arc::new(new);
    });
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    let heard = "afterglow_scheduler_load_report_age_seconds{gpu_node=\"n\"";
    while !text(world.page("/metrics").await.body()).contains(heard) {
        assert!(tokio::time::Instant::now() < until, "no report was heard");
    }
    for _ in 0..20 {
        let answer = world.post("/v2/models/m/infer", &[], b"{}").await;
        assert_eq!(answer.headers()["asked-by"], "b", "50 wait at a");
    }
    // By now there is something to show of everything.
    let page = text(world.page("/metrics").await.body());
    crate::metrics_table::agrees("scheduler", &page, &["inference_cluster"]);
}
