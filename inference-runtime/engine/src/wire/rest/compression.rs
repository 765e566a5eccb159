//! gzip and deflate (which in HTTP means the zlib format), both ways, bounded on the way in.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, header};

use crate::api::{Error, Kind, Result};

/// A content coding that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            _ => None,
        }
    }

    /// The coding that a client would like its answer in.
    pub(super) fn wanted(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter();
        let wishes: Vec<(String, bool)> = values
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .map(|wish| {
                let mut parts = wish.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default().to_ascii_lowercase();
                // `q=0` is "not this one"; finer grades are the client's taste, not its need.
                let refused = parts.any(|part| {
                    part.strip_prefix("q=")
                        .and_then(|q| q.parse::<f32>().ok())
                        .is_some_and(|q| q <= 0.0)
                });
                (name, refused)
            })
            .collect();
        [Self::Gzip, Self::Deflate].into_iter().find(|coding| {
            wishes
                .iter()
                .any(|(name, refused)| !refused && Self::parse(name) == Some(*coding))
        })
    }
}

/// Decompresses, as long as the result stays within `most` bytes.
pub(super) fn unpack(coding: Coding, packed: &[u8], most: usize) -> Result<Bytes> {
    let mut plain = Vec::new();
    // One byte beyond the limit tells "too large" from "just fits", and no more than that is ever held.
    let bound = most as u64 + 1;
    let read = match coding {
        Coding::Gzip => MultiGzDecoder::new(packed).take(bound).read_to_end(&mut plain),
        Coding::Deflate => ZlibDecoder::new(packed).take(bound).read_to_end(&mut plain),
    };
    if plain.len() > most {
        return Err(Error::new(
            Kind::TooLarge,
            format!("the body is larger than {most} bytes after decompression"),
        ));
    }
    read.map_err(|error| Error::invalid(format!("the body is not {}: {error}", coding.name())))?;
    Ok(plain.into())
}

/// Compresses, fast rather than small: the network is rarely slower than that.
pub(super) fn pack(coding: Coding, plain: &[u8]) -> Vec<u8> {
    const INFALLIBLE: &str = "a Vec takes every write";
    let packed = Vec::with_capacity(plain.len() / 2);
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(packed, Compression::fast());
            encoder.write_all(plain).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(packed, Compression::fast());
            encoder.write_all(plain).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks() {
        for coding in [Coding::Gzip, Coding::Deflate] {
            assert_eq!(unpack(coding, &pack(coding, b"abc"), 3).unwrap(), &b"abc"[..]);
            assert_eq!(
                unpack(coding, &pack(coding, b"abc"), 2).unwrap_err().kind,
                Kind::TooLarge
            );
        }
    }

    #[test]
    fn the_client_says_which_codings_it_reads() {
        let wanted = |value: &str| {
            Coding::wanted(&HeaderMap::from_iter([(
                header::ACCEPT_ENCODING,
                value.parse().unwrap(),
            )]))
        };
        assert_eq!(wanted("gzip"), Some(Coding::Gzip));
        assert_eq!(wanted("deflate"), Some(Coding::Deflate));
        assert_eq!(wanted("br, deflate;q=0.5, gzip;q=0.1"), Some(Coding::Gzip));
        assert_eq!(wanted("gzip;q=0, deflate"), Some(Coding::Deflate));
        assert_eq!(wanted("identity, br"), None);
        assert_eq!(Coding::wanted(&HeaderMap::new()), None);
    }
}
