//! Where the JSON ends and the binary tensors begin.

use bytes::Bytes;

use crate::api::{Error, Result};

/// A body, cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// JSON, and what follows it (empty where the body is all JSON).
    Json { head: Bytes, binary: Bytes },
    /// No JSON at all: the body is the one input's data.
    Raw(Bytes),
}

/// Cuts a (decompressed) body by the value of its `Inference-Header-Content-Length`.
pub(crate) fn frame(header: Option<&str>, body: Bytes) -> Result<Frame> {
    let Some(header) = header else {
        return Ok(Frame::Json {
            head: body,
            binary: Bytes::new(),
        });
    };
    let length: usize = header.trim().parse().map_err(|_| {
        Error::invalid(format!(
            "Inference-Header-Content-Length `{header}` is not a number of bytes"
        ))
    })?;
    if length == 0 {
        return Ok(Frame::Raw(body));
    }
    if length > body.len() {
        return Err(Error::invalid(format!(
            "Inference-Header-Content-Length is {length}, the body has only {} bytes (after decompression)",
            body.len()
        )));
    }
    let mut head = body;
    let binary = head.split_off(length);
    Ok(Frame::Json { head, binary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(header: Option<&str>) -> Result<Frame> {
        frame(header, Bytes::from_static(b"{}1234"))
    }

    #[test]
    fn the_header_says_where_the_json_ends() {
        let json = |head: &'static [u8], binary: &'static [u8]| Frame::Json {
            head: Bytes::from_static(head),
            binary: Bytes::from_static(binary),
        };
        assert_eq!(cut(None).unwrap(), json(b"{}1234", b""));
        assert_eq!(cut(Some("2")).unwrap(), json(b"{}", b"1234"));
        assert_eq!(cut(Some("6")).unwrap(), json(b"{}1234", b""));
        assert_eq!(cut(Some("0")).unwrap(), Frame::Raw(Bytes::from_static(b"{}1234")));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        for header in ["7", "-1", "", "two", "0x2", "18446744073709551616"] {
            assert!(cut(Some(header)).is_err(), "{header}");
        }
    }
}
