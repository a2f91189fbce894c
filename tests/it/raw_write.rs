//! The two ways of a remote-write request to the store, with its labels read and unread, must leave
//! the same behind: for requests as senders make them and for damaged ones.

use proptest::prelude::*;
use trilith::model::batch::Appended;
use trilith::store::AppendMetrics;
use trilith::store::metrics::MetricsStore;
use trilith::wire::limits;
use trilith::wire::prometheus::{decode_v1, decode_v1_raw, decode_v2, decode_v2_raw, parse_labels};
use trilith::wire::protobuf::{put_bytes, put_double, put_message, put_uint, put_varint};

use super::metrics_model::{NOW_MS, everything, open};

#[derive(Clone, Debug)]
struct Series {
    /// Name and value by number: few, so that series come again.
    labels: Vec<(u8, u8)>,
    samples: Vec<(i8, i8)>,
    exemplar: bool,
    /// Samples before labels.
    reversed: bool,
}

#[derive(Clone, Debug)]
struct Request {
    series: Vec<Series>,
    metadata: bool,
    /// Bytes to change, where and how.
    damage: Vec<(u16, u8)>,
}

fn series() -> impl Strategy<Value = Series> {
    let label = (0u8..6, 0u8..4);
    let labels = proptest::collection::vec(label, 0..5).prop_map(|mut labels| {
        labels.insert(0, (0, 1));
        labels
    });
    let samples = proptest::collection::vec((any::<i8>(), any::<i8>()), 0..3);
    (labels, samples, proptest::bool::weighted(0.1), proptest::bool::weighted(0.03), proptest::bool::weighted(0.8))
        .prop_map(|(mut labels, samples, exemplar, reversed, sorted)| {
            if sorted {
                labels.sort_unstable();
                labels.dedup_by_key(|label| label.0);
            }
            Series { labels, samples, exemplar, reversed }
        })
}

fn request() -> impl Strategy<Value = Request> {
    let damage = prop_oneof![
        4 => Just(Vec::new()),
        1 => proptest::collection::vec((any::<u16>(), any::<u8>()), 1..3),
    ];
    (proptest::collection::vec(series(), 0..12), proptest::bool::weighted(0.2), damage)
        .prop_map(|(series, metadata, damage)| Request { series, metadata, damage })
}

fn text(label: (u8, u8)) -> (String, String) {
    let names = ["__name__", "a", "instance", "job", "zone", "z\u{fc}rich"];
    let values = ["", "up", "down", "a longer value than the others"];
    (names[usize::from(label.0)].to_owned(), values[usize::from(label.1)].to_owned())
}

fn put_samples(out: &mut Vec<u8>, samples: &[(i8, i8)]) {
    for (t, value) in samples {
        put_message(out, 2, |out| {
            // Zero is left out, as encoders do.
            if *value != 0 {
                put_double(out, 1, f64::from(*value));
            }
            put_uint(out, 2, (NOW_MS + i64::from(*t)) as u64);
        });
    }
}

fn v1(request: &Request) -> Vec<u8> {
    let mut out = Vec::new();
    for series in &request.series {
        put_message(&mut out, 1, |out| {
            let put_label = |out: &mut Vec<u8>, label| {
                let (name, value) = text(label);
                put_message(out, 1, |out| {
                    put_bytes(out, 1, name.as_bytes());
                    put_bytes(out, 2, value.as_bytes());
                });
            };
            if series.reversed {
                put_samples(out, &series.samples);
            }
            series.labels.iter().for_each(|label| put_label(out, *label));
            if !series.reversed {
                put_samples(out, &series.samples);
            }
            if series.exemplar {
                put_message(out, 3, |out| {
                    put_label(out, (1, 1));
                    put_double(out, 2, 0.5);
                    put_uint(out, 3, NOW_MS as u64);
                });
            }
        });
    }
    if request.metadata {
        put_message(&mut out, 3, |out| {
            put_uint(out, 1, 1);
            put_bytes(out, 2, b"up");
        });
    }
    damage(out, &request.damage)
}

fn v2(request: &Request) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut out = Vec::new();
    for series in &request.series {
        put_message(&mut out, 5, |out| {
            let mut refs = Vec::new();
            for symbol in series.labels.iter().flat_map(|label| <[String; 2]>::from(text(*label))) {
                let known = symbols.iter().position(|own| *own == symbol);
                let at = known.unwrap_or_else(|| {
                    symbols.push(symbol);
                    symbols.len() - 1
                });
                put_varint(&mut refs, at as u64);
            }
            put_bytes(out, 1, &refs);
            put_samples(out, &series.samples);
            put_message(out, 5, |out| put_uint(out, 1, u64::from(request.metadata)));
        });
    }
    symbols.iter().for_each(|symbol| put_bytes(&mut out, 4, symbol.as_bytes()));
    damage(out, &request.damage)
}

fn damage(mut bytes: Vec<u8>, damage: &[(u16, u8)]) -> Vec<u8> {
    for (at, change) in damage {
        let len = bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(usize::from(*at) % len) {
            *byte ^= change;
        }
    }
    bytes
}

/// Stores both ways; the answers, or none where the request was refused as a whole.
fn send(read: &MetricsStore, unread: &MetricsStore, body: &[u8], second: bool) -> Option<(Appended, Appended)> {
    let options = &limits::DEFAULT;
    let (plain, raw) = if second {
        (decode_v2(body, options), decode_v2_raw(body, options))
    } else {
        (decode_v1(body, options), decode_v1_raw(body, options))
    };
    assert_eq!(plain.is_err(), raw.is_err(), "{plain:?} {raw:?}");
    let (plain, raw) = (plain.ok()?, raw.ok()?);
    let mut first = read.append(&plain.batch).unwrap();
    first.rejected.merge(plain.rejected);
    let mut other = unread.append_raw(raw.batch, &|labels| parse_labels(labels, options)).unwrap();
    other.rejected.merge(raw.rejected);
    Some((first, other))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn labels_read_or_unread_leave_the_same_behind(
        requests in proptest::collection::vec((request(), any::<bool>(), proptest::bool::weighted(0.1)), 1..6),
    ) {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [read, unread] = [open(dirs[0].path()), open(dirs[1].path())];
        for (request, second, flush) in &requests {
            let body = if *second { v2(request) } else { v1(request) };
            if let Some((first, other)) = send(&read, &unread, &body, *second) {
                let counts = |appended: &Appended| (appended.accepted, appended.exemplars, appended.rejected.count());
                prop_assert_eq!(counts(&first), counts(&other), "{:?} {:?}", first.rejected, other.rejected);
            }
            if *flush {
                // Both: an exemplar that comes again counts as new once the head has let go of it.
                read.lane().flush().unwrap();
                unread.lane().flush().unwrap();
            }
            prop_assert_eq!(everything(&read), everything(&unread));
        }
        drop(unread);
        prop_assert_eq!(everything(&read), everything(&open(dirs[1].path())), "after a restart");
    }
}
