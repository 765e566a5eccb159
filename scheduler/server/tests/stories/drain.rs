//! The scheduler's own end, under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use afterglow_proto::inference::{ModelInferRequest, ModelStreamInferResponse};
use afterglow_scheduler::Limits;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::world::World;

const INFER: &str = "/v2/models/m/infer";

fn request(id: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        id: id.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn an_end_under_load_fails_nobody_and_asks_for_the_end_of_every_connection() {
    let world = World::limited(2, Limits::default(), Duration::from_secs(2)).await;
    let (told, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Whoever sends goes on until it has heard of the end, and a little longer.
    let by_rest = join_all((0..4).map(|_| async {
        let mut after = 0;
        while after < 5 {
            let heard = told.load(Ordering::SeqCst);
            let answer = world.post(INFER, &[], b"{}").await;
            assert_eq!(answer.status(), 200);
            sent.fetch_add(1, Ordering::SeqCst);
            if heard {
                assert_eq!(answer.headers()["connection"], "close");
                after += 1;
            }
        }
    }));
    let client = world.grpc().await;
    let by_grpc = join_all((0..4).map(|_| {
        let (mut client, told) = (client.clone(), &told);
        async move {
            let mut after = 0;
            while after < 5 {
                after += usize::from(told.load(Ordering::SeqCst));
                client.model_infer(request("1")).await.unwrap();
            }
        }
    }));
    let end = async {
        while sent.load(Ordering::SeqCst) < 20 {
            tokio::task::yield_now().await;
        }
        world.stop.cancel();
        while world.page("/readyz").await.status() == 200 {
            tokio::task::yield_now().await;
        }
        told.store(true, Ordering::SeqCst);
    };
    let all = async { tokio::join!(by_rest, by_grpc, end) };
    timeout(Duration::from_mins(1), all).await.expect("it ends");
    let served = timeout(Duration::from_mins(1), world.served).await;
    served.expect("the scheduler ends").unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_that_is_open_at_the_end_is_answered_and_told_to_go_elsewhere() {
    let world = World::limited(1, Limits::default(), Duration::ZERO).await;
    let (requests, incoming) = mpsc::channel(4);
    requests.send(request("1")).await.unwrap();
    let mut client = world.grpc().await;
    let stream = client
        .model_stream_infer(ReceiverStream::new(incoming))
        .await
        .unwrap();
    let mut answers = stream.into_inner();
    let id = |answer: ModelStreamInferResponse| answer.infer_response.unwrap().id;
    assert_eq!(id(answers.message().await.unwrap().unwrap()), "1");
    world.stop.cancel();
    let told = timeout(Duration::from_secs(30), answers.message()).await;
    let told = told.expect("it ends").unwrap_err();
    assert_eq!(
        told.code(),
        Code::Unavailable,
        "an end without a word would mean that all is answered"
    );
    let served = timeout(Duration::from_mins(1), world.served).await;
    served.expect("the scheduler ends").unwrap().unwrap();
}

#[tokio::test]
async fn connections_that_are_made_while_the_end_begins_are_served() {
    let world = World::limited(1, Limits::default(), Duration::ZERO).await;
    world.stop.cancel();
    while world.page("/readyz").await.status() == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world.post(INFER, &[], b"{}").await.status(),
        200,
        "kube-proxy may not have heard yet"
    );
}
