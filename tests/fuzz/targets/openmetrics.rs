//! Text of both formats, fed in pieces: where it is cut makes no difference.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trilith::wire::limits::DEFAULT;
use trilith::wire::openmetrics::{Format, Parser};

fn read(format: Format, pieces: &[&[u8]]) -> String {
    let mut parser = Parser::new(format, 1_000_000, &DEFAULT);
    for piece in pieces {
        if let Err(error) = parser.feed(piece) {
            return error.to_string();
        }
    }
    let (decoded, end) = parser.finish();
    format!("{:?} {} {end:?}", decoded.batch, decoded.rejected.count())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, text)) = bytes.split_first() else { return };
    let (before, after) = text.split_at(usize::from(*cut).min(text.len()));
    for format in [Format::OpenMetrics, Format::Prometheus] {
        assert_eq!(read(format, &[text]), read(format, &[before, after]));
    }
});
