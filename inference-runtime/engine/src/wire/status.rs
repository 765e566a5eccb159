//! One table from kinds of failure to what each protocol calls them.

use http::StatusCode;
use tonic::Code;

use crate::api::{Error, Kind};

/// A kind's names on the wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// REST and OpenAI.
    pub(crate) http: StatusCode,
    /// gRPC.
    pub(crate) grpc: Code,
    /// `error.type` of the OpenAI endpoints.
    pub(crate) openai: &'static str,
    /// Whether the same request may succeed a little later.
    pub(crate) retry: bool,
}

/// What a kind is called.
pub(crate) const fn of(kind: Kind) -> Status {
    let (http, grpc, openai, retry) = match kind {
        Kind::Invalid => (
            StatusCode::BAD_REQUEST,
            Code::InvalidArgument,
            "invalid_request_error",
            false,
        ),
        Kind::NotFound => (
            StatusCode::NOT_FOUND,
            Code::NotFound,
            "invalid_request_error",
            false,
        ),
        Kind::TooLarge => (
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::ResourceExhausted,
            "invalid_request_error",
            false,
        ),
        Kind::UnsupportedEncoding => (
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Code::Unimplemented,
            "invalid_request_error",
            false,
        ),
        Kind::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
            "server_error",
            true,
        ),
        Kind::DeadlineExceeded => (
            StatusCode::GATEWAY_TIMEOUT,
            Code::DeadlineExceeded,
            "timeout_error",
            false,
        ),
        // Nobody reads the REST answer; 499 is what logs of other servers call it.
        Kind::Cancelled => (CLIENT_CLOSED_REQUEST, Code::Cancelled, "server_error", false),
        Kind::Unimplemented => (
            StatusCode::NOT_IMPLEMENTED,
            Code::Unimplemented,
            "invalid_request_error",
            false,
        ),
        Kind::Internal => (
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
            "server_error",
            false,
        ),
    };
    Status {
        http,
        grpc,
        openai,
        retry,
    }
}

const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => panic!("499 is a status"),
};

/// The error as a gRPC status.
pub(crate) fn grpc(error: Error) -> tonic::Status {
    tonic::Status::new(of(error.kind).grpc, text(error.message))
}

/// An error's text as it goes out: one that quotes a client's name of a megabyte would not fit into gRPC's headers.
pub(crate) fn text(mut message: String) -> String {
    const LONGEST: usize = 2000;
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST));
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_documented_one() {
        let table = [
            (Kind::Invalid, 400, Code::InvalidArgument),
            (Kind::NotFound, 404, Code::NotFound),
            (Kind::TooLarge, 413, Code::ResourceExhausted),
            (Kind::UnsupportedEncoding, 415, Code::Unimplemented),
            (Kind::Unavailable, 503, Code::Unavailable),
            (Kind::DeadlineExceeded, 504, Code::DeadlineExceeded),
            (Kind::Cancelled, 499, Code::Cancelled),
            (Kind::Unimplemented, 501, Code::Unimplemented),
            (Kind::Internal, 500, Code::Internal),
        ];
        for (kind, http, grpc) in table {
            let status = of(kind);
            assert_eq!((status.http.as_u16(), status.grpc), (http, grpc), "{kind:?}");
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(text("short".into()), "short");
        let cut = text("é".repeat(5000));
        assert!(cut.len() < 2010 && cut.ends_with('…'));
    }

    #[test]
    fn only_what_passes_by_itself_invites_a_retry() {
        let kinds = [
            Kind::Invalid,
            Kind::NotFound,
            Kind::Unavailable,
            Kind::DeadlineExceeded,
            Kind::Internal,
        ];
        let inviting: Vec<Kind> = kinds.into_iter().filter(|kind| of(*kind).retry).collect();
        assert_eq!(inviting, [Kind::Unavailable]);
    }
}
