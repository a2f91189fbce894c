//! Chunks and index entries written by hand, after the format's documentation; blocks of real programs
//! are read in tests/it/blocks.rs.

use proptest::prelude::*;

use super::chunk::{Point, decode, frame_bytes};
use super::index::{ChunkRef, Symbols, Toc, series};
use super::meta::{Meta, tombstones};
use crate::model::histogram::{BucketSpan, ResetHint};

#[derive(Default)]
struct Writer {
    bits: Vec<bool>,
}

impl Writer {
    fn bits(&mut self, value: u64, count: u32) -> &mut Self {
        self.bits.extend((0..count).rev().map(|at| value >> at & 1 == 1));
        self
    }

    /// A number of 3 bits behind its prefix; 0 is one bit.
    fn small(&mut self, value: i64) -> &mut Self {
        if value == 0 { self.bits(0, 1) } else { self.bits(0b10, 2).bits(value.cast_unsigned() & 7, 3) }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().map(|(at, bit)| u8::from(*bit) << (7 - at)).sum();
        self.bits.chunks(8).map(byte).collect()
    }
}

fn framed(encoding: u8, data: &[u8]) -> Vec<u8> {
    let body = [&[encoding], data].concat();
    let mut frame = vec![data.len() as u8];
    frame.extend_from_slice(&body);
    frame.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    frame
}

fn points(frame: &[u8]) -> Vec<Point> {
    let mut points = Vec::new();
    decode(frame, &mut |point| points.push(point)).unwrap();
    points
}

#[test]
fn floats_are_read_as_documented() {
    let mut writer = Writer::default();
    // Two samples 5 ms apart; the third 2 ms later than expected with another value, the fourth with its window.
    writer.bits(4, 16).bits(20, 8).bits(1.5f64.to_bits(), 64);
    writer.bits(5, 8).bits(0, 1);
    let xor = 1.5f64.to_bits() ^ 2.5f64.to_bits();
    let (leading, trailing) = (xor.leading_zeros(), xor.trailing_zeros());
    let meaningful = 64 - leading - trailing;
    writer.bits(0b10, 2).bits(2, 14).bits(0b11, 2).bits(leading.into(), 5).bits(meaningful.into(), 6);
    writer.bits(xor >> trailing, meaningful);
    writer.bits(0b10, 2).bits((1 << 14) - 3, 14).bits(0b10, 2).bits(xor >> trailing, meaningful);
    let frame = framed(1, &writer.bytes());
    assert_eq!(frame_bytes(&frame).unwrap(), frame.len());
    let read: Vec<_> = points(&frame)
        .into_iter()
        .map(|point| match point {
            Point::Float(sample) => (sample.t, sample.value),
            Point::Histogram(_) => panic!("a float"),
        })
        .collect();
    assert_eq!(read, [(10, 1.5), (15, 1.5), (22, 2.5), (26, 1.5)]);
}

#[test]
fn custom_buckets_and_hints_are_read_as_documented() {
    let mut writer = Writer::default();
    writer.bits(2, 16).bits(0b1000_0000, 8).bits(0, 8);
    // Schema -53 takes 9 bits.
    writer.bits(0b1110, 4).bits((-53i64).cast_unsigned() & 0x1FF, 9);
    // One positive span of two buckets, no negative one, the bounds 0.001 and pi.
    writer.small(1).small(2).small(0).small(0);
    writer.small(2).small(2).bits(0, 1).bits(std::f64::consts::PI.to_bits(), 64);
    // Time 3, count 4, zero count 0, sum, buckets 3 and 1.
    writer.small(3).small(4).small(0).bits(2.5f64.to_bits(), 64).small(3).small(-2);
    // A millisecond later one more in the second bucket.
    writer.small(1).small(1).small(0).bits(0, 1).small(0).small(1);
    let read = points(&framed(2, &writer.bytes()));
    let [Point::Histogram(first), Point::Histogram(second)] = &read[..] else { panic!("two histograms") };
    assert_eq!((first.t, second.t), (3, 4));
    let (first, second) = (&first.histogram, &second.histogram);
    assert_eq!((first.reset_hint, second.reset_hint), (ResetHint::Reset, ResetHint::Unknown));
    assert_eq!(first.custom_bounds, [0.001, std::f64::consts::PI]);
    assert_eq!(first.positive_spans, [BucketSpan { offset: 0, length: 2 }]);
    assert_eq!((&first.positive[..], &second.positive[..]), (&[3.0, 1.0][..], &[3.0, 2.0][..]));
    assert_eq!((first.count, second.count, second.sum), (4.0, 5.0, 2.5));
}

#[test]
fn a_flipped_bit_is_found_and_an_unknown_encoding_named() {
    let mut frame = framed(1, &[0, 0]);
    frame[2] ^= 1;
    assert!(decode(&frame, &mut |_| {}).unwrap_err().to_string().contains("checksum"));
    let error = decode(&framed(9, &[0, 0]), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("encoding 9"), "{error}");
}

fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    body.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    body
}

#[test]
fn series_have_their_strings_and_chunks() {
    let strings = sealed(b"\0\0\0\x03\0\x01a\x02bc".to_vec());
    let section = [&(strings.len() as u32 - 4).to_be_bytes()[..], &strings].concat();
    let symbols = Symbols::decode(section).unwrap();
    // One pair; two chunks: 10..=15 at 8 of file 0, 20..=20 at 3 of file 1.
    let place = 1i64 << 32 | 3;
    let mut body = vec![1, 1, 2, 2, 20, 5, 8, 5, 0];
    let mut delta = ((place - 8) << 1).cast_unsigned();
    while delta >= 0x80 {
        body.push(delta as u8 | 0x80);
        delta >>= 7;
    }
    body.push(delta as u8);
    let entry = [&[body.len() as u8][..], &sealed(body)].concat();
    let read = series(&entry, &symbols).unwrap();
    assert_eq!(read.labels, [("a", "bc")]);
    let chunk = |min_t, max_t, file, offset| ChunkRef { min_t, max_t, file, offset };
    assert_eq!(read.chunks, [chunk(10, 15, 0, 8), chunk(20, 20, 1, 3)]);
    assert!(symbols.get(3).is_err());
}

#[test]
fn tombstones_and_meta_are_read() {
    let file = [b"\x01\x30\xba\x30\x01".to_vec(), sealed(vec![3, 20, 30, 3, 0x81, 1, 0x83, 1])].concat();
    assert_eq!(tombstones(&file).unwrap().get(&3), Some(&vec![(10, 15), (-65, -66)]));
    let meta = br#"{"ulid":"X","minTime":1,"maxTime":9,"stats":{"numSamples":7},"version":1}"#;
    assert_eq!(Meta::decode(meta).unwrap().stats.samples, 7);
    assert!(Meta::decode(br#"{"ulid":"X","minTime":1,"maxTime":9,"version":2}"#).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoders(bytes in prop::collection::vec(0u8.., 0..300), encoding in 1u8..4) {
        let _ = frame_bytes(&bytes);
        let _ = decode(&bytes, &mut |_| {});
        let _ = decode(&framed(encoding, &bytes), &mut |_| {});
        let _ = Toc::decode(&bytes, 1000);
        let _ = Toc::decode(&sealed(bytes.clone()), 1000);
        let _ = tombstones(&[b"\x01\x30\xba\x30\x01".to_vec(), sealed(bytes.clone())].concat());
        if let Ok(symbols) = Symbols::decode([vec![0; 4], sealed(bytes.clone())].concat()) {
            let _ = series(&[vec![0], sealed(bytes)].concat(), &symbols);
        }
    }
}
