//! What every gRPC call has in common: its span, and a correction of what the gRPC library answers by itself, before any
//! handler: a client's mistake is never our `INTERNAL`, and a panic is never a broken connection.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use tonic::{Code, Status};
use tracing::Instrument as _;

use crate::wire::guard::caught;

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

pub(super) async fn mend(request: Request, next: Next) -> Response {
    let span = afterglow_telemetry::grpc(&request);
    if let Ok(mut response) = caught(next.run(request)).instrument(span.clone()).await {
        code(response.headers_mut());
        afterglow_telemetry::answered(&span, &response);
        return response;
    }
    tracing::error!("a gRPC handler panicked");
    Status::internal("the request met a bug in the server; its log has the details").into_http()
}

/// The status of an answer that is all headers: the request was refused before its handler ran, or by it.
fn code(headers: &mut HeaderMap) {
    let is = |code: Code| {
        headers
            .get(STATUS)
            .is_some_and(|status| status == HeaderValue::from(code as i32))
    };
    let said = |text: &str| {
        headers
            .get(MESSAGE)
            .and_then(|message| message.to_str().ok())
            .is_some_and(|message| message.starts_with(text))
    };
    let right = if is(Code::OutOfRange) {
        // tonic's word for a message over the limit. No handler of ours says it.
        Code::ResourceExhausted
    } else if is(Code::Internal) && (said("failed%20to%20decode") || said("Error%20decompressing")) {
        Code::InvalidArgument
    } else {
        return;
    };
    headers.insert(STATUS, HeaderValue::from(right as i32));
}

/// The same for a status that is still one.
pub(super) fn status(status: Status) -> Status {
    let message = status.message();
    let right = match status.code() {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal
            if message.starts_with("failed to decode") || message.starts_with("Error decompressing") =>
        {
            Code::InvalidArgument
        }
        _ => return status,
    };
    Status::new(right, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(status: Status) -> i32 {
        let mut response = status.clone().into_http::<axum::body::Body>();
        code(response.headers_mut());
        let over_headers = response.headers()[STATUS].to_str().unwrap().parse().unwrap();
        assert_eq!(over_headers, super::status(status).code() as i32);
        over_headers
    }

    #[test]
    fn the_clients_mistakes_are_told_apart_from_ours() {
        assert_eq!(
            mended(Status::out_of_range("Error, decoded message length too large")),
            8
        );
        assert_eq!(
            mended(Status::internal(
                "failed to decode Protobuf message: buffer underflow"
            )),
            3
        );
        assert_eq!(
            mended(Status::internal("Error decompressing: corrupt gzip stream")),
            3
        );
        assert_eq!(mended(Status::internal("the kernel failed")), 13);
        assert_eq!(mended(Status::unavailable("queue full")), 14);
    }
}
