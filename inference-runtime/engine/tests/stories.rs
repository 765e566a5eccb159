//! Stories of an engine with real sessions of ONNX Runtime's CPU provider and real probes.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are not tests to clippy")]

#[path = "../../../tests/metrics_table.rs"]
mod metrics_table;
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use engine::api::{Error, Kind, ModelState};
use serde_json::json;
use support::{Repository, centred, floats, longs, lookup, request, unary};

fn reason(engine: &engine::Engine, name: &str) -> (ModelState, String) {
    let entry = engine
        .index(false)
        .into_iter()
        .find(|entry| entry.name == name)
        .unwrap();
    (entry.state, entry.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_model_is_shown_with_its_reason_and_the_others_answer() {
    let repository = Repository::new()
        .with("abs", 1, &unary("Abs"))
        .with("broken", 1, b"no model")
        .with("unknown", 1, &unary("FlashTurbo"))
        .with("typo", 1, &unary("Abs"))
        .settings("typo", "batchng: {}");
    let engine = repository.engine();
    assert!(!engine.ready());
    let mut failed: Vec<String> = engine.scan().await.into_iter().map(|(name, _)| name).collect();
    failed.sort();
    assert_eq!(failed, ["broken", "typo", "unknown"]);
    assert!(engine.ready());
    for (name, expected) in [
        ("broken", "not an ONNX model"),
        ("typo", "batchng"),
        ("unknown", "FlashTurbo"),
    ] {
        let (state, reason) = reason(&engine, name);
        assert_eq!(state, ModelState::Unavailable);
        assert!(reason.contains(expected), "{reason}");
        assert!(
            !reason.contains(&repository.0.path().display().to_string()),
            "a path: {reason}"
        );
        let error = engine.metadata(name, None).unwrap_err();
        assert!(
            error.kind == Kind::Unavailable && error.message.contains(expected),
            "{error}"
        );
        assert!(!engine.model_ready(name, None).unwrap());
    }
    let answer = engine
        .infer(request("abs", vec![floats("x", &[1, 2], &[-1.5, 2.0])]))
        .await
        .unwrap();
    assert_eq!((answer.version.as_str(), answer.id.as_str()), ("1", "7"));
    assert_eq!(answer.outputs, [floats("y", &[1, 2], &[1.5, 2.0])]);
    assert_eq!(
        engine.infer(request("nobody", vec![])).await.unwrap_err().kind,
        Kind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_counted_once_and_the_metrics_agree() {
    let repository = Repository::new().with("lookup", 1, &lookup());
    let engine = repository.engine();
    assert!(engine.scan().await.is_empty());
    engine
        .infer(request("lookup", vec![longs("rows", &[2, 1], &[3, 1])]))
        .await
        .unwrap();
    for bad in [
        vec![],
        vec![floats("rows", &[1, 1], &[0.0])],
        vec![longs("rows", &[0, 1], &[])],
        vec![longs("rows", &[9, 1], &[0; 9])],
        vec![longs("rows", &[1, 1], &[4])],
    ] {
        let error: Error = engine.infer(request("lookup", bad)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
    }
    let mut late = request("lookup", vec![longs("rows", &[1, 1], &[0])]);
    late.deadline = Some(Instant::now());
    assert_eq!(engine.infer(late).await.unwrap_err().kind, Kind::DeadlineExceeded);

    let s = &engine.statistics(Some("lookup"), None).unwrap()[0];
    assert_eq!(
        (s.inference.success.count, s.inference_count, s.execution_count),
        (1, 2, 1)
    );
    assert_eq!(s.inference.fail.count, 6);
    assert!(s.last_inference > 0);
    let metrics = engine.metrics().render();
    let labels = r#"model="lookup",version="1""#;
    for line in [
        format!("nv_inference_request_success{{{labels}}} 1"),
        format!("nv_inference_count{{{labels}}} 2"),
        format!("nv_inference_exec_count{{{labels}}} 1"),
        r#"nv_inference_request_failure{model="lookup",reason="OTHER",version="1"} 5"#.to_owned(),
        r#"nv_inference_request_failure{model="lookup",reason="REJECTED",version="1"} 1"#.to_owned(),
        format!("nv_inference_pending_request_count{{{labels}}} 0"),
        "vllm:num_requests_waiting 0".to_owned(),
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
    metrics_table::agrees("engine", &metrics, &[]);
    engine.unload("lookup").await.unwrap();
    assert!(
        !engine.metrics().render().contains("lookup"),
        "a model that is gone has no series"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_index_does_not_fail_those_that_share_its_batch() {
    let repository = Repository::new().with("lookup", 1, &lookup()).settings(
        "lookup",
        "batching: { maxBatchSize: 8, maxDelay: 5s, preferredSizes: [3] }",
    );
    let engine = repository.engine();
    assert!(engine.scan().await.is_empty());
    let ask = |row: i64| {
        let engine = engine.clone();
        async move {
            engine
                .infer(request("lookup", vec![longs("rows", &[1, 1], &[row])]))
                .await
        }
    };
    let (a, bad, b) = tokio::join!(ask(1), ask(99), ask(2));
    assert_eq!(a.unwrap().outputs, [floats("y", &[1, 1], &[10.0])]);
    assert_eq!(bad.unwrap_err().kind, Kind::Invalid);
    assert_eq!(b.unwrap().outputs, [floats("y", &[1, 1], &[20.0])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_come_change_and_go_while_the_engine_runs() {
    let repository = Repository::new().with("m", 1, &unary("Abs"));
    let engine = repository.engine();
    assert!(engine.scan().await.is_empty());
    let ask = || engine.infer(request("m", vec![floats("x", &[1, 1], &[-2.0])]));
    assert_eq!(ask().await.unwrap().outputs, [floats("y", &[1, 1], &[2.0])]);

    let repository = repository.with("m", 2, &unary("Neg"));
    engine.load("m", None, Vec::new()).await.unwrap();
    assert_eq!(
        engine.metadata("m", None).unwrap().versions,
        ["2"],
        "the latest, and only it"
    );
    assert_eq!(engine.metadata("m", Some("1")).unwrap_err().kind, Kind::NotFound);
    engine
        .load(
            "m",
            Some(json!({"version_policy": {"all": {}}, "max_batch_size": 3})),
            Vec::new(),
        )
        .await
        .unwrap();
    assert_eq!(engine.metadata("m", None).unwrap().versions, ["1", "2"]);
    assert_eq!(engine.config("m", None).unwrap().max_batch_size, 3);

    // A new file that does not load leaves the old session answering.
    let repository = repository.with("m", 2, b"oops");
    assert_eq!(
        engine.load("m", None, Vec::new()).await.unwrap_err().kind,
        Kind::Unavailable
    );
    assert_eq!(ask().await.unwrap().outputs, [floats("y", &[1, 1], &[2.0])]);

    let refused = engine
        .load("m", Some(json!({"instance_group": []})), Vec::new())
        .await
        .unwrap_err();
    assert!(
        refused.kind == Kind::Invalid && refused.message.contains("instance_group"),
        "{refused}"
    );
    let files = vec![("file:1/model.onnx".to_owned(), bytes::Bytes::new())];
    assert_eq!(
        engine.load("m", None, files).await.unwrap_err().kind,
        Kind::Unimplemented
    );

    engine.unload("m").await.unwrap();
    assert_eq!(ask().await.unwrap_err().kind, Kind::Unavailable);
    assert!(reason(&engine, "m").1.contains("unloaded"));
    assert_eq!(engine.unload("nobody").await.unwrap_err().kind, Kind::NotFound);
    drop(repository);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_whose_rows_depend_on_each_other_is_not_batched() {
    let repository = Repository::new()
        .with("centred", 1, &centred())
        .with("demanded", 1, &centred())
        .settings("demanded", "batching: { maxBatchSize: 4 }");
    let engine = repository.engine();
    let failed = engine.scan().await;
    assert_eq!(engine.config("centred", None).unwrap().max_batch_size, 0);
    let rows = request("centred", vec![floats("x", &[2, 1], &[1.0, 3.0])]);
    assert_eq!(
        engine.infer(rows).await.unwrap().outputs,
        [floats("y", &[2, 1], &[-1.0, 1.0])]
    );
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].1.message.contains("depends on the other rows"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_crashes_or_stalls_takes_nothing_down() {
    let repository = Repository::new().with("m", 1, &unary("Abs"));
    let script = |name: &str, text: &str| {
        let path = repository.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let crash = script("crash", "echo out of luck >&2; kill -SEGV $$");
    let engine = repository.engine_probing_with(&crash, Duration::from_mins(1));
    let failed = engine.scan().await;
    assert!(
        failed[0].1.message.contains("crashed") && failed[0].1.message.contains("out of luck"),
        "{failed:?}"
    );

    let stall = script("stall", "exec sleep 600");
    let engine = repository.engine_probing_with(&stall, Duration::from_millis(100));
    let failed = engine.scan().await;
    assert!(failed[0].1.message.contains("was stopped"), "{failed:?}");

    let engine = repository.engine();
    assert!(engine.scan().await.is_empty());
    // What passed once is not probed again.
    let engine = repository.engine_probing_with(&crash, Duration::from_mins(1));
    assert!(engine.scan().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_call_a_model_by_its_clients_name_and_requests_by_its_folders() {
    let repository = Repository::new()
        .with("team-a.abs-1", 7, &unary("Abs"))
        .settings("team-a.abs-1", "name: abs");
    let engine = repository.engine();
    assert!(engine.scan().await.is_empty());
    let answer = engine
        .infer(request("team-a.abs-1", vec![floats("x", &[1, 1], &[-2.0])]))
        .await
        .unwrap();
    assert_eq!((answer.model.as_str(), answer.version.as_str()), ("abs", "7"));
    assert_eq!(engine.metadata("team-a.abs-1", None).unwrap().name, "abs");
    assert_eq!(engine.config("team-a.abs-1", None).unwrap().name, "abs");
    assert_eq!(
        engine.statistics(Some("team-a.abs-1"), None).unwrap()[0].name,
        "abs"
    );
    assert_eq!(engine.index(true)[0].name, "team-a.abs-1");
    assert!(engine.metrics().render().contains(r#"model="team-a.abs-1""#));
    assert_eq!(
        engine.infer(request("abs", vec![])).await.unwrap_err().kind,
        Kind::NotFound,
        "two folders may show the same name"
    );

    let _repository = repository.settings("team-a.abs-1", "name: absolute");
    engine.load("team-a.abs-1", None, Vec::new()).await.unwrap();
    assert_eq!(engine.metadata("team-a.abs-1", None).unwrap().name, "absolute");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_stream_tells_of_every_change_and_never_falls_silent() {
    use afterglow_proto::load::{WatchRequest, load_client::LoadClient};
    let repository = Repository::new().with("abs", 1, &unary("Abs"));
    let engine = repository.engine();
    let bind = async || tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listeners = engine::wire::Listeners {
        http: bind().await,
        grpc: bind().await,
        metrics: None,
    };
    let address = format!("http://{}", listeners.grpc.local_addr().unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(engine::wire::serve(engine.clone(), listeners, stop.clone()));
    let mut client = LoadClient::connect(address).await.unwrap();
    let request_all = WatchRequest {
        minimum_interval_milliseconds: 1,
    };
    let mut reports = client.watch(request_all).await.unwrap().into_inner();
    let first = reports.message().await.unwrap().unwrap();
    assert_eq!((first.sequence, first.models.len()), (1, 0));

    assert!(engine.scan().await.is_empty());
    engine
        .infer(request("abs", vec![floats("x", &[1, 1], &[-2.0])]))
        .await
        .unwrap();
    let mut last = first.sequence;
    let after_a_run = loop {
        let report = reports.message().await.unwrap().unwrap();
        assert_eq!(report.sequence, last + 1);
        last = report.sequence;
        if report
            .models
            .iter()
            .any(|model| model.runs == 1 && model.running == 0)
        {
            break report;
        }
    };
    let model = &after_a_run.models[0];
    assert_eq!(
        (model.name.as_str(), model.ready, model.waiting),
        ("abs", true, 0)
    );
    assert!(
        model.run_microseconds > 0 && model.max_batch_size == 8,
        "{model:?}"
    );
    assert!(!after_a_run.draining);
    // Nothing happens, and the stream goes on.
    for _ in 0..3 {
        reports.message().await.unwrap().unwrap();
    }
    engine.drain();
    stop.cancel();
    let mut draining = false;
    while let Some(report) = reports.message().await.unwrap() {
        draining = report.draining;
    }
    assert!(draining, "the last report says so");
    server.await.unwrap();
}

#[test]
fn a_probe_says_for_programs_why_a_model_may_not_be_served_and_keeps_what_passed() {
    let repository = Repository::new()
        .with("abs", 1, &unary("Abs"))
        .with("broken", 1, b"no model")
        .with("typo", 1, &unary("Abs"))
        .settings("typo", "batchng: {}");
    let cache = tempfile::tempdir().unwrap();
    let probe = |name: &str| -> serde_json::Value {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_afterglow-engine"))
            .args([
                "probe",
                "--device",
                "cpu",
                "--output",
                "json",
                "--seconds",
                "0.1",
                "--cached",
            ])
            .arg(repository.models().join(name))
            .env("AFTERGLOW_CACHE", cache.path())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let broken = probe("broken");
    assert_eq!(
        (&broken["verdict"], &broken["reasonCode"]),
        (&json!("failed"), &json!("invalid"))
    );
    let typo = probe("typo");
    assert_eq!(typo["reasonCode"], "invalid");
    assert!(typo["reason"].as_str().unwrap().contains("batchng"), "{typo}");
    let first = probe("abs");
    assert_eq!(first["verdict"], "passed");
    assert!(first.get("reasonCode").is_none());
    let kept = std::fs::read_dir(cache.path().join("profiles")).unwrap().count();
    assert_eq!(kept, 1, "what passed is kept, what failed is not");
    assert_eq!(
        probe("abs"),
        first,
        "load time and latencies too: it was not run again"
    );
}
