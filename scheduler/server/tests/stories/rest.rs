use afterglow_scheduler::Limits;
use serde_json::{Value, json};

use crate::upstream::{Mood, text};
use crate::world::World;

fn error(response: &http::Response<axum::body::Bytes>) -> String {
    let value: Value = serde_json::from_slice(response.body()).unwrap();
    value["error"]
        .as_str()
        .unwrap_or_else(|| value["error"]["message"].as_str().unwrap())
        .to_owned()
}

#[tokio::test]
async fn a_body_passes_as_it_is_with_the_headers_that_explain_it() {
    let world = World::new(1).await;
    let body = b"{\"inputs\":[]}\xff\xfe\x00";
    let headers = [
        ("inference-header-content-length", "13"),
        ("traceparent", "00-1-2-01"),
        ("x-afterglow-explain", "1"),
    ];
    let answer = world.post("/v2/models/m/infer", &headers, body).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body().as_ref(), body);
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    assert_eq!(header("asked-path"), "/v2/models/team.a/infer");
    assert_eq!(header("inference-header-content-length"), "13");
    assert_eq!(header("traceparent"), "00-1-2-01");
    assert_eq!(header("x-afterglow-replica"), "team/a");
    assert_eq!(header("x-afterglow-because"), "no other replica can answer");
    let quiet = world.post("/v2/models/m/versions/1/infer", &[], b"{}").await;
    assert_eq!(
        quiet.headers()["asked-path"],
        "/v2/models/team.a/versions/1/infer"
    );
    assert!(
        quiet.headers().get("x-afterglow-replica").is_none(),
        "only who asks is told"
    );
}

#[tokio::test]
async fn the_way_around_a_replica_in_trouble_is_the_same_as_over_grpc() {
    let world = World::new(3).await;
    world.unplug(0).await;
    world.upstreams[1].mood(Mood::Busy);
    // No more than a fresh server's budget for sending again.
    for _ in 0..2 {
        let answer = world.post("/v2/models/m/infer", &[], b"{}").await;
        assert_eq!(answer.headers()["asked-by"], "c");
    }
    world.upstreams[2].mood(Mood::Missing);
    world.upstreams[1].mood(Mood::Missing);
    let answer = world.post("/v2/models/m/infer", &[], b"{}").await;
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[tokio::test]
async fn errors_have_the_shape_and_the_words_of_the_clients_protocol() {
    let world = World::new(1).await;
    for (path, body, status, told) in [
        ("/v2/models/x/infer", "{}", 404, "no model `x`"),
        ("/v2/models/m/versions/9/infer", "{}", 404, "no version `9`"),
        ("/v2/models/away/infer", "{}", 503, "DigestMismatch"),
        ("/v2/nothing", "{}", 404, "Not Found"),
        ("/v2/models/m/ready", "{}", 405, "not allowed"),
        (
            "/v2/repository/models/m/load",
            "{}",
            501,
            "apply a ModelDeployment",
        ),
        (
            "/v1/embeddings",
            r#"{"model":"x","input":"a"}"#,
            404,
            "no model `x`",
        ),
        ("/v1/embeddings", r#"{"input":"a"}"#, 400, "`model` is missing"),
        ("/v1/nothing", "{}", 404, "Not Found"),
    ] {
        let answer = world.post(path, &[], body.as_bytes()).await;
        assert_eq!(answer.status(), status, "{path} {answer:?}");
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert!(error(&answer).contains(told), "{path} {answer:?}");
    }
    world.upstreams[0].mood(Mood::Invalid);
    let answer = world.post("/v2/models/m/infer", &[], b"{}").await;
    assert_eq!(
        (answer.status().as_u16(), error(&answer).as_str()),
        (400, "model `m`: wrong shape")
    );
}

#[tokio::test]
async fn an_embeddings_request_changes_in_its_model_only() {
    let world = World::new(1).await;
    for path in ["/v1/embeddings", "/openai/v1/embeddings"] {
        let body = br#"{ "input": ["a"], "model": "m", "dimensions": 64 }"#;
        let answer = world.post(path, &[], body).await;
        assert_eq!(answer.headers()["asked-path"], "/v1/embeddings");
        assert_eq!(
            text(answer.body()),
            r#"{ "input": ["a"], "model": "team.a", "dimensions": 64 }"#
        );
    }
    let models: Value = serde_json::from_slice(world.get("/v1/models").await.body()).unwrap();
    assert_eq!(models["data"][0]["id"], "m", "{models}");
}

#[tokio::test]
async fn a_session_of_a_header_or_a_sequence_stays_with_its_replica() {
    let world = World::new(2).await;
    let mut first = None;
    for _ in 0..6 {
        let header = world
            .post("/v2/models/m/infer", &[("x-afterglow-session", "s")], b"{}")
            .await;
        let by = header.headers()["asked-by"].clone();
        assert_eq!(*first.get_or_insert(by.clone()), by);
        let body = br#"{"parameters":{"sequence_id":"s"},"inputs":[]}"#;
        let sequence = world.post("/v2/models/m/infer", &[], body).await;
        assert_eq!(
            sequence.headers()["asked-by"],
            by,
            "the same session, said otherwise"
        );
    }
}

#[tokio::test]
async fn the_namespace_comes_from_the_header_or_the_services_name() {
    let world = World::new(1).await;
    let ask =
        async |headers: &[(&str, &str)]| world.post("/v2/models/m/infer", headers, b"{}").await.status();
    assert_eq!(ask(&[]).await, 200, "the default");
    assert_eq!(ask(&[("x-afterglow-namespace", "other")]).await, 404);
    assert_eq!(ask(&[("host", "afterglow-main.other.svc:8000")]).await, 404);
    assert_eq!(
        ask(&[("host", "afterglow-main.team.svc.cluster.local")]).await,
        200
    );
    assert_eq!(ask(&[("host", "afterglow-main.afterglow-system.svc")]).await, 200);
}

#[tokio::test]
async fn what_is_asked_beside_inferences_is_answered() {
    let world = World::new(2).await;
    let json = async |path: &str| -> Value { serde_json::from_slice(world.get(path).await.body()).unwrap() };
    assert_eq!(json("/v2/health/ready").await, json!({"ready": true}));
    assert_eq!(
        json("/v2/models/m/ready").await,
        json!({"name": "m", "ready": true})
    );
    assert_eq!(world.get("/v2/models/away/ready").await.status(), 503);
    assert_eq!(world.get("/v2/models/x/ready").await.status(), 404);
    let metadata = json("/v2/models/m").await;
    assert_eq!(
        (&metadata["name"], &metadata["versions"]),
        (&json!("m"), &json!(["1", "2"]))
    );
    assert_eq!(
        json("/v2/models/m/stats").await["model_stats"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(
        json("/v2").await["extensions"]
            .as_array()
            .unwrap()
            .contains(&json!("binary_tensor_data"))
    );
    let index = world.post("/v2/repository/index", &[], b"").await;
    let index: Value = serde_json::from_slice(index.body()).unwrap();
    assert_eq!(
        index[0]["reason"],
        "team/away-1-x: DigestMismatch: it is not the file"
    );
    let ready = world
        .post("/v2/repository/index", &[], br#"{"ready":true}"#)
        .await;
    let ready: Value = serde_json::from_slice(ready.body()).unwrap();
    assert_eq!(ready.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_too_much_is_refused_and_what_fits_again_is_taken() {
    let limits = Limits {
        body_bytes: 1000,
        in_flight: 1,
        ..Limits::default()
    };
    let world = World::limited(1, limits, std::time::Duration::ZERO).await;
    let path = "/v2/models/m/infer";
    assert_eq!(world.post(path, &[], &[b' '; 1000]).await.status(), 200);
    assert_eq!(world.post(path, &[], &[b' '; 1001]).await.status(), 413);
    world.upstreams[0].mood(Mood::Waits);
    let first = world.post(path, &[], b"{}");
    let second = async {
        world.upstreams[0].arrived().await;
        let shed = world.post(path, &[], b"{}").await;
        world.upstreams[0].let_go();
        shed
    };
    let (first, shed) = tokio::join!(first, second);
    assert_eq!(first.status(), 200);
    assert_eq!(shed.status(), 429);
    assert_eq!(shed.headers()["retry-after"], "1");
    world.upstreams[0].mood(Mood::Answers);
    assert_eq!(world.post(path, &[], b"{}").await.status(), 200);
}
