//! The only way to inflate a body. Every format has a cap on its output; lengths that a body
//! declares are checked against the cap, and against what is possible, before they are believed.

use std::borrow::Cow;
use std::io::{self, Read};

use crate::base::error::{Classify, ErrorClass};

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// RFC 1952, one or more members.
    Gzip,
    /// RFC 1950 (zlib), or bare RFC 1951 as some senders have it.
    Deflate,
    /// RFC 8878.
    Zstd,
    /// One raw snappy block, as remote write and Loki's push have it.
    Snappy,
}

impl Encoding {
    /// The encoding of a `Content-Encoding` or `grpc-encoding` header; `None` for unknown ones.
    pub fn from_header(value: &str) -> Option<Self> {
        let is = |name: &str| value.trim().eq_ignore_ascii_case(name);
        match () {
            () if is("") || is("identity") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("deflate") => Some(Self::Deflate),
            () if is("zstd") => Some(Self::Zstd),
            () if is("snappy") => Some(Self::Snappy),
            () => None,
        }
    }
}

/// Why a body could not be inflated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// More comes out than is allowed.
    #[error("the body inflates to more than the limit of {limit} bytes; send smaller batches")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The bytes are not of that format, or cut short.
    #[error("the body is not valid {format}: {what}")]
    BadData {
        /// The format.
        format: &'static str,
        /// What is wrong.
        what: String,
    },
}

impl Classify for DecompressError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::TooLarge { .. } => ErrorClass::TooLarge,
            Self::BadData { .. } => ErrorClass::BadData,
        }
    }
}

/// Largest zstd window: 8 MiB is what RFC 8878 asks decoders to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How snappy's framing format begins. Senders that use it for a raw block have a wrong setting.
const SNAPPY_FRAMED: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// A snappy copy makes at most 64 bytes of 3.
const SNAPPY_GROWTH_MAX: usize = 22;

/// Bytes that a packed body says it inflates to, where its format has a place for that; it may lie.
pub fn expected_len(encoding: Encoding, body: &[u8]) -> Option<usize> {
    match encoding {
        Encoding::Identity => Some(body.len()),
        // The last four bytes of a member are its length.
        Encoding::Gzip => body.last_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize),
        Encoding::Deflate => None,
        Encoding::Zstd => {
            zstd::zstd_safe::get_frame_content_size(body).ok()?.and_then(|length| usize::try_from(length).ok())
        }
        Encoding::Snappy => snap::raw::decompress_len(body).ok(),
    }
}

/// Inflates `body` to at most `limit` bytes.
///
/// # Errors
/// [`DecompressError`].
pub fn decompress(encoding: Encoding, body: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, DecompressError> {
    match encoding {
        Encoding::Identity if body.len() > limit => Err(DecompressError::TooLarge { limit }),
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip | Encoding::Deflate | Encoding::Zstd | Encoding::Snappy => {
            let mut inflated = Vec::new();
            unpack(encoding, body, limit, &mut inflated)?;
            Ok(Cow::Owned(inflated))
        }
    }
}

/// Inflates into `buffer`, whose old content goes; it grows as bytes come out.
fn unpack(encoding: Encoding, body: &[u8], limit: usize, buffer: &mut Vec<u8>) -> Result<(), DecompressError> {
    match encoding {
        Encoding::Gzip => read_capped("gzip", flate2::read::MultiGzDecoder::new(body), limit, buffer),
        Encoding::Deflate if is_zlib(body) => read_capped("zlib", flate2::read::ZlibDecoder::new(body), limit, buffer),
        Encoding::Deflate => read_capped("deflate", flate2::read::DeflateDecoder::new(body), limit, buffer),
        Encoding::Zstd if body.is_empty() => Err(bad("zstd", "empty body")),
        Encoding::Zstd => {
            let open = || -> io::Result<_> {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(decoder)
            };
            read_capped("zstd", open().map_err(|error| bad("zstd", error))?, limit, buffer)
        }
        Encoding::Snappy => snappy(body, limit).map(|inflated| *buffer = inflated),
        Encoding::Identity => read_capped("body", body, limit, buffer),
    }
}

/// Inflates what `source` gives, piece by piece, so that the whole may be of any length. Raw snappy has
/// no pieces: it is read whole, up to `whole_max` bytes, and inflated to at most as many.
///
/// # Errors
/// [`DecompressError`] when the beginning is wrong already; what is wrong later is an error of reading.
pub fn reader<'s>(
    encoding: Encoding,
    mut source: impl Read + 's,
    whole_max: usize,
) -> Result<Box<dyn Read + 's>, DecompressError> {
    Ok(match encoding {
        Encoding::Identity => Box::new(source),
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(source)),
        Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(source)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(source).map_err(|error| bad("zstd", error))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|error| bad("zstd", error))?;
            Box::new(decoder)
        }
        Encoding::Snappy => {
            let mut body = Vec::new();
            read_capped("snappy", &mut source, whole_max, &mut body)?;
            Box::new(io::Cursor::new(snappy(&body, whole_max)?))
        }
    })
}

/// Inflates `body` to at most `limit` bytes, into `buffer` where it must be inflated: one that is used
/// again for the next body costs no memory from the system. What is in it before does not matter.
///
/// # Errors
/// [`DecompressError`].
pub fn decompress_into<'a>(
    encoding: Encoding,
    body: &'a [u8],
    limit: usize,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecompressError> {
    match encoding {
        Encoding::Snappy => {
            let declared = snappy_len(body, limit)?;
            if buffer.len() < declared {
                // Not a copy of what is in it.
                buffer.clear();
                buffer.resize(declared, 0);
            }
            let len = snap::raw::Decoder::new().decompress(body, buffer).map_err(|error| bad("snappy", error))?;
            Ok(buffer.get(..len).unwrap_or_default())
        }
        Encoding::Identity => match body.len() > limit {
            true => Err(DecompressError::TooLarge { limit }),
            false => Ok(body),
        },
        Encoding::Gzip | Encoding::Deflate | Encoding::Zstd => {
            if buffer.capacity() <= limit {
                // All of it at once: what is not written to takes no memory, while a buffer that grows leaves
                // its smaller ones behind, together more than the limit.
                *buffer = Vec::new();
                buffer.reserve_exact(limit.saturating_add(1));
            }
            unpack(encoding, body, limit, buffer)?;
            Ok(buffer)
        }
    }
}

fn bad(format: &'static str, what: impl ToString) -> DecompressError {
    DecompressError::BadData { format, what: what.to_string() }
}

fn read_capped(
    format: &'static str,
    reader: impl Read,
    limit: usize,
    inflated: &mut Vec<u8>,
) -> Result<(), DecompressError> {
    inflated.clear();
    let cap = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(cap).read_to_end(inflated).map_err(|error| bad(format, error))?;
    if inflated.len() > limit {
        return Err(DecompressError::TooLarge { limit });
    }
    Ok(())
}

/// Whether the two bytes of a zlib header are there.
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31),
        _ => false,
    }
}

fn snappy(body: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
    snappy_len(body, limit)?;
    snap::raw::Decoder::new().decompress_vec(body).map_err(|error| bad("snappy", error))
}

fn snappy_len(body: &[u8], limit: usize) -> Result<usize, DecompressError> {
    if body.starts_with(SNAPPY_FRAMED) {
        return Err(bad("snappy", "this is the framing format; send one raw block"));
    }
    let declared = snap::raw::decompress_len(body).map_err(|error| bad("snappy", error))?;
    if declared > limit {
        return Err(DecompressError::TooLarge { limit });
    }
    if declared > body.len().saturating_mul(SNAPPY_GROWTH_MAX) {
        return Err(bad("snappy", format!("{} bytes cannot hold the declared {declared}", body.len())));
    }
    Ok(declared)
}

/// Packs `body` as a raw snappy block, as senders do.
///
/// # Errors
/// [`DecompressError::TooLarge`] for bodies over 4 GiB.
pub fn compress_snappy(body: &[u8]) -> Result<Vec<u8>, DecompressError> {
    snap::raw::Encoder::new().compress_vec(body).map_err(|_| DecompressError::TooLarge { limit: u32::MAX as usize })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn packed(encoding: Encoding, body: &[u8]) -> Vec<u8> {
        match encoding {
            Encoding::Identity => body.to_vec(),
            Encoding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Encoding::Zstd => zstd::bulk::compress(body, 1).unwrap(),
            Encoding::Snappy => compress_snappy(body).unwrap(),
        }
    }

    const ALL: [Encoding; 5] =
        [Encoding::Identity, Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::Snappy];

    #[test]
    fn every_encoding_gives_the_body_back() {
        let body = b"some body, some body".repeat(100);
        let mut buffer = vec![7; 3000];
        for encoding in ALL {
            let packed = packed(encoding, &body);
            assert_eq!(*decompress(encoding, &packed, LIMIT).unwrap(), body, "{encoding:?}");
            assert_eq!(decompress_into(encoding, &packed, LIMIT, &mut buffer).unwrap(), body, "{encoding:?}");
        }
    }

    #[test]
    fn a_body_that_says_how_long_it_is_says_the_truth() {
        let body = b"some body, some body".repeat(100);
        for encoding in ALL {
            let said = expected_len(encoding, &packed(encoding, &body));
            assert_eq!(said, (encoding != Encoding::Deflate).then_some(body.len()), "{encoding:?}");
        }
    }

    #[test]
    fn deflate_without_a_zlib_header_is_read_as_well() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"bare").unwrap();
        assert_eq!(*decompress(Encoding::Deflate, &encoder.finish().unwrap(), LIMIT).unwrap(), *b"bare");
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let bomb = vec![0; 16 * LIMIT];
        for encoding in ALL {
            let error = decompress(encoding, &packed(encoding, &bomb), LIMIT).unwrap_err();
            assert_eq!(error, DecompressError::TooLarge { limit: LIMIT }, "{encoding:?}");
        }
    }

    #[test]
    fn a_bomb_takes_no_more_memory_than_the_limit() {
        let bomb = vec![0; 16 * LIMIT];
        for encoding in ALL {
            let mut buffer = vec![1; 10];
            decompress_into(encoding, &packed(encoding, &bomb), LIMIT, &mut buffer).unwrap_err();
            assert!(buffer.capacity() <= LIMIT + 1, "{encoding:?}: {}", buffer.capacity());
        }
    }

    #[test]
    fn a_body_cut_short_is_bad_data() {
        let body: Vec<u8> = (0..20_000u32).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
        for encoding in ALL.into_iter().skip(1) {
            let whole = packed(encoding, &body);
            let error = decompress(encoding, &whole[..whole.len() / 2], LIMIT).unwrap_err();
            assert_eq!(error.class(), ErrorClass::BadData, "{encoding:?}");
        }
    }

    #[test]
    fn a_declared_length_that_lies_is_not_allocated() {
        let error = decompress(Encoding::Snappy, &[0x80, 0x80, 0x40, 0, b'x'], LIMIT + 1).unwrap_err();
        assert!(error.to_string().contains("cannot hold"), "{error}");
    }

    #[test]
    fn framed_snappy_is_named_in_the_error() {
        let error = decompress(Encoding::Snappy, b"\xff\x06\x00\x00sNaPpYxxxx", LIMIT).unwrap_err();
        assert!(error.to_string().contains("framing format"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..300)) {
            for encoding in ALL {
                let _ = decompress(encoding, &bytes, 4096);
            }
        }
    }
}
