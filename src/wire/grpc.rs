//! gRPC over HTTP/2 as bytes and text: frames, status codes, messages and timeouts. Bytes in, frames out; nothing is
//! copied, and no length that a client writes is believed before the bytes are there.
//! Spec: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::decompress::Encoding;
use super::otlp::{Format, response};
use crate::base::error::{Classify, ErrorClass};
use crate::base::percent;

/// Names of headers and trailers.
pub const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// How the messages of a request are packed.
pub const ENCODING: &str = "grpc-encoding";
/// How long the caller waits.
pub const TIMEOUT: &str = "grpc-timeout";
/// The status, a number.
pub const STATUS: &str = "grpc-status";
/// The reason, percent-encoded.
pub const MESSAGE: &str = "grpc-message";
/// A `google.rpc.Status`, in base64.
pub const DETAILS: &str = "grpc-status-details-bin";
/// What [`ACCEPT_ENCODING`] says.
pub const ENCODINGS: &str = "identity,gzip,zstd";
/// The content type of requests and answers.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Bytes before each message: a flag and a length.
pub const HEADER_BYTES: usize = 5;

/// Longest reason that is said, in characters before encoding: clients limit their headers.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// A status, by its number in the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// All is well.
    Ok = 0,
    /// The caller went away.
    Canceled = 1,
    /// The request is wrong.
    InvalidArgument = 3,
    /// The time is over.
    DeadlineExceeded = 4,
    /// There is no such thing.
    NotFound = 5,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// There is no such method, or no such encoding.
    Unimplemented = 12,
    /// A defect of ours.
    Internal = 13,
    /// Try again.
    Unavailable = 14,
}

impl Code {
    /// Its number.
    pub fn number(self) -> u32 {
        self as u32
    }
}

/// The one table of statuses. Senders of OTLP retry on 8 only when told when, on 14 always.
impl From<ErrorClass> for Code {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::Canceled => Self::Canceled,
            ErrorClass::BadData => Self::InvalidArgument,
            ErrorClass::Timeout => Self::DeadlineExceeded,
            ErrorClass::NotFound => Self::NotFound,
            ErrorClass::TooLarge | ErrorClass::Execution | ErrorClass::Throttled => Self::ResourceExhausted,
            ErrorClass::Internal => Self::Internal,
            ErrorClass::Unavailable => Self::Unavailable,
        }
    }
}

/// Why a frame is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end within a header, or there is no message at all.
    #[error("a gRPC message has a header of {HEADER_BYTES} bytes, of which {0} came")]
    NoHeader(usize),
    /// The bytes end within the message.
    #[error("the gRPC message is cut off: its header says {said} bytes, and {came} came")]
    Cut {
        /// As its header says.
        said: u32,
        /// What is there.
        came: usize,
    },
    /// The flag is neither 0 nor 1.
    #[error("the header of a gRPC message has the unknown flag {0}")]
    Flag(u8),
    /// The message is too large.
    #[error("the gRPC message has {said} bytes, more than {limit}; ask for less, or send smaller batches")]
    TooLarge {
        /// As its header says.
        said: u32,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More than the one message of a unary call.
    #[error("the call takes one message, and more came")]
    Several,
}

impl Classify for FrameError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoHeader(_) | Self::Cut { .. } | Self::Flag(_) | Self::Several => ErrorClass::BadData,
            Self::TooLarge { .. } => ErrorClass::TooLarge,
        }
    }
}

/// A message as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whether it is packed as [`ENCODING`] says.
    pub packed: bool,
    /// The message.
    pub message: &'a [u8],
}

/// The frames of a whole body, each of at most `message_bytes_max` bytes; ends with the first error.
pub fn frames(body: &[u8], message_bytes_max: usize) -> Frames<'_> {
    Frames { rest: body, message_bytes_max }
}

/// See [`frames`].
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    message_bytes_max: usize,
}

impl<'a> Frames<'a> {
    fn split(&self) -> Result<(Frame<'a>, &'a [u8]), FrameError> {
        let Some(([flag, length @ ..], rest)) = self.rest.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::NoHeader(self.rest.len()));
        };
        if *flag > 1 {
            return Err(FrameError::Flag(*flag));
        }
        let said = u32::from_be_bytes(*length);
        let length = usize::try_from(said).unwrap_or(usize::MAX);
        if length > self.message_bytes_max {
            return Err(FrameError::TooLarge { said, limit: self.message_bytes_max });
        }
        let Some((message, rest)) = rest.split_at_checked(length) else {
            return Err(FrameError::Cut { said, came: rest.len() });
        };
        Ok((Frame { packed: *flag == 1, message }, rest))
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match self.split() {
            Ok((frame, rest)) => {
                self.rest = rest;
                Some(Ok(frame))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// The one message of a call that takes one.
///
/// # Errors
/// [`FrameError`].
pub fn only_frame(body: &[u8], message_bytes_max: usize) -> Result<Frame<'_>, FrameError> {
    let mut frames = frames(body, message_bytes_max);
    let frame = frames.next().unwrap_or(Err(FrameError::NoHeader(0)))?;
    if frames.rest.is_empty() { Ok(frame) } else { Err(FrameError::Several) }
}

impl Frame<'_> {
    /// How the message is packed, by the name in the call's [`ENCODING`] header; none when that is not known, or
    /// missing for a message that is packed.
    pub fn encoding(&self, name: &str) -> Option<Encoding> {
        match (self.packed, name) {
            (false, _) => Some(Encoding::Identity),
            (true, "" | "identity") => None,
            (true, name) => Encoding::from_header(name),
        }
    }
}

/// Adds a message that is not packed.
pub fn put_frame(out: &mut Vec<u8>, message: &[u8]) {
    out.push(0);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(message);
}

/// Headers that say that a call failed, and when to try again.
pub fn refusal(code: Code, reason: &str, retry_after_seconds: Option<u32>) -> Vec<(&'static str, String)> {
    let reason: String = reason.chars().take(MESSAGE_CHARS_MAX).collect();
    let mut headers = vec![(STATUS, code.number().to_string()), (MESSAGE, percent::encode_header(&reason))];
    if retry_after_seconds.is_some() {
        let details = response::status(Format::Protobuf, code.number(), &reason, retry_after_seconds);
        headers.push((DETAILS, STANDARD_NO_PAD.encode(details)));
    }
    headers
}

/// What [`TIMEOUT`] says: at most eight digits and a unit; `None` for what is no timeout.
pub fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 1_000;

    #[test]
    fn frames_come_out_as_they_were_put_in() {
        let mut body = Vec::new();
        for message in [&b"one"[..], b"", b"three"] {
            put_frame(&mut body, message);
        }
        let found: Vec<_> = frames(&body, MAX).map(|frame| frame.unwrap().message).collect();
        assert_eq!(found, [&b"one"[..], b"", b"three"]);
        assert_eq!(only_frame(&body, MAX), Err(FrameError::Several));
        assert_eq!(only_frame(&body[..8], MAX).unwrap().message, b"one");
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let cases: [(&[u8], FrameError); 6] = [
            (b"", FrameError::NoHeader(0)),
            (&[0, 0, 0], FrameError::NoHeader(3)),
            (&[2, 0, 0, 0, 0], FrameError::Flag(2)),
            (&[0, 0, 0, 0, 9, 1], FrameError::Cut { said: 9, came: 1 }),
            (&[0, 255, 255, 255, 255], FrameError::TooLarge { said: u32::MAX, limit: MAX }),
            (&[0, 0, 0, 0, 0, 7], FrameError::Several),
        ];
        for (body, error) in cases {
            assert_eq!(only_frame(body, MAX), Err(error), "{body:?}");
        }
        assert!(only_frame(&[1, 0, 0, 0, 0], MAX).unwrap().packed);
    }

    #[test]
    fn reasons_are_percent_encoded_and_short() {
        let headers = refusal(Code::InvalidArgument, "a 5% ü\n", None);
        assert_eq!(headers, [(STATUS, "3".to_owned()), (MESSAGE, "a 5%25 %C3%BC%0A".to_owned())]);
        let headers = refusal(Code::Unavailable, &"x".repeat(100_000), Some(1));
        assert_eq!(headers[1].1.len(), MESSAGE_CHARS_MAX);
        assert_eq!(headers[2].0, DETAILS);
    }

    #[test]
    fn timeouts_have_a_unit() {
        assert_eq!(timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(timeout("5S"), Some(Duration::from_secs(5)));
        for wrong in ["", "S", "5", "123456789S", "-1S", "1.5S", "5s", "5ü", "ü"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn all_bytes_are_frames_or_an_error_and_frames_are_found_again(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
            change in any::<(prop::sample::Index, u8)>(),
            keep in any::<prop::sample::Index>(),
        ) {
            let mut body = Vec::new();
            messages.iter().for_each(|message| put_frame(&mut body, message));
            let found: Vec<Vec<u8>> = frames(&body, MAX).map(|frame| frame.unwrap().message.to_vec()).collect();
            prop_assert_eq!(found, messages);
            if body.is_empty() {
                return Ok(());
            }
            let at = change.0.index(body.len());
            body[at] = change.1;
            body.truncate(keep.index(body.len()) + 1);
            let mut bytes = 0;
            for frame in frames(&body, MAX) {
                bytes += frame.map_or(0, |frame| HEADER_BYTES + frame.message.len());
            }
            prop_assert!(bytes <= body.len());
        }
    }
}
