//! Frames of gRPC, and calls in them: what comes out of frames is what went in, and no message is larger than allowed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::wire::decompress::decompress;
use trilith::wire::grpc::{Frame, frames, only_frame, put_frame, timeout};
use trilith::wire::tempo::{self, QueryRangeRequest, SearchRequest, SearchTagValuesRequest, SearchTagsRequest};

const MESSAGE_BYTES_MAX: usize = 4096;

/// A message as those who take it read it: unpacked, then as the request of a call.
fn request(frame: Frame<'_>) {
    for name in ["gzip", "zstd", "identity"] {
        let Some(encoding) = frame.encoding(name) else { continue };
        let Ok(message) = decompress(encoding, frame.message, MESSAGE_BYTES_MAX) else { continue };
        assert!(message.len() <= MESSAGE_BYTES_MAX, "a message over the limit");
        let _ = (tempo::decode::<SearchRequest>(&message), tempo::decode::<QueryRangeRequest>(&message));
        let _ = tempo::decode::<SearchTagsRequest>(&message);
        let _ = tempo::decode::<SearchTagValuesRequest>(&message);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut again = Vec::new();
    let mut whole = true;
    for frame in frames(bytes, MESSAGE_BYTES_MAX) {
        match frame {
            Ok(frame) => {
                assert!(frame.message.len() <= MESSAGE_BYTES_MAX, "a message over the limit");
                whole &= !frame.packed;
                request(frame);
                put_frame(&mut again, frame.message);
            }
            Err(error) => {
                whole = false;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    if whole {
        assert_eq!(again, bytes);
    }
    let _ = only_frame(bytes, MESSAGE_BYTES_MAX);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = timeout(text);
    }
});
