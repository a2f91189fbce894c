//! `tail`: new lines by WebSocket, as they arrive.
//! Flow: the last lines first; then the store is asked for the recent past again and again, because
//! lines arrive late and out of order, and what was sent already is known by its hash.
//! Bounds: so many connections, lines per poll, hashes, seconds for one send and for the whole.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::{AHashMap, RandomState};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use tokio::time::MissedTickBehavior;

use super::error::ApiError;
use super::json;
use super::params::{LINES_MAX, Params};
use crate::api::context::Context;
use crate::base::limits::{Hold, LimitError, QueryBudget};
use crate::model::time::RangeNs;
use crate::query::logql::{Direction, Expr, Line, LogExpr, LogQuery, log_query, parse_within};

/// Most tails at the same time, in the whole process.
const TAILS_MAX: usize = 64;
/// Memory of a line that is noted as sent, in bytes, with the room a hash table leaves free.
const SENT_BYTES: usize = 18;
/// Between two looks at the store.
const POLL: Duration = Duration::from_millis(500);
/// Between two pings.
const PING: Duration = Duration::from_secs(1);
/// Longest time that one frame may take to send.
const SEND_MAX: Duration = Duration::from_secs(10);
/// Longest time that one look at the store may take.
const LOOK_MAX: Duration = Duration::from_secs(10);
/// Longest life of a tail.
const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// How late a line may arrive and still be sent, in nanoseconds.
const LATE: i64 = 15_000_000_000;
/// How far in the future a line may lie and still be sent, in nanoseconds.
const EARLY: i64 = 600_000_000_000;
/// How far the past is shown at first when no start is given, in nanoseconds.
const START_DEFAULT: i64 = 3_600_000_000_000;
/// Largest frame that a client may send; it has nothing to say.
const INCOMING_BYTES_MAX: usize = 64 << 10;

static TAILS: AtomicUsize = AtomicUsize::new(0);

/// A place among the tails, given back when dropped.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let taken =
            TAILS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tails| (tails < TAILS_MAX).then_some(tails + 1));
        taken.ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TAILS.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Asked {
    expr: LogExpr,
    /// What the query holds, for as long as it is tailed.
    _budget: Arc<QueryBudget>,
    start: Option<i64>,
    limit: usize,
    delay: i64,
}

fn asked(params: &Params, budget: Arc<QueryBudget>) -> Result<Asked, ApiError> {
    let Expr::Log(expr) = parse_within(params.query(), &budget)? else {
        return Err(ApiError::bad_data("tail takes a log query, not a metric query"));
    };
    let delay = match params.get("delay_for") {
        None => 0,
        Some(text) => text
            .parse()
            .ok()
            .filter(|delay| (0..=5).contains(delay))
            .ok_or_else(|| ApiError::bad_data("delay_for can't be greater than 5"))?,
    };
    Ok(Asked {
        expr,
        _budget: budget,
        start: params.time("start")?,
        limit: params.limit()?,
        delay: delay * 1_000_000_000,
    })
}

/// Upgrades to a WebSocket, once the query is known to be good.
pub(super) async fn tail(
    State(context): State<Context>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    params: Params,
) -> Response {
    let read = move |context: &Context, _: &QueryBudget| asked(&params, context.engine.budget(None));
    let asked = match context.run(None, read).await.map_err(ApiError::from).and_then(|asked| asked) {
        Ok(asked) => asked,
        Err(error) => return error.into_response(),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return ApiError::bad_data(format!("tail needs a WebSocket: {rejection}")).into_response(),
    };
    let Some(place) = Place::take() else {
        return ApiError::throttled(format!("more than {TAILS_MAX} tails at the same time; close one")).into_response();
    };
    let upgrade = upgrade.max_message_size(INCOMING_BYTES_MAX).max_frame_size(INCOMING_BYTES_MAX);
    upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        serve(socket, Tail::new(context, asked)).await;
    })
}

/// Why a tail ends.
enum End {
    /// The client is gone.
    Gone,
    /// We end it, and say why.
    Reason(u16, String),
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_MAX, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Gone),
        Err(_) => Err(End::Reason(1008, "the client reads too slowly".to_owned())),
    }
}

async fn serve(mut socket: WebSocket, mut tail: Tail) {
    if let Err(End::Reason(code, mut reason)) = run(&mut socket, &mut tail).await {
        // A close frame holds 123 bytes of reason.
        while reason.len() > 120 {
            reason.pop();
        }
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let _ = tokio::time::timeout(SEND_MAX, socket.send(close)).await;
    }
}

async fn run(socket: &mut WebSocket, tail: &mut Tail) -> Result<(), End> {
    let started = Instant::now();
    let mut polls = tokio::time::interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pings = tokio::time::interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            incoming = socket.recv() => match incoming {
                // Its close has an answer that is sent when the socket is read on.
                Some(Ok(Message::Close(_))) => {
                    let _ = tokio::time::timeout(SEND_MAX, socket.recv()).await;
                    return Err(End::Gone);
                }
                None | Some(Err(_)) => return Err(End::Gone),
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => {}
            },
            _ = pings.tick() => send(socket, Message::Ping(axum::body::Bytes::new())).await?,
            _ = polls.tick() => {
                let frame = tail.look().await.map_err(|error| End::Reason(1011, error.message().to_owned()))?;
                if let Some(frame) = frame {
                    send(socket, Message::Text(frame.into())).await?;
                }
            }
        }
        if started.elapsed() > LIFE_MAX {
            return Err(End::Reason(1000, "reached tail max duration limit".to_owned()));
        }
    }
}

/// What was asked for, and how far it is answered.
struct Tail {
    context: Context,
    asked: std::sync::Arc<Asked>,
    /// Where the next look begins; `None` before the first.
    from: Option<i64>,
    /// Lines that were sent, by hash, with their times.
    sent: AHashMap<u64, i64>,
    hasher: RandomState,
    /// What it is charged for between two looks: the lines noted as sent, and the frame on its way.
    held: Option<Hold>,
}

impl Tail {
    fn new(context: Context, asked: Asked) -> Self {
        Self { context, asked: asked.into(), from: None, sent: AHashMap::new(), hasher: RandomState::new(), held: None }
    }

    async fn lines(&self, range: RangeNs, direction: Direction, limit: usize) -> Result<Vec<Line>, ApiError> {
        let asked = self.asked.clone();
        let found = self.context.run(Some(LOOK_MAX), move |context, budget| {
            let query = LogQuery { range, limit, direction, now_ns: context.clock.now_ns() };
            log_query(context.logs.as_ref(), &asked.expr, query, budget)
        });
        Ok(found.await??.lines)
    }

    /// A frame with the lines that came since the last look, if any; charged, with what is remembered, until
    /// the next.
    async fn look(&mut self) -> Result<Option<String>, ApiError> {
        self.held = None;
        let frame = self.next_frame().await?;
        if let Some(memory) = &self.context.engine.memory {
            let bytes = self.sent.capacity() * SENT_BYTES + frame.as_ref().map_or(0, String::capacity);
            self.held = Some(memory.try_hold(bytes).map_err(LimitError::ServerMemory)?);
        }
        Ok(frame)
    }

    async fn next_frame(&mut self) -> Result<Option<String>, ApiError> {
        let now = self.context.clock.now_ns().saturating_sub(self.asked.delay);
        let end = if self.asked.delay > 0 { now } else { now.saturating_add(EARLY) };
        let recent = now.saturating_sub(LATE).max(self.asked.start.unwrap_or(i64::MIN));
        let Some(from) = self.from else { return self.first_look(now, recent, end).await };
        let budget = self.context.engine.budget(Some(LOOK_MAX));
        let mut lines = self.lines(RangeNs { start: from, end }, Direction::Forward, LINES_MAX).await?;
        budget.charge(lines.iter().map(Line::bytes).sum())?;
        // Where a look was full, the next goes on from its last line; a tail that falls behind for
        // longer than a minute jumps to the present.
        let mut next = recent;
        let mut dropped = false;
        if lines.len() >= LINES_MAX
            && let Some(last) = lines.last()
        {
            dropped = last.t < now.saturating_sub(60_000_000_000) || last.t == from;
            next = if dropped { next } else { last.t };
        }
        self.from = Some(next);
        lines.retain(|line| self.sent.insert(self.hash(line), line.t).is_none());
        self.sent.retain(|_, t| *t >= next);
        let wanted = !lines.is_empty() || dropped;
        wanted.then(|| frame(&lines, dropped.then_some(now), &budget)).transpose()
    }

    /// The last lines, as many as were asked for. Older ones of the recent past are taken as sent.
    async fn first_look(&mut self, now: i64, recent: i64, end: i64) -> Result<Option<String>, ApiError> {
        for line in self.lines(RangeNs { start: recent, end }, Direction::Forward, LINES_MAX).await? {
            self.sent.insert(self.hash(&line), line.t);
        }
        let start = self.asked.start.unwrap_or(now.saturating_sub(START_DEFAULT));
        let budget = self.context.engine.budget(Some(LOOK_MAX));
        let mut lines = self.lines(RangeNs { start, end }, Direction::Backward, self.asked.limit).await?;
        budget.charge(lines.iter().map(Line::bytes).sum())?;
        lines.reverse();
        for line in lines.iter().filter(|line| line.t >= recent) {
            self.sent.insert(self.hash(line), line.t);
        }
        self.from = Some(recent);
        (!lines.is_empty()).then(|| frame(&lines, None, &budget)).transpose()
    }

    fn hash(&self, line: &Line) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        line.t.hash(&mut hasher);
        line.stream.hash(&mut hasher);
        line.line.hash(&mut hasher);
        hasher.finish()
    }
}

fn frame(lines: &[Line], dropped: Option<i64>, budget: &QueryBudget) -> Result<String, ApiError> {
    let dropped = dropped.map(|t| format!("[{{\"labels\":\"{{}}\",\"timestamp\":\"{t}\"}}]"));
    Ok(format!(
        "{{\"streams\":{},\"dropped_entries\":{}}}",
        json::streams(lines, false, budget)?,
        dropped.unwrap_or_else(|| "null".to_owned())
    ))
}
