//! Prometheus's remote read: what is asked (`prometheus.ReadRequest`), and the two forms of answers:
//! one message of samples, or a stream of frames of chunks.
//! Spec: <https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/>.

use super::error::WireError;
use super::prometheus_chunk::Chunk;
use super::protobuf::{Reader, put_bytes, put_double, put_message, put_uint, put_varint, zigzagged};
use crate::model::histogram::{BucketSpan, Histogram, ResetHint};
use crate::model::labels::Labels;
use crate::model::matcher::MatchOp;
use crate::model::sample::{Columns, HistogramSample};
use crate::model::time::RangeMs;

/// The type of a message of samples.
pub const SAMPLES_TYPE: &str = "application/x-protobuf";
/// The type of a stream of chunks.
pub const CHUNKS_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// Most queries of one request.
const QUERIES_MAX: usize = 100;
/// Most matchers of one query.
const MATCHERS_MAX: usize = 100;
/// Bytes of chunks in one frame; the last chunk may reach beyond.
pub const FRAME_BYTES: usize = 1 << 20;

/// How to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One message, compressed as a snappy block.
    Samples,
    /// Frames of chunks.
    Chunks,
}

/// A matcher as it was sent: a regular expression is compiled where the query runs, within its budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMatcher {
    /// The label's name.
    pub name: String,
    /// How values are compared.
    pub op: MatchOp,
    /// The value or the pattern.
    pub value: String,
}

/// One query.
#[derive(Clone, Debug)]
pub struct Query {
    /// Both ends inclusive.
    pub range: RangeMs,
    /// All must hold.
    pub matchers: Vec<RawMatcher>,
    /// Only the labels of series are asked for.
    pub labels_only: bool,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The queries, answered in their order.
    pub queries: Vec<Query>,
    /// The first form of the request's that is known here.
    pub form: Form,
}

fn malformed(what: impl Into<String>) -> WireError {
    WireError::malformed("remote read request", what)
}

/// Decodes an uncompressed `prometheus.ReadRequest`.
///
/// # Errors
/// [`WireError`].
pub fn decode(body: &[u8]) -> Result<Request, WireError> {
    let mut queries = Vec::new();
    let mut forms = Vec::new();
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 if queries.len() >= QUERIES_MAX => return Err(too_many("queries", QUERIES_MAX)),
            1 => queries.push(query(value.bytes()?)?),
            2 if forms.len() < QUERIES_MAX => match value.bytes() {
                Ok(packed) => {
                    let mut packed = Reader::new(packed);
                    while !packed.is_empty() && forms.len() < QUERIES_MAX {
                        forms.push(packed.varint()?);
                    }
                }
                Err(_) => forms.push(value.varint()?),
            },
            _ => {}
        }
    }
    let known = forms.iter().find_map(|form| match form {
        0 => Some(Form::Samples),
        1 => Some(Form::Chunks),
        _ => None,
    });
    let form = match known {
        Some(form) => form,
        None if forms.is_empty() => Form::Samples,
        None => return Err(malformed(format!("none of the response types {forms:?} is known"))),
    };
    Ok(Request { queries, form })
}

fn too_many(what: &'static str, limit: usize) -> WireError {
    WireError::TooLarge { what, limit: limit as u64 }
}

fn query(message: &[u8]) -> Result<Query, WireError> {
    let mut query = Query { range: RangeMs { start: 0, end: 0 }, matchers: Vec::new(), labels_only: false };
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => query.range.start = value.int()?,
            2 => query.range.end = value.int()?,
            3 if query.matchers.len() >= MATCHERS_MAX => return Err(too_many("matchers", MATCHERS_MAX)),
            3 => query.matchers.push(matcher(value.bytes()?)?),
            4 => query.labels_only = hints(value.bytes()?)? == b"series",
            _ => {}
        }
    }
    Ok(query)
}

/// The function that the samples are for.
fn hints(message: &[u8]) -> Result<&[u8], WireError> {
    let mut function: &[u8] = &[];
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.field()? {
        if number == 2 {
            function = value.bytes()?;
        }
    }
    Ok(function)
}

fn matcher(message: &[u8]) -> Result<RawMatcher, WireError> {
    let (mut op, mut name, mut value): (u64, &[u8], &[u8]) = (0, &[], &[]);
    let mut reader = Reader::new(message);
    while let Some((number, field)) = reader.field()? {
        match number {
            1 => op = field.varint()?,
            2 => name = field.bytes()?,
            3 => value = field.bytes()?,
            _ => {}
        }
    }
    let op = match op {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(malformed(format!("unknown matcher type {other}"))),
    };
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| malformed("a matcher is not UTF-8"));
    Ok(RawMatcher { name: text(name)?.to_owned(), op, value: text(value)?.to_owned() })
}

fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    for (name, value) in labels {
        put_message(out, 1, |out| {
            put_bytes(out, 1, name.as_bytes());
            put_bytes(out, 2, value.as_bytes());
        });
    }
}

/// Adds a query's result, given the series that [`series`] wrote, to a `prometheus.ReadResponse`.
pub fn put_result(out: &mut Vec<u8>, series: &[u8]) {
    put_bytes(out, 1, series);
}

/// Adds a series with its samples to a query's result.
pub fn series(out: &mut Vec<u8>, labels: &Labels, columns: &Columns) {
    put_message(out, 1, |out| {
        put_labels(out, labels);
        for (t, value) in columns.times.iter().zip(&columns.values) {
            put_message(out, 2, |out| {
                put_double(out, 1, *value);
                put_uint(out, 2, t.cast_unsigned());
            });
        }
        for sample in &columns.histograms {
            put_message(out, 4, |out| put_histogram(out, sample));
        }
    });
}

fn put_histogram(out: &mut Vec<u8>, sample: &HistogramSample) {
    let histogram: &Histogram = &sample.histogram;
    put_double(out, 2, histogram.count);
    put_double(out, 3, histogram.sum);
    put_uint(out, 4, zigzagged(histogram.schema.into()));
    put_double(out, 5, histogram.zero_threshold);
    put_double(out, 7, histogram.zero_count);
    put_spans(out, 8, &histogram.negative_spans);
    put_doubles(out, 10, &histogram.negative);
    put_spans(out, 11, &histogram.positive_spans);
    put_doubles(out, 13, &histogram.positive);
    let hint = match histogram.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    put_uint(out, 14, hint);
    put_uint(out, 15, sample.t.cast_unsigned());
    put_doubles(out, 16, &histogram.custom_bounds);
}

fn put_spans(out: &mut Vec<u8>, number: u32, spans: &[BucketSpan]) {
    for span in spans {
        put_message(out, number, |out| {
            put_uint(out, 1, zigzagged(span.offset.into()));
            put_uint(out, 2, span.length.into());
        });
    }
}

fn put_doubles(out: &mut Vec<u8>, number: u32, doubles: &[f64]) {
    if !doubles.is_empty() {
        let packed: Vec<u8> = doubles.iter().flat_map(|double| double.to_le_bytes()).collect();
        put_bytes(out, number, &packed);
    }
}

/// Chunks of one series that will be a frame.
#[derive(Debug, Default)]
pub struct Frame {
    chunks: Vec<u8>,
}

impl Frame {
    /// Adds a chunk; says whether the frame has enough.
    pub fn push(&mut self, chunk: &Chunk) -> bool {
        put_message(&mut self.chunks, 2, |out| {
            put_uint(out, 1, chunk.first_t.cast_unsigned());
            put_uint(out, 2, chunk.last_t.cast_unsigned());
            put_uint(out, 3, chunk.encoding as u64);
            put_bytes(out, 4, &chunk.data);
        });
        self.chunks.len() >= FRAME_BYTES
    }

    /// Whether it has no chunk.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Adds the frame of a query's series to `out` and empties it: length, checksum, message.
    pub fn put(&mut self, out: &mut Vec<u8>, query: usize, labels: &Labels) {
        let mut message = Vec::with_capacity(self.chunks.len() + 2 * labels.bytes() + 64);
        put_message(&mut message, 1, |out| {
            put_labels(out, labels);
            out.append(&mut self.chunks);
        });
        put_uint(&mut message, 2, query as u64);
        put_varint(out, message.len() as u64);
        out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
        out.extend_from_slice(&message);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wire::limits::DEFAULT;
    use crate::wire::prometheus::decode_v1;
    use crate::wire::prometheus_chunk::chunks;

    fn request(op: u64, value: &str, forms: &[u64]) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, 1, |out| {
            put_uint(out, 1, 5);
            put_uint(out, 2, (-7i64).cast_unsigned());
            put_message(out, 3, |out| {
                put_uint(out, 1, op);
                put_bytes(out, 2, b"job");
                put_bytes(out, 3, value.as_bytes());
            });
            put_message(out, 4, |out| put_bytes(out, 2, b"series"));
        });
        forms.iter().for_each(|form| put_uint(&mut out, 2, *form));
        out
    }

    #[test]
    fn requests_say_what_is_asked_and_how_to_answer() {
        let asked = decode(&request(2, "a|b", &[7, 1, 0])).unwrap();
        let query = &asked.queries[0];
        assert_eq!((query.range.start, query.range.end, query.labels_only), (5, -7, true));
        let matcher = RawMatcher { name: "job".to_owned(), op: MatchOp::Regex, value: "a|b".to_owned() };
        assert_eq!(query.matchers, [matcher]);
        assert_eq!(asked.form, Form::Chunks);
        assert_eq!(decode(&request(0, "a", &[])).unwrap().form, Form::Samples);
        let mut packed = request(0, "a", &[]);
        put_bytes(&mut packed, 2, &[0, 1]);
        assert_eq!(decode(&packed).unwrap().form, Form::Samples);
    }

    #[test]
    fn bad_requests_are_refused() {
        for bad in [request(9, "a", &[]), request(0, "a", &[5]), vec![0x0a, 9]] {
            assert!(decode(&bad).is_err(), "{bad:?}");
        }
        assert!(decode(&[0x0a, 0].repeat(QUERIES_MAX + 1)).is_err());
        let matchers = [0x1a, 0].repeat(MATCHERS_MAX + 1);
        let mut many = Vec::new();
        put_bytes(&mut many, 1, &matchers);
        assert!(decode(&many).is_err());
    }

    fn example() -> (Labels, Columns) {
        let histogram = Histogram {
            reset_hint: ResetHint::Gauge,
            schema: -4,
            zero_threshold: 0.5,
            zero_count: 1.5,
            count: 8.0,
            sum: -2.0,
            positive_spans: vec![BucketSpan { offset: -3, length: 2 }],
            positive: vec![1.25, 2.0],
            negative_spans: vec![BucketSpan { offset: 3, length: 1 }],
            negative: vec![3.25],
            custom_bounds: Vec::new(),
        };
        let columns = Columns {
            times: vec![-1, 2].into(),
            values: vec![1.5, f64::INFINITY],
            histograms: vec![HistogramSample { t: 3, start: 0, histogram: Arc::new(histogram) }],
            ..Columns::default()
        };
        (Labels::from_pairs([("__name__", "up"), ("job", "ü")]).unwrap(), columns)
    }

    #[test]
    fn series_of_samples_are_what_remote_write_reads() {
        // `TimeSeries` is the same message there, and field 1 of both of the messages around it.
        let (labels, columns) = example();
        let mut out = Vec::new();
        series(&mut out, &labels, &columns);
        let back = decode_v1(&out, &DEFAULT).unwrap().batch.series.remove(0);
        assert_eq!(back.labels, labels);
        let samples: Vec<_> = back.samples.iter().map(|sample| (sample.t, sample.value)).collect();
        assert_eq!(samples, [(-1, 1.5), (2, f64::INFINITY)]);
        assert_eq!(back.histograms[0].t, 3);
        assert_eq!(back.histograms[0].histogram, columns.histograms[0].histogram);
    }

    #[test]
    fn a_frame_has_its_length_its_checksum_and_one_series() {
        let (labels, columns) = example();
        let mut frame = Frame::default();
        let mut count = 0;
        chunks(&columns, |chunk| {
            count += 1;
            assert!(!frame.push(&chunk));
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap();
        assert!(count == 2 && !frame.is_empty());
        let mut out = Vec::new();
        frame.put(&mut out, 6, &labels);
        assert!(frame.is_empty());
        let mut reader = Reader::new(&out);
        let length = usize::try_from(reader.varint().unwrap()).unwrap();
        let message = &out[out.len() - length..];
        let sum = &out[out.len() - length - 4..out.len() - length];
        assert_eq!(sum, crc32c::crc32c(message).to_be_bytes());
        let mut reader = Reader::new(message);
        let (number, series) = reader.field().unwrap().unwrap();
        assert_eq!(number, 1);
        let mut fields = Reader::new(series.bytes().unwrap());
        let mut numbers = Vec::new();
        while let Some((number, _)) = fields.field().unwrap() {
            numbers.push(number);
        }
        assert_eq!(numbers, [1, 1, 2, 2]);
        assert_eq!(reader.field().unwrap().unwrap().1.varint().unwrap(), 6);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = decode(&bytes);
            let mut query = Vec::new();
            put_bytes(&mut query, 1, &bytes);
            let _ = decode(&query);
        }
    }
}
