//! What a client is told when no replica answered: one table from kinds to what each protocol calls them.

use http::StatusCode;
use tonic::Code;

/// Why a request was not answered by a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request itself is wrong.
    Invalid,
    /// No such model, or no such version of it.
    NotFound,
    /// No such path.
    NoPath,
    /// The path exists, for another method.
    Method,
    /// The request is larger than allowed.
    TooLarge,
    /// An encoding that nobody here reads.
    UnsupportedEncoding,
    /// The model is known, and no replica of it can answer now.
    Unavailable,
    /// There is too much under way.
    Shed,
    /// The answer would come too late.
    DeadlineExceeded,
    /// Not offered here.
    Unimplemented,
    /// A bug.
    Internal,
}

/// A kind's names on the wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) http: StatusCode,
    pub(crate) grpc: Code,
    /// `error.type` of the OpenAI endpoints.
    pub(crate) openai: &'static str,
    /// Whether the same request may succeed a little later.
    pub(crate) retry: bool,
}

impl Kind {
    pub(crate) const fn names(self) -> Names {
        const WRONG: &str = "invalid_request_error";
        let (http, grpc, openai, retry) = match self {
            Self::Invalid => (StatusCode::BAD_REQUEST, Code::InvalidArgument, WRONG, false),
            Self::NotFound => (StatusCode::NOT_FOUND, Code::NotFound, WRONG, false),
            Self::NoPath => (StatusCode::NOT_FOUND, Code::Unimplemented, WRONG, false),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, WRONG, false),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::ResourceExhausted,
                WRONG,
                false,
            ),
            Self::UnsupportedEncoding => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::Unimplemented,
                WRONG,
                false,
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                "server_error",
                true,
            ),
            Self::Shed => (
                StatusCode::TOO_MANY_REQUESTS,
                Code::ResourceExhausted,
                "server_error",
                true,
            ),
            Self::DeadlineExceeded => (
                StatusCode::GATEWAY_TIMEOUT,
                Code::DeadlineExceeded,
                "timeout_error",
                false,
            ),
            Self::Unimplemented => (StatusCode::NOT_IMPLEMENTED, Code::Unimplemented, WRONG, false),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Internal,
                "server_error",
                false,
            ),
        };
        Names {
            http,
            grpc,
            openai,
            retry,
        }
    }
}

/// A kind and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: text(message.into()),
        }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    pub(crate) fn late(limit: std::time::Duration) -> Self {
        Self::new(
            Kind::DeadlineExceeded,
            format!("no replica answered within {} ms", limit.as_millis()),
        )
    }

    pub(crate) fn status(&self) -> tonic::Status {
        tonic::Status::new(self.kind.names().grpc, self.message.clone())
    }
}

/// An error's text as it goes out: one that quotes a client's name of a megabyte would not fit into gRPC's headers.
fn text(mut message: String) -> String {
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
        for (kind, http, grpc, retry) in [
            (Kind::Invalid, 400, Code::InvalidArgument, false),
            (Kind::NotFound, 404, Code::NotFound, false),
            (Kind::NoPath, 404, Code::Unimplemented, false),
            (Kind::Method, 405, Code::Unimplemented, false),
            (Kind::TooLarge, 413, Code::ResourceExhausted, false),
            (Kind::UnsupportedEncoding, 415, Code::Unimplemented, false),
            (Kind::Unavailable, 503, Code::Unavailable, true),
            (Kind::Shed, 429, Code::ResourceExhausted, true),
            (Kind::DeadlineExceeded, 504, Code::DeadlineExceeded, false),
            (Kind::Unimplemented, 501, Code::Unimplemented, false),
            (Kind::Internal, 500, Code::Internal, false),
        ] {
            let names = kind.names();
            assert_eq!(
                (names.http.as_u16(), names.grpc, names.retry),
                (http, grpc, retry),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_message_that_quotes_a_megabyte_is_cut() {
        let refusal = Refusal::invalid("é".repeat(1 << 20));
        assert!(refusal.message.len() < 2010 && refusal.message.ends_with('…'));
    }
}
