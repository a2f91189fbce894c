//! Loki's push as JSON: `{"streams":[{"stream":{..},"values":[["ns","line",{..}]]}]}`, and the form
//! of `/api/prom/push`: `{"streams":[{"labels":"{..}","entries":[{"ts":"RFC 3339","line":".."}]}]}`.
//! Read as a stream of tokens into the batch: no tree of values is built, nesting is bounded by
//! serde_json's recursion limit of 128.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Decoded;
use super::error::{WireError, cut};
use super::json_text;
use super::label_check::Refusal;
use super::limits::Options;
use super::loki_labels;
use super::loki_streams::{Building, Pair};
use crate::model::batch::LogsBatch;
use crate::model::log::{ARRIVAL, LogEntry};

/// Decodes an uncompressed JSON push.
///
/// # Errors
/// [`WireError`] when it is no such JSON, decodes to too much or has no streams.
pub fn decode_json(body: &[u8], options: &Options) -> Result<Decoded<LogsBatch>, WireError> {
    let mut state = State { building: Building::new(options, body.len()), failed: None };
    let text = json_text::lossy(body, &mut state.building.meter)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let result = Push(&mut state).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (state.failed, result) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(WireError::malformed("JSON push request", cut(&error.to_string()))),
        (None, Ok(())) => state.building.finish(),
    }
}

struct State<'a> {
    building: Building<'a>,
    /// An error of ours on its way out through serde.
    failed: Option<WireError>,
}

impl State<'_> {
    fn check<T, E: Error>(&mut self, result: Result<T, WireError>) -> Result<T, E> {
        result.map_err(|error| {
            let text = E::custom(&error);
            self.failed = Some(error);
            text
        })
    }
}

/// Makes a visitor a seed: it is called by the method that fits what it reads.
macro_rules! seed {
    ($name:ident, $method:ident, $value:ty) => {
        impl<'de> DeserializeSeed<'de> for $name<'_, '_> {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$method(self)
            }
        }
    };
}

struct Push<'s, 'o>(&'s mut State<'o>);
seed!(Push, deserialize_map, ());

impl<'de> Visitor<'de> for Push<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with streams")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            if key == "streams" {
                map.next_value_seed(Streams(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Streams<'s, 'o>(&'s mut State<'o>);
seed!(Streams, deserialize_seq, ());

impl<'de> Visitor<'de> for Streams<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of streams")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Stream(self.0))?.is_some() {}
        Ok(())
    }
}

struct Stream<'s, 'o>(&'s mut State<'o>);
seed!(Stream, deserialize_map, ());

/// The labels of a stream, in either form.
enum StreamLabels {
    Pairs(Vec<(String, String)>),
    Text(String),
}

impl<'de> Visitor<'de> for Stream<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with stream and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let state = self.0;
        let mut labels = StreamLabels::Pairs(Vec::new());
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "stream" => labels = StreamLabels::Pairs(map.next_value_seed(LabelPairs(state))?),
                "labels" => labels = StreamLabels::Text(map.next_value()?),
                "values" | "entries" => map.next_value_seed(Entries { state, entries: &mut entries })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let pairs = match &labels {
            StreamLabels::Text(text) => loki_labels::parse(text),
            StreamLabels::Pairs(pairs) => legal(pairs),
        };
        let result = state.building.stream(pairs, entries);
        state.check(result)
    }
}

fn legal(pairs: &[(String, String)]) -> Result<Vec<(&str, Cow<'_, str>)>, Refusal> {
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !loki_labels::is_label_name(name)) {
        return Err(Refusal::new("invalid_labels", format!("{:?} is not a label name", cut(name))));
    }
    Ok(pairs.iter().map(|(name, value)| (name.as_str(), Cow::Borrowed(value.as_str()))).collect())
}

/// The labels of a stream: what is no string stands for its own text, as with Loki.
struct LabelPairs<'s, 'o>(&'s mut State<'o>);
seed!(LabelPairs, deserialize_map, Vec<(String, String)>);

impl<'de> Visitor<'de> for LabelPairs<'_, '_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            let metered = self.0.building.meter.take(2 * size_of::<String>() + 32);
            self.0.check(metered)?;
            let value = match value.get() {
                text if text.starts_with('"') => serde_json::from_str(text).map_err(A::Error::custom)?,
                text => text.to_owned(),
            };
            pairs.push((name, value));
        }
        Ok(pairs)
    }
}

/// An object whose values are strings.
struct Pairs<'s, 'o>(&'s mut State<'o>);
seed!(Pairs, deserialize_map, Vec<(String, String)>);

impl<'de> Visitor<'de> for Pairs<'_, '_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry::<String, String>()? {
            let metered = self.0.building.meter.take(2 * size_of::<String>() + 32);
            self.0.check(metered)?;
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

struct Entries<'s, 'o> {
    state: &'s mut State<'o>,
    entries: &'s mut Vec<LogEntry>,
}
seed!(Entries, deserialize_any, ());

impl<'de> Visitor<'de> for Entries<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of entries")
    }

    /// `null`, as a stream without entries has it.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Entry { state: self.state, entries: self.entries })?.is_some() {}
        Ok(())
    }
}

struct Entry<'s, 'o> {
    state: &'s mut State<'o>,
    entries: &'s mut Vec<LogEntry>,
}
seed!(Entry, deserialize_any, ());

impl Entry<'_, '_> {
    fn add<E: Error>(self, t: i64, line: String, metadata: &[(String, String)]) -> Result<(), E> {
        if self.state.building.refuses_pairs(metadata.len()) {
            return Ok(());
        }
        let metadata: Vec<Pair<'_>> = metadata.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let building = &mut self.state.building;
        let metered = building.meter.take(line.len());
        let result = metered.and_then(|()| building.entry(t.max(ARRIVAL + 1), line, &metadata, self.entries));
        self.state.check(result)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry [\"<nanoseconds>\", \"<line>\", {<metadata>}]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let missing = || A::Error::custom("an entry has a time and a line");
        let t: Cow<'de, str> = seq.next_element()?.ok_or_else(missing)?;
        let line: String = seq.next_element()?.ok_or_else(missing)?;
        let metadata = seq.next_element_seed(Pairs(self.state))?.unwrap_or_default();
        if seq.next_element::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("an entry has at most three elements"));
        }
        let t = t.parse().map_err(|_| A::Error::custom(format!("{:?} is no time in nanoseconds", cut(&t))))?;
        self.add(t, line, &metadata)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut t, mut line, mut metadata) = (None, String::new(), Vec::new());
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "ts" | "timestamp" => t = Some(map.next_value::<Cow<'de, str>>()?),
                "line" => line = map.next_value()?,
                "structuredMetadata" => metadata = map.next_value_seed(Pairs(self.state))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        let t = t.ok_or_else(|| A::Error::custom("an entry has no ts"))?;
        let t = chrono::DateTime::parse_from_rfc3339(&t).ok().and_then(|time| time.timestamp_nanos_opt());
        let t = t.ok_or_else(|| A::Error::custom("ts is no time as of RFC 3339"))?;
        self.add(t, line, &metadata)
    }
}
