//! gRPC towards engines: messages as the bytes they are, over the engine's [`Link`](super::link::Link).

use std::time::Instant;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use http::uri::PathAndQuery;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

use super::link::Broke;
use super::{Links, Outcome, causes};
use crate::fleet::Replica;

/// A message in up to three pieces, which go out one behind the other: what is put around a message need not copy it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pieces(pub(crate) [Bytes; 3]);

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Self {
        Self([bytes, Bytes::new(), Bytes::new()])
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Pieces;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Pieces;
    type Error = Status;

    fn encode(&mut self, item: Pieces, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        for piece in item.0 {
            out.put(piece);
        }
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf as _;
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// The request message for an engine: the client's, with the engine's name for the model behind it. In a protobuf message
/// the last value of a field counts.
pub(crate) fn addressed(message: &Bytes, engine_model: &str) -> Pieces {
    let mut name = BytesMut::with_capacity(engine_model.len() + 6);
    name.put_u8(0x0a);
    varint(&mut name, engine_model.len() as u64);
    name.put_slice(engine_model.as_bytes());
    Pieces([message.clone(), name.freeze(), Bytes::new()])
}

/// A number as protobuf writes it.
pub(crate) fn varint(out: &mut impl bytes::BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value as u8) | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

impl Links {
    /// One unary call.
    pub(crate) async fn call<C>(
        &self,
        replica: &Replica,
        method: &'static str,
        message: C::Encode,
        codec: C,
        metadata: &MetadataMap,
        deadline: Instant,
    ) -> Outcome<Result<Response<C::Decode>, Status>>
    where
        C: Codec,
        C::Encode: Send + Sync + 'static,
        C::Decode: Send + Sync + 'static,
    {
        let origin = match format!("http://{}", replica.grpc).parse::<http::Uri>() {
            Ok(origin) => origin,
            Err(error) => return Outcome::Unsent(format!("`{}` is not an address: {error}", replica.grpc)),
        };
        let link = match self.to(&replica.grpc).await {
            Ok(link) => link,
            Err(error) => return Outcome::Unsent(error),
        };
        let mut client = tonic::client::Grpc::with_origin(link, origin)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        let mut request = Request::from_parts(metadata.clone(), http::Extensions::new(), message);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        afterglow_telemetry::inject(request.metadata_mut().as_mut());
        let answer = client
            .unary(request, PathAndQuery::from_static(method), codec)
            .await;
        outcome(answer)
    }
}

/// Tells an engine's word from a broken connection.
fn outcome<T>(answer: Result<Response<T>, Status>) -> Outcome<Result<Response<T>, Status>> {
    let status = match answer {
        Ok(answer) => return Outcome::Answered(Ok(answer)),
        Err(status) => status,
    };
    // A status that came over the wire has no cause on this side of it.
    if let Some(source) = std::error::Error::source(&status) {
        return if source.downcast_ref::<Broke>().is_some_and(|broke| broke.unsent) {
            Outcome::Unsent(causes(&status))
        } else {
            Outcome::Broken(causes(&status))
        };
    }
    match status.code() {
        Code::Unavailable => Outcome::Busy(Err(status)),
        // The engine knows one model by that name: it does not have it any more.
        Code::NotFound => Outcome::Missing,
        Code::Internal | Code::Unknown | Code::DataLoss => Outcome::Fault(Err(status)),
        _ => Outcome::Refused(Err(status)),
    }
}

/// What of a client's headers an engine gets: trace context and the like, nothing that belongs to one connection and
/// nothing secret.
pub(crate) fn metadata(headers: &HeaderMap) -> MetadataMap {
    let passed = headers
        .iter()
        .filter(|(name, _)| {
            let name = name.as_str();
            !(name.starts_with("grpc-")
                || name.starts_with("x-afterglow-")
                || matches!(
                    name,
                    "te" | "content-type"
                        | "content-length"
                        | "user-agent"
                        | "host"
                        | "connection"
                        | "authorization"
                        | "cookie"
                ))
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    MetadataMap::from_headers(passed)
}

/// An engine's error in words that the client knows.
pub(crate) fn renamed(status: &Status, replica: &Replica, model: &str) -> Status {
    Status::new(
        status.code(),
        status.message().replace(&replica.engine_model, model),
    )
}

#[cfg(test)]
mod tests {
    use afterglow_proto::inference::ModelInferRequest;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_engines_name_counts_and_the_rest_is_untouched() {
        let request = ModelInferRequest {
            model_name: "minilm".into(),
            model_version: "3".into(),
            id: "7".into(),
            raw_input_contents: vec![vec![1, 2, 3].into()],
            ..Default::default()
        };
        let bytes = Bytes::from(request.encode_to_vec());
        let long = "team.".to_owned() + &"x".repeat(200);
        let sent = addressed(&bytes, &long).0.concat();
        let read = ModelInferRequest::decode(sent.as_slice()).unwrap();
        assert_eq!(read.model_name, long);
        assert_eq!(
            ModelInferRequest {
                model_name: "minilm".into(),
                ..read
            },
            request
        );
    }

    #[test]
    fn trace_context_passes_and_connection_matters_and_secrets_do_not() {
        let mut headers = HeaderMap::new();
        for name in [
            "traceparent",
            "x-request-id",
            "te",
            "grpc-timeout",
            "grpc-accept-encoding",
            "x-afterglow-session",
            "authorization",
            "cookie",
        ] {
            headers.insert(name, "1".parse().unwrap());
        }
        let passed = metadata(&headers).into_headers();
        let mut names: Vec<_> = passed.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["traceparent", "x-request-id"]);
    }

    #[test]
    fn what_an_engine_says_decides_whether_another_is_asked() {
        let name = |status: Status| outcome::<Bytes>(Err(status)).name();
        assert_eq!(name(Status::unavailable("queue full")), "busy");
        assert_eq!(name(Status::not_found("no model `team.a`")), "missing");
        assert_eq!(name(Status::invalid_argument("shape")), "refused");
        assert_eq!(name(Status::deadline_exceeded("queue")), "refused");
        assert_eq!(name(Status::internal("kernel")), "fault");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(name(Status::from_error(Box::new(refused))), "broken");
    }
}
