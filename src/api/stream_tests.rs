//! What is promised of answers that flow.

use std::sync::mpsc as channel;

use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::*;
use crate::api::context::Context;
use crate::api::places::Places;
use crate::base::counters::Counters;
use crate::base::support::ManualClock;
use crate::query::Engine;
use crate::store::memory::{Memory, Nothing};
use crate::wire::decompress::{Encoding, decompress};

fn context() -> Context {
    Context {
        metrics: Arc::new(Memory::default()),
        logs: Arc::new(Nothing),
        traces: Arc::new(Nothing),
        engine: Engine::default(),
        clock: Arc::new(ManualClock::at_ns(0)),
        counters: Counters::default(),
        places: Places::new(1),
        flows: Flows::new(1),
        server_info: Default::default(),
        retention_logs: None,
    }
}

fn buffered(context: &Context) -> u64 {
    context.counters.gauge("trilith_answer_buffered_bytes", "", &[]).get()
}

#[derive(Debug)]
struct Failed(String);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<LimitError> for Failed {
    fn from(error: LimitError) -> Self {
        Self(error.to_string())
    }
}

impl From<StreamError> for Failed {
    fn from(error: StreamError) -> Self {
        Self(error.to_string())
    }
}

/// An answer of so many lines of 1,000 bytes.
async fn lines(context: &Context, coding: Coding, lines: usize) -> Response {
    let work = move |_: &Context, _: &QueryBudget, sink: &mut Sink| {
        for line in 0..lines {
            sink.text.push_str(&format!("{line:>999}\n"));
            sink.pass()?;
        }
        Ok::<_, Failed>(())
    };
    context.stream(None, coding, "text/plain", work).await.unwrap()
}

fn expected(lines: usize) -> String {
    (0..lines).map(|line| format!("{line:>999}\n")).collect()
}

#[tokio::test]
async fn an_answer_of_any_length_takes_the_memory_of_a_few_pieces() {
    let context = context();
    let mut body = lines(&context, Coding::Identity, 16_000).await.into_body();
    assert_eq!(body.size_hint().exact(), None);
    let (mut bytes, mut most) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data.len() <= PIECE_BYTES + 1_000, "{}", data.len());
        bytes.extend_from_slice(&data);
        // Give the writer every chance to run ahead.
        tokio::time::sleep(Duration::from_millis(1)).await;
        most = most.max(buffered(&context));
    }
    let bound = (PIECES_MAX + 2) * (PIECE_BYTES + 1_000);
    assert!(most > PIECE_BYTES as u64 && most <= bound as u64, "{most} bytes were buffered");
    assert!(bytes == expected(16_000).as_bytes(), "{} bytes came", bytes.len());
    assert_eq!(buffered(&context), 0);
}

#[tokio::test]
async fn what_fits_into_a_piece_is_whole_and_small_answers_are_not_packed() {
    for (count, coding, encoding) in [
        (0, Coding::Gzip, Encoding::Identity),
        (1, Coding::Gzip, Encoding::Identity),
        (2, Coding::Gzip, Encoding::Gzip),
        (60, Coding::Zstd, Encoding::Zstd),
        (60, Coding::Identity, Encoding::Identity),
        (300, Coding::Gzip, Encoding::Gzip),
        (300, Coding::Zstd, Encoding::Zstd),
    ] {
        let response = lines(&context(), coding, count).await;
        let header = response.headers().get(CONTENT_ENCODING).map(|value| value.to_str().unwrap().to_owned());
        let is_packed = encoding != Encoding::Identity;
        assert_eq!(header, coding.name().filter(|_| is_packed).map(str::to_owned), "{count} {coding:?}");
        assert_eq!(response.body().size_hint().exact().is_some(), count <= 60, "{count} {coding:?}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        assert!(decompress(encoding, &bytes, 1 << 20).unwrap() == expected(count).as_bytes(), "{count} {coding:?}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_the_writing() {
    let context = context();
    let (tell, told) = channel::channel();
    let work = move |_: &Context, budget: &QueryBudget, sink: &mut Sink| {
        let ended = loop {
            sink.text.push_str("some more ");
            if let Err(error) = sink.pass() {
                break error;
            }
        };
        tell.send((ended.to_string(), budget.check())).unwrap();
        Err::<(), _>(Failed::from(ended))
    };
    let response = context.stream(None, Coding::Identity, "text/plain", work).await.unwrap();
    drop(response);
    let (ended, check) = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
    assert_eq!((ended.as_str(), check), ("the client hung up", Err(LimitError::Canceled)));
    // The writer may have charged a piece after the reader was gone; it takes it back.
    while buffered(&context) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_whole_answer() {
    let work = |_: &Context, _: &QueryBudget, sink: &mut Sink| {
        for _ in 0..200 {
            sink.text.push_str(&"x".repeat(1_000));
            sink.pass()?;
        }
        Err(Failed("in the middle".to_owned()))
    };
    let context = context();
    let response = context.stream(None, Coding::Identity, "text/plain", work).await.unwrap();
    assert!(response.into_body().collect().await.is_err());
    let failed = context.stream(None, Coding::Identity, "", |_, _, _| Err(Failed("early".to_owned()))).await;
    assert_eq!(failed.unwrap_err().0, "early");
}

#[tokio::test]
async fn an_answer_that_flows_leaves_its_place_to_the_next_query() {
    let context = context();
    let first = lines(&context, Coding::Identity, 2_000).await;
    assert_eq!(context.run(None, |_, _| 7).await, Ok(7), "there is one place, and it is free");
    // No place is left among the flowing answers, and nobody reads the first: it makes room for the second,
    // which keeps no query waiting meanwhile.
    let second = tokio::spawn({
        let context = context.clone();
        async move { lines(&context, Coding::Identity, 2_000).await }
    });
    while !second.is_finished() {
        assert_eq!(context.run(None, |_, _| 7).await, Ok(7));
    }
    assert!(first.into_body().collect().await.is_err());
    let second = second.await.unwrap().into_body().collect().await.unwrap().to_bytes();
    assert!(second == expected(2_000).as_bytes());
    assert_eq!((context.places.free(), context.flows.free(), buffered(&context)), (1, 1, 0));
}

#[tokio::test]
async fn an_answer_that_flows_is_charged_until_it_is_read_and_refused_where_there_is_no_room() {
    let memory = crate::base::memory::MemoryBudget::new(FLOW_BYTES as u64 + 1_000);
    let context =
        Context { engine: Engine::new(Default::default(), Some(memory.clone())), flows: Flows::new(5), ..context() };
    let first = lines(&context, Coding::Identity, 2_000).await;
    assert!(memory.used() >= FLOW_BYTES as u64);
    let work = |_: &Context, _: &QueryBudget, sink: &mut Sink| {
        sink.text.push_str(&"x".repeat(2 * PIECE_BYTES));
        sink.pass().map_err(Failed::from)
    };
    let refused = context.stream(None, Coding::Identity, "text/plain", work).await.unwrap_err();
    assert!(refused.0.contains("memory"), "{}", refused.0);
    assert!(first.into_body().collect().await.unwrap().to_bytes() == expected(2_000).as_bytes());
    while memory.used() > 0 {
        tokio::task::yield_now().await;
    }
    lines(&context, Coding::Identity, 2_000).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_place() {
    for (stall_max, read_max, why) in [(20, 600_000, "took nothing"), (600_000, 20, "did not read")] {
        let mut context = context();
        context.engine.options.stall_max = Duration::from_millis(stall_max);
        context.engine.options.read_max = Duration::from_millis(read_max);
        let (tell, told) = channel::channel();
        let work = move |_: &Context, _: &QueryBudget, sink: &mut Sink| {
            let ended = loop {
                sink.text.push_str("some more ");
                if let Err(error) = sink.pass() {
                    break error;
                }
            };
            tell.send(ended.to_string()).unwrap();
            Err::<(), _>(Failed::from(ended))
        };
        let response = context.stream(None, Coding::Identity, "text/plain", work).await.unwrap();
        let ended = tokio::task::spawn_blocking(move || told.recv().unwrap()).await.unwrap();
        assert!(ended.contains(why), "{ended}");
        while context.flows.free() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(context.places.free(), 1);
        assert!(response.into_body().collect().await.is_err(), "what came is no whole answer");
        assert_eq!(buffered(&context), 0);
    }
}
