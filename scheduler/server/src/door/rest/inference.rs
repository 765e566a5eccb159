//! `POST /v2/models/{model}[/versions/{version}]/infer`: the body passes as it is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Method;

use super::answer::Failure;
use super::forward::forward;
use super::path::Target;
use super::{body, splice};
use crate::send::Scheduler;
use crate::send::web::{NotFound, Outgoing, towards_engine};

pub(super) async fn infer(
    State(scheduler): State<Arc<Scheduler>>,
    target: Target,
    body: Body,
) -> Result<Response, Failure> {
    let (room, body) = body::admit(&scheduler.admission, body).await?;
    let mut call = target.call();
    call.bytes = body.len() as u64;
    call.inference = true;
    if call.session.is_none() {
        call.session = splice::sequence(&body, &target.headers);
    }
    let headers = towards_engine(&target.headers);
    let response = forward(&scheduler, &target, &call, Some(room), |replica| Outgoing {
        method: Method::POST,
        path: match &target.version {
            Some(version) => format!("/v2/models/{}/versions/{version}/infer", replica.engine_model),
            None => format!("/v2/models/{}/infer", replica.engine_model),
        },
        headers: headers.clone(),
        body: body.clone(),
        not_found: NotFound::Gone,
    })
    .await?;
    Ok(response)
}
