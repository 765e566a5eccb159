use afterglow_proto::inference::infer_parameter::ParameterChoice;
use afterglow_proto::inference::{
    InferParameter, ModelInferRequest, ModelMetadataRequest, ModelReadyRequest, ModelStatisticsRequest,
    RepositoryIndexRequest, RepositoryModelLoadRequest, ServerReadyRequest,
};
use tokio_stream::iter;
use tonic::{Code, Request};

use crate::upstream::Mood;
use crate::world::World;

fn request(id: &str) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        id: id.into(),
        raw_input_contents: vec![vec![1, 2, 3, 4].into()],
        ..Default::default()
    }
}

fn sequence(name: &str) -> ModelInferRequest {
    let mut request = request("");
    let choice = ParameterChoice::StringParam(name.into());
    let parameter = InferParameter {
        parameter_choice: Some(choice),
    };
    request.parameters.insert("sequence_id".into(), parameter);
    request
}

#[tokio::test]
async fn a_message_reaches_its_engine_under_the_engines_name_with_trace_and_deadline() {
    let world = World::new(1).await;
    let mut asked = Request::new(request("7"));
    asked.set_timeout(std::time::Duration::from_secs(20));
    let metadata = asked.metadata_mut();
    metadata.insert("traceparent", "00-1-2-01".parse().unwrap());
    metadata.insert("authorization", "Bearer secret".parse().unwrap());
    metadata.insert("x-afterglow-explain", "1".parse().unwrap());
    let answer = world.grpc().await.model_infer(asked).await.unwrap();
    assert_eq!(answer.metadata().get("x-afterglow-replica").unwrap(), "team/a");
    assert!(answer.metadata().get("x-afterglow-because").is_some());
    let answer = answer.into_inner();
    assert_eq!((answer.model_name.as_str(), answer.id.as_str()), ("m", "7"));
    assert_eq!(answer.raw_output_contents, request("7").raw_input_contents);
    let (heard, headers) = world.upstreams[0].last();
    assert_eq!(heard.model_name, "team.a");
    assert_eq!(heard.id, "7");
    assert_eq!(headers["traceparent"], "00-1-2-01");
    assert!(headers.get("authorization").is_none(), "secrets stay here");
    assert!(headers.get("x-afterglow-explain").is_none());
    let timeout = headers["grpc-timeout"].to_str().unwrap();
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let seconds = match unit {
        "u" => number.parse::<f64>().unwrap() / 1e6,
        "m" => number.parse::<f64>().unwrap() / 1e3,
        "n" => number.parse::<f64>().unwrap() / 1e9,
        _ => number.parse().unwrap(),
    };
    assert!(seconds > 0.0 && seconds < 20.0, "{timeout}: what is left of 20 s");
}

#[tokio::test]
async fn a_replica_that_cannot_be_reached_costs_no_request() {
    let world = World::new(2).await;
    world.unplug(0).await;
    let mut client = world.grpc().await;
    for _ in 0..30 {
        let answer = client.model_infer(request("")).await.unwrap().into_inner();
        assert_eq!(answer.outputs[0].name, "b");
    }
    let metrics = crate::upstream::text(world.page("/metrics").await.body());
    let broken = |line: &&str| line.starts_with("afterglow_scheduler_broken_connections_total");
    let broken = metrics.lines().find(broken).unwrap().rsplit(' ').next().unwrap();
    let broken: usize = broken.parse().unwrap();
    assert!(
        broken < 5,
        "it is left alone after a failure: {broken} tries of 30"
    );
}

#[tokio::test]
async fn a_full_queue_sends_the_request_elsewhere_and_two_full_ones_are_told() {
    let world = World::new(2).await;
    world.upstreams[0].mood(Mood::Busy);
    let mut client = world.grpc().await;
    // No more than a fresh server's budget for sending again.
    for _ in 0..3 {
        let answer = client.model_infer(request("")).await.unwrap().into_inner();
        assert_eq!(answer.outputs[0].name, "b");
    }
    world.upstreams[1].mood(Mood::Busy);
    let refused = client.model_infer(request("")).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the queue is full")
    );
}

#[tokio::test]
async fn an_engine_without_the_model_is_a_stale_view_and_not_an_unknown_model() {
    let world = World::new(2).await;
    world.upstreams[0].mood(Mood::Missing);
    let mut client = world.grpc().await;
    let answer = client.model_infer(request("")).await.unwrap().into_inner();
    assert_eq!(answer.outputs[0].name, "b");
    world.upstreams[1].mood(Mood::Missing);
    let refused = client.model_infer(request("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_wrong_request_is_asked_once_and_told_in_the_clients_words() {
    let world = World::new(2).await;
    for upstream in &world.upstreams {
        upstream.mood(Mood::Invalid);
    }
    let refused = world.grpc().await.model_infer(request("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "model `m`: wrong shape");
    assert_eq!(
        world
            .upstreams
            .iter()
            .map(crate::upstream::Upstream::asked)
            .sum::<usize>(),
        1
    );
}

#[tokio::test]
async fn unknown_is_not_found_and_not_ready_is_unavailable_with_the_reason() {
    let world = World::new(1).await;
    let mut client = world.grpc().await;
    for (model, version, namespace, code, told) in [
        ("x", "", "team", Code::NotFound, "no model `x`"),
        ("m", "9", "team", Code::NotFound, "no version `9`"),
        ("m", "", "other", Code::NotFound, "namespace `other`"),
        (
            "away",
            "",
            "team",
            Code::Unavailable,
            "DigestMismatch: it is not the file",
        ),
        ("", "", "team", Code::InvalidArgument, "does not name a model"),
    ] {
        let mut asked = Request::new(ModelInferRequest {
            model_name: model.into(),
            model_version: version.into(),
            ..Default::default()
        });
        asked
            .metadata_mut()
            .insert("x-afterglow-namespace", namespace.parse().unwrap());
        let refused = client.model_infer(asked).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
        assert!(refused.message().contains(told), "{refused:?}");
    }
    assert_eq!(world.upstreams[0].asked(), 0);
}

#[tokio::test]
async fn a_version_is_served_by_its_replicas_only() {
    let world = World::new(3).await;
    let mut client = world.grpc().await;
    for _ in 0..10 {
        let asked = ModelInferRequest {
            model_version: "2".into(),
            ..request("")
        };
        let answer = client.model_infer(asked).await.unwrap().into_inner();
        assert_eq!(answer.outputs[0].name, "b");
    }
}

#[tokio::test]
async fn a_sequence_stays_with_its_replica_and_sequences_spread() {
    let world = World::new(2).await;
    let mut client = world.grpc().await;
    let mut seen = std::collections::BTreeSet::new();
    for name in 0..12 {
        let mut own = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let answer = client
                .model_infer(sequence(&format!("chat-{name}")))
                .await
                .unwrap();
            own.insert(answer.into_inner().outputs[0].name.clone());
        }
        assert_eq!(own.len(), 1, "chat-{name} moved: {own:?}");
        seen.extend(own);
    }
    assert_eq!(seen.len(), 2, "twelve sequences on one replica of two");
}

#[tokio::test]
async fn a_stream_answers_in_order_and_an_error_leaves_it_open() {
    let world = World::new(2).await;
    let mut unknown = request("2");
    unknown.model_name = "x".into();
    let mut marked = request("3");
    let yes = InferParameter {
        parameter_choice: Some(ParameterChoice::BoolParam(true)),
    };
    marked
        .parameters
        .insert("triton_enable_empty_final_response".into(), yes.clone());
    let requests = iter([request("1"), unknown, marked]);
    let mut answers = world
        .grpc()
        .await
        .model_stream_infer(requests)
        .await
        .unwrap()
        .into_inner();
    let mut told = Vec::new();
    let mut last = None;
    while let Some(answer) = answers.message().await.unwrap() {
        let response = answer.infer_response.unwrap();
        told.push((response.id.clone(), answer.error_message.is_empty()));
        last = Some(response);
    }
    assert_eq!(
        told,
        [("1".into(), true), ("2".into(), false), ("3".into(), true)]
    );
    assert_eq!(last.unwrap().parameters["triton_final_response"], yes);
}

#[tokio::test]
async fn a_stream_that_asked_for_it_ends_with_the_status() {
    let world = World::new(1).await;
    let mut unknown = request("1");
    unknown.model_name = "x".into();
    let mut asked = Request::new(iter([unknown, request("2")]));
    asked
        .metadata_mut()
        .insert("triton_grpc_error", "true".parse().unwrap());
    let mut answers = world
        .grpc()
        .await
        .model_stream_infer(asked)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_asked_beside_inferences_is_answered_for_the_whole_model() {
    let world = World::new(2).await;
    let mut client = world.grpc().await;
    for _ in 0..4 {
        client.model_infer(request("")).await.unwrap();
    }
    assert!(
        client
            .server_ready(ServerReadyRequest {})
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let ready = |name: &str| ModelReadyRequest {
        name: name.into(),
        version: String::new(),
    };
    assert!(client.model_ready(ready("m")).await.unwrap().into_inner().ready);
    assert!(
        !client
            .model_ready(ready("away"))
            .await
            .unwrap()
            .into_inner()
            .ready
    );
    let metadata = client.model_metadata(ModelMetadataRequest {
        name: "m".into(),
        version: String::new(),
    });
    let metadata = metadata.await.unwrap().into_inner();
    assert_eq!((metadata.name.as_str(), metadata.versions.len()), ("m", 2));
    let statistics = client.model_statistics(ModelStatisticsRequest {
        name: "m".into(),
        version: String::new(),
    });
    let statistics = statistics.await.unwrap().into_inner().model_stats;
    let sum: u64 = statistics.iter().map(|one| one.inference_count).sum();
    assert_eq!((statistics.len(), sum), (2, 4), "one line a revision");
    let index = client.repository_index(RepositoryIndexRequest::default());
    let states: Vec<_> = index
        .await
        .unwrap()
        .into_inner()
        .models
        .into_iter()
        .map(|line| (line.name, line.version, line.state))
        .collect();
    let line =
        |name: &str, version: &str, state: &str| (name.to_owned(), version.to_owned(), state.to_owned());
    assert_eq!(
        states,
        [
            line("away", "1", "UNAVAILABLE"),
            line("m", "1", "READY"),
            line("m", "2", "READY")
        ]
    );
    let load = RepositoryModelLoadRequest {
        model_name: "m".into(),
        ..Default::default()
    };
    let refused = client.repository_model_load(load).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert!(refused.message().contains("apply a ModelDeployment"));
}

#[tokio::test]
async fn a_deadline_ends_the_wait() {
    let world = World::new(1).await;
    world.upstreams[0].mood(Mood::Waits);
    let mut asked = Request::new(request(""));
    asked.set_timeout(std::time::Duration::from_millis(200));
    let refused = world.grpc().await.model_infer(asked).await.unwrap_err();
    assert!(
        matches!(refused.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{refused:?}"
    );
}
