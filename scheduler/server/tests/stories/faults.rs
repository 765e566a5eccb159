//! Engines that die, stop, vanish and fail, with requests under way: no client notices more than it must.

use std::time::Duration;

use afterglow_proto::inference::ModelInferRequest;
use afterglow_scheduler::Limits;
use futures::future::join_all;
use tokio::time::timeout;

use crate::proxy::Wire;
use crate::upstream::{Mood, text};
use crate::world::World;

const INFER: &str = "/v2/models/m/infer";

fn request(id: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        id: id.to_string(),
        raw_input_contents: vec![id.to_le_bytes().to_vec().into()],
        ..Default::default()
    }
}

fn asked(world: &World) -> usize {
    world.upstreams.iter().map(crate::upstream::Upstream::asked).sum()
}

/// Waits until so many inferences have been asked for.
async fn until_asked(world: &World, count: usize) {
    let all_are_there = async {
        while asked(world) < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_mins(1), all_are_there)
        .await
        .expect("they arrive");
}

/// So many requests by gRPC are under way at two engines, `b` answers again, and `a` meets its fate.
async fn burst_while_the_wire_to_a_is(wire: Wire) {
    const BURST: usize = 100;
    let world = World::new(2).await;
    let client = world.grpc().await;
    // A server that has served for a while has saved up for this.
    for id in 0..600 {
        client.clone().model_infer(request(id)).await.unwrap();
    }
    let before = asked(&world);
    for upstream in &world.upstreams {
        upstream.mood(Mood::Waits);
    }
    let burst = (0..BURST).map(|id| {
        let mut client = client.clone();
        async move { (id, client.model_infer(request(id)).await) }
    });
    let fate = async {
        until_asked(&world, before + BURST).await;
        assert!(world.upstreams[0].asked() > BURST / 4, "both have their share");
        world.wires[0].set(wire);
        world.upstreams[1].let_all_go();
    };
    let (answers, ()) = tokio::join!(join_all(burst), fate);
    for (id, answer) in answers {
        let answer = answer
            .unwrap_or_else(|status| panic!("request {id}: {status}"))
            .into_inner();
        assert_eq!(answer.id, id.to_string());
        assert_eq!(answer.raw_output_contents, request(id).raw_input_contents);
        assert_eq!(answer.outputs[0].name, "b");
    }
    let attempts = asked(&world) - before;
    assert!(
        attempts <= 2 * BURST,
        "none is sent more than twice: {attempts} of {BURST}"
    );
    // And what comes now goes where somebody answers, without a try at the other.
    let there = world.upstreams[0].asked();
    for id in 0..50 {
        client.clone().model_infer(request(id)).await.unwrap();
    }
    assert_eq!(world.upstreams[0].asked(), there);
}

#[tokio::test]
async fn a_hundred_requests_under_way_at_an_engine_that_is_killed_are_answered_by_the_other() {
    burst_while_the_wire_to_a_is(Wire::Cut).await;
}

#[tokio::test]
async fn a_hundred_requests_under_way_at_a_node_without_power_are_answered_by_the_other() {
    burst_while_the_wire_to_a_is(Wire::Blackhole).await;
}

#[tokio::test]
async fn a_hundred_requests_under_way_at_an_engine_that_is_stopped_are_answered_by_the_other() {
    burst_while_the_wire_to_a_is(Wire::Freeze).await;
}

#[tokio::test]
async fn requests_by_rest_under_way_at_an_engine_that_vanishes_are_answered_by_the_other() {
    for wire in [Wire::Cut, Wire::Blackhole, Wire::Freeze] {
        let world = World::new(2).await;
        for upstream in &world.upstreams {
            upstream.mood(Mood::Waits);
        }
        let fate = async {
            until_asked(&world, 8).await;
            world.wires[0].set(wire);
            world.upstreams[1].let_all_go();
        };
        let burst = join_all((0..8).map(|_| world.post(INFER, &[], b"{\"inputs\":[]}")));
        let (answers, ()) = tokio::join!(burst, fate);
        for answer in answers {
            assert_eq!(answer.status(), 200, "{wire:?} {answer:?}");
            assert_eq!(answer.headers()["asked-by"], "b");
            assert_eq!(text(answer.body()), "{\"inputs\":[]}");
        }
    }
}

#[tokio::test]
async fn an_engine_that_comes_back_gets_requests_again_without_a_client_noticing() {
    for wire in [Wire::Cut, Wire::Blackhole, Wire::Freeze] {
        let world = World::new(2).await;
        world.wires[0].set(wire);
        for _ in 0..20 {
            let answer = world.post(INFER, &[], b"{}").await;
            assert_eq!(answer.status(), 200, "{wire:?}: {answer:?}");
        }
        world.wires[0].set(Wire::Pass);
        world
            .until("`a` is asked again", |answer| {
                assert_eq!(answer.status(), 200, "{wire:?}: {answer:?}");
                answer.headers()["asked-by"] == "a"
            })
            .await;
    }
}

#[tokio::test]
async fn sessions_leave_an_engine_that_is_lost_too() {
    let world = World::new(2).await;
    for session in 0..8 {
        let session = session.to_string();
        let headers = [("x-afterglow-session", session.as_str())];
        assert_eq!(world.post(INFER, &headers, b"{}").await.status(), 200);
    }
    world.wires[0].set(Wire::Cut);
    for session in 0..8 {
        let session = session.to_string();
        let headers = [("x-afterglow-session", session.as_str())];
        let answer = world.post(INFER, &headers, b"{}").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["asked-by"], "b");
    }
}

#[tokio::test]
async fn a_short_answer_that_breaks_off_comes_whole_from_another_replica() {
    let world = World::new(2).await;
    world.upstreams[0].mood(Mood::Half(1000));
    let fate = async {
        // Sooner or later one goes there.
        let there = async {
            while world.upstreams[0].asked() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_mins(1), there)
            .await
            .expect("`a` is asked");
        world.wires[0].set(Wire::Cut);
    };
    let requests = join_all((0..8).map(|_| world.post(INFER, &[], b"{}")));
    let (answers, ()) = tokio::join!(requests, fate);
    for answer in answers {
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.headers()["asked-by"], "b");
    }
}

#[tokio::test]
async fn a_long_answer_that_breaks_off_or_never_ends_is_an_error_and_not_an_eternity() {
    let limits = Limits {
        deadline: Duration::from_secs(2),
        ..Limits::default()
    };
    for wire in [Wire::Pass, Wire::Cut, Wire::Blackhole] {
        let world = World::limited(1, limits, Duration::ZERO).await;
        world.upstreams[0].mood(Mood::Half(1 << 20));
        let fate = async {
            until_asked(&world, 1).await;
            world.wires[0].set(wire);
        };
        let (answer, ()) = tokio::join!(
            timeout(Duration::from_secs(40), world.try_post(INFER, b"{}")),
            fate
        );
        let (status, body) = answer.expect("it ends");
        if status == 200 {
            assert!(body.is_err(), "{wire:?}: half of an answer is none");
        }
        let none =
            |line: &str| line.starts_with("afterglow_scheduler_requests_in_flight{") && line.ends_with(" 0");
        let over = async { while !text(world.page("/metrics").await.body()).lines().any(none) {} };
        timeout(Duration::from_mins(1), over)
            .await
            .expect("it is not counted any more");
    }
}

#[tokio::test]
async fn the_only_replica_is_asked_again_when_its_connection_breaks_and_it_is_back_in_a_moment() {
    let world = World::new(1).await;
    world.upstreams[0].mood(Mood::Waits);
    let fate = async {
        until_asked(&world, 1).await;
        world.wires[0].set(Wire::Cut);
        world.upstreams[0].let_all_go();
        world.wires[0].set(Wire::Pass);
    };
    let (answer, ()) = tokio::join!(world.post(INFER, &[], b"{}"), fate);
    assert_eq!(answer.status(), 200, "{answer:?}");
}

#[tokio::test]
async fn a_replica_that_fails_at_once_is_left_alone_and_its_requests_are_answered_by_another() {
    let world = World::new(2).await;
    world.upstreams[0].mood(Mood::Fails);
    let mut client = world.grpc().await;
    for id in 0..30 {
        let answer = client.model_infer(request(id)).await.unwrap().into_inner();
        assert_eq!(answer.outputs[0].name, "b");
        assert_eq!(world.post(INFER, &[], b"{}").await.status(), 200);
    }
    let there = world.upstreams[0].asked();
    assert!(there < 10, "its quick answers attract nothing: {there} of 60");
}

#[tokio::test]
async fn an_error_that_every_replica_gives_is_told_after_two_and_half_of_them_stay_in_use() {
    let world = World::new(3).await;
    for upstream in &world.upstreams {
        upstream.mood(Mood::Fails);
    }
    let refused = world.grpc().await.model_infer(request(1)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::Internal, "the kernel failed")
    );
    assert_eq!(asked(&world), 2);
    for _ in 0..30 {
        assert_eq!(world.post(INFER, &[], b"{}").await.status(), 500);
    }
    for upstream in &world.upstreams {
        upstream.mood(Mood::Answers);
    }
    assert_eq!(
        world.post(INFER, &[], b"{}").await.status(),
        200,
        "somebody is still asked"
    );
}
