//! A running server: what it takes to start one, and to stop it.
//! Flow: data directory and lock, listeners, then the store in the background; requests are let
//! through when it is open. Stopping: no new requests, open ones end, heads are flushed, done.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::api::server_info::ServerInfo;
use crate::base::clock::{Clock, SystemClock};
use crate::base::counters::Counters;
use crate::base::disk::{Disk, RealDisk};
use crate::base::in_flight::InFlight;
use crate::query;
use crate::receive::RefusedLately;
use crate::store::Administer;
use crate::store::conditions::Conditions;
use crate::store::env::Progress;
use crate::store::stores::StoreOptions;
use crate::store::wal::WalOptions;

use super::config::{Config, Extra};
use super::connections::Connections;
use super::data_dir::{DataDir, DataDirError};
use super::greeting::Greeting;
use super::host;
use super::listen::{self, Front};
use super::listener::{Addresses, ListenerKind};
use super::memory;
use super::opening::{NotOpened, Opening};
use super::rates::Rates;
use super::readiness::{Readiness, Routers};
use super::router;
use super::services::{self, Services};
use super::state::ServerState;
use super::telemetry::Telemetry;

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(
        "--memory-limit comes to {limit} bytes here, of {total} that the cgroup or host has; at least {} are needed: \
         give it more, or write a larger size or percentage",
        memory::LIMIT_MIN
    )]
    Memory { limit: u64, total: u64 },
    #[error(transparent)]
    Open(#[from] NotOpened),
    #[error("the server could not be opened before")]
    OpenedBefore,
    // The reason stands before the advice, so it is not a source to be said again.
    #[error("cannot listen on {address} (--{flag}): {reason}; {advice}")]
    Bind { address: SocketAddr, flag: &'static str, reason: io::Error, advice: String },
}

/// Share of the memory limit that bodies that are being received have together.
const BODIES_SHARE: u64 = 8;
/// How long open requests may take to end when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(2_500);
/// How long stopping may take in all: the last flush has what open requests leave of it. What is
/// not flushed by then is in the write-ahead log.
const STOP_TIMEOUT: Duration = Duration::from_millis(3_800);

/// A server that runs until it is stopped.
pub struct Server {
    /// Where it listens; a port that was asked for as 0 is the real one here.
    pub addresses: Addresses,
    readiness: Arc<Readiness>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    services: Arc<OnceLock<Services>>,
    opening: Option<JoinHandle<Result<(), Cause>>>,
    data_dir: Arc<DataDir>,
}

/// How long the data directory may be another's, who may be about to end, or not be had for what passes.
const TAKE_WAIT: Duration = Duration::from_secs(2);
const TAKE_AGAIN: Duration = Duration::from_millis(100);

/// Takes the data directory, waiting a moment for it.
async fn take(path: &Path) -> Result<DataDir, DataDirError> {
    let end = Instant::now() + TAKE_WAIT;
    loop {
        let own = path.to_owned();
        match tokio::task::spawn_blocking(move || DataDir::take(&own)).await {
            Ok(Err(error)) if error.may_pass() && Instant::now() < end => tokio::time::sleep(TAKE_AGAIN).await,
            Ok(taken) => return taken,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Starts a server: when this returns, its listeners answer, and the store is being opened.
///
/// # Errors
/// [`RunError`], when the data directory cannot be used, a listener cannot be bound, or there is too
/// little memory.
pub async fn run(config: Config, telemetry: Option<Telemetry>) -> Result<Server, RunError> {
    run_on(config, telemetry, Arc::new(RealDisk)).await
}

/// Starts a server whose store is on `disk`, which tests may break.
///
/// # Errors
/// As [`run`].
pub async fn run_on(mut config: Config, telemetry: Option<Telemetry>, disk: Arc<dyn Disk>) -> Result<Server, RunError> {
    let total = host::memory_total();
    let memory_limit = config.memory_limit.of(total);
    if memory_limit < memory::LIMIT_MIN {
        return Err(Cause::Memory { limit: memory_limit, total }.into());
    }
    let data_dir = Arc::new(take(&config.data_dir).await.map_err(Cause::from)?);
    let open_files = host::raise_open_files_limit();
    let (sockets, addresses) = bind(&config).await?;
    config.data_dir = data_dir.path().to_owned();
    config.listen = addresses.main;
    // Answers that flow end first, which says more than a connection that breaks.
    let patience = config.query.stall_max.saturating_mul(2);
    let counters = Counters::default();
    let progress = Arc::new(Progress::default());
    let readiness = Arc::new(Readiness::new(progress.clone()));
    let services = Arc::new(OnceLock::new());
    let memory = memory::account(memory_limit);
    // One that tells its own logs has the process for itself; in tests many share one.
    let outside = telemetry.as_ref().map(|_| memory::watch(&memory));
    let room = config.bodies.bytes_max.min(memory.limit() / BODIES_SHARE);
    let in_flight = InFlight::new(config.bodies.clone(), memory.share("bodies_in_flight", room));
    let connections = Arc::new(Connections::new(&counters, open_files, in_flight.limit() / 4, &memory));
    let astray = Arc::new(RefusedLately::default());
    let state = ServerState {
        in_flight: in_flight.clone(),
        connections: connections.clone(),
        readiness: readiness.clone(),
        services: services.clone(),
        counters: counters.clone(),
        rates: Rates::watch(&counters),
        astray: astray.clone(),
        telemetry,
        started: Instant::now(),
        started_at: u64::try_from(SystemClock.now_ns() / 1_000_000_000).unwrap_or(0),
        memory_limit,
        memory,
        _outside: outside,
        config: Arc::new(Mutex::new(config)),
    };
    let front = Arc::new(Front::new(readiness.clone(), &counters, connections, in_flight, patience, astray));
    let kinds: Vec<ListenerKind> = sockets.iter().map(|(kind, _)| *kind).collect();
    readiness.set_waiting(routers(&kinds, |kind| router::waiting(&state, kind)));
    let (stop, stopped) = watch::channel(false);
    let mut listeners = JoinSet::new();
    for (kind, socket) in sockets {
        listeners.spawn(listen::serve(socket, kind, front.clone(), stopped.clone()));
    }
    greet(&state.config.lock(), &addresses, &data_dir, memory_limit, &*disk);
    let holds = data_dir.clone();
    let opening = Some(tokio::task::spawn_blocking(move || {
        let conditions = Conditions::new(&state.counters);
        let opening = Opening { disk, readiness: &state.readiness, conditions, stop: stopped };
        open(&state, &kinds, &progress, &holds, opening)
    }));
    Ok(Server { addresses, readiness, stop, listeners, services, opening, data_dir })
}

/// Says what begins to listen.
fn greet(config: &Config, addresses: &Addresses, data_dir: &DataDir, memory_limit: u64, disk: &dyn Disk) {
    let space = disk.space(data_dir.path()).ok();
    let greeting = Greeting {
        config,
        addresses,
        data_dir: data_dir.path(),
        is_new: data_dir.is_new(),
        memory_limit,
        disk_limit: space.map(|space| config.disk_limit.of(space.total)),
    };
    greeting.say();
}

/// What endpoints may say of the server.
fn server_info(state: &ServerState) -> ServerInfo {
    let in_force = state.config.clone();
    let settings = move || {
        let config = in_force.lock();
        config.effective.iter().map(|(name, (text, _))| (*name, text.clone())).collect()
    };
    ServerInfo {
        started_ms: i64::try_from(state.started_at).unwrap_or_default() * 1_000,
        settings: Arc::new(settings),
        slow_query: state.config.lock().slow_query,
        running: Arc::default(),
        admin: None,
    }
}

/// Opens the store, which replays its log, and lets requests through. Takes as long as it takes.
fn open(
    state: &ServerState,
    kinds: &[ListenerKind],
    progress: &Arc<Progress>,
    data_dir: &DataDir,
    opening: Opening<'_>,
) -> Result<(), Cause> {
    let config = state.config.lock().clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = opening.open(|disk| StoreOptions {
        dir: data_dir.path().to_owned(),
        disk_max: disk.space(data_dir.path()).map(|space| config.disk_limit.of(space.total)).ok(),
        disk,
        clock: clock.clone(),
        counters: state.counters.clone(),
        progress: progress.clone(),
        memory: state.memory.clone(),
        retention: config.retention,
        rules: config.metrics_rules.clone(),
        wal: WalOptions { fsync: config.wal_fsync, ..WalOptions::default() },
        background: true,
        metrics: config.metrics,
        logs: Default::default(),
        traces: Default::default(),
    })?;
    let administer = config.admin_api.then(|| store.clone() as Arc<dyn Administer>);
    let info = ServerInfo { admin: administer, ..server_info(state) };
    let memory_max = config.query_memory_max.of(state.memory_limit).min(services::queries_bytes_max(&state.memory));
    let limits = query::Options { memory_max, ..config.query };
    let services = Services::new(store, clock, &state.counters, config.retention, &state.memory, limits, info);
    services.ingestor.set_type_and_unit_labels(config.type_and_unit_labels);
    let routers = routers(kinds, |kind| router::open(state, &services, kind));
    let _ = state.services.set(services);
    state.readiness.set_ready(routers);
    let after_ms = u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(target: "trilith", after_ms, "ready");
    Ok(())
}

fn routers(kinds: &[ListenerKind], build: impl Fn(ListenerKind) -> axum::Router) -> Routers {
    let built: HashMap<ListenerKind, axum::Router> = kinds.iter().map(|kind| (*kind, build(*kind))).collect();
    Box::new(move |kind| built.get(&kind).cloned().unwrap_or_default())
}

fn bind_error(address: SocketAddr, flag: &'static str, reason: io::Error) -> Cause {
    let mut advice = match reason.kind() {
        io::ErrorKind::AddrInUse => "free the port or name another".to_owned(),
        io::ErrorKind::AddrNotAvailable => "name an address of this machine, or 0.0.0.0 for all of them".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "name a port from 1024 up, or give the program the right to this one".to_owned()
        }
        _ => "name another address".to_owned(),
    };
    if flag != "listen" {
        advice.push_str(&format!(", or turn it off with --{flag} off"));
    }
    Cause::Bind { address, flag, reason, advice }
}

async fn bind(config: &Config) -> Result<(Vec<(ListenerKind, TcpListener)>, Addresses), Cause> {
    let main = TcpListener::bind(config.listen).await;
    let main = main.map_err(|reason| bind_error(config.listen, "listen", reason))?;
    let main_address = main.local_addr().unwrap_or(config.listen);
    let mut sockets = vec![(ListenerKind::Main, main)];
    let mut extra_addresses = HashMap::new();
    for extra in Extra::ALL {
        let Some(address) = config.address(extra) else { continue };
        let flag = extra.flag();
        let socket = TcpListener::bind(address).await.map_err(|reason| bind_error(address, flag, reason))?;
        extra_addresses.insert(extra, socket.local_addr().unwrap_or(address));
        sockets.push((ListenerKind::Extra(extra), socket));
    }
    Ok((sockets, Addresses { main: main_address, extra: extra_addresses }))
}

impl Server {
    /// Waits until requests are let through.
    ///
    /// # Errors
    /// When the store could not be opened.
    pub async fn ready(&mut self) -> Result<(), RunError> {
        let Some(opening) = self.opening.as_mut() else {
            return if self.services.get().is_some() { Ok(()) } else { Err(Cause::OpenedBefore.into()) };
        };
        let opened = opening.await;
        self.opening = None;
        match opened {
            Ok(opened) => Ok(opened?),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Cause::OpenedBefore.into()),
        }
    }

    /// Stops: takes nothing new, lets open requests end, makes everything durable. Takes less than
    /// five seconds; what could not be flushed by then is in the write-ahead log.
    pub async fn stop(mut self) {
        let deadline = tokio::time::Instant::now() + STOP_TIMEOUT;
        self.readiness.set_stopping();
        let _ = self.stop.send(true);
        if let Some(services) = self.services.get() {
            services.ingestor.close("stopping");
        }
        let ended = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
            tracing::warn!("requests were still open; they are cut off");
            self.listeners.shutdown().await;
        }
        if let Some(services) = self.services.get().cloned() {
            let held = self.data_dir.clone();
            let flush = tokio::task::spawn_blocking(move || {
                let stopped = services.store.stop();
                drop(held);
                stopped
            });
            match tokio::time::timeout_at(deadline, flush).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => {
                    tracing::error!(%error, "the last flush failed; its data is in the write-ahead log")
                }
                Ok(Err(error)) => tracing::error!(%error, "the last flush failed; its data is in the write-ahead log"),
                Err(_) => tracing::warn!("the last flush takes too long; its data is in the write-ahead log"),
            }
        }
        tracing::info!("stopped");
    }
}
