//! Stories of an engine with real sessions of ONNX Runtime's CPU provider and real probes.
#![expect(clippy::unwrap_used, reason = "the helpers of tests are not tests to clippy")]

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
