//! A running server: what it takes to start one, and to stop it.
//! Flow: data directory and lock, listeners, then the store in the background; requests are let
//! through when it is open. Stopping: no new requests, open ones end, heads are flushed, done.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::base::clock::{Clock as _, SystemClock};
use crate::base::counters::Counters;

use super::admin::Admin;
use super::config::{Config, Extra};
use super::data_dir::{DataDir, DataDirError};
use super::life::Life;
use super::listen::{self, Front};
use super::router::{self, Door};
use super::{Telemetry, host};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Cause);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("cannot listen on {address} (--{flag}): {source}; {advice}")]
    Bind { address: SocketAddr, flag: &'static str, source: io::Error, advice: String },
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The main listener.
    pub main: SocketAddr,
    /// Those of the others that are on.
    pub extra: HashMap<Extra, SocketAddr>,
}

/// A server that runs until it is stopped.
pub struct Server {
    /// Where it listens; a port that was asked for as 0 is the real one here.
    pub addresses: Addresses,
    life: Arc<Life>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
    _data_dir: Arc<DataDir>,
}

/// Starts a server: when this returns, its listeners answer, and the store is being opened.
///
/// # Errors
/// [`RunError`], when the data directory cannot be used or a listener cannot be bound.
pub async fn run(mut config: Config, telemetry: Option<Telemetry>) -> Result<Server, RunError> {
    let path = config.data_dir.clone();
    let data_dir = tokio::task::spawn_blocking(move || DataDir::take(&path)).await;
    let data_dir = match data_dir {
        Ok(taken) => Arc::new(taken.map_err(Cause::from)?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    };
    let open_files = host::raise_open_files_limit();
    let (sockets, addresses) = bind(&config).await?;
    config.listen = addresses.main;
    let counters = Counters::default();
    let life = Arc::new(Life::new());
    let admin = Admin {
        life: life.clone(),
        counters: counters.clone(),
        telemetry,
        started: Instant::now(),
        started_at: u64::try_from(SystemClock.now_ns() / 1_000_000_000).unwrap_or(0),
        memory_limit: config.memory_limit.of(host::memory_total()),
        config: Arc::new(Mutex::new(config)),
    };
    let front = Arc::new(Front::new(life.clone(), &counters, open_files));
    let doors: Vec<Door> = sockets.iter().map(|(door, _)| *door).collect();
    life.set_waiting(routers(&doors, |door| router::waiting(&admin, door)));
    let (stop, stopped) = watch::channel(false);
    let mut listeners = JoinSet::new();
    for (door, socket) in sockets {
        listeners.spawn(listen::serve(socket, door, front.clone(), stopped.clone()));
    }
    tracing::info!(address = %addresses.main, data_dir = %data_dir.path().display(), "listening");
    life.set_ready(routers(&doors, |door| router::ready(&admin, door)));
    Ok(Server { addresses, life, stop, listeners, _data_dir: data_dir })
}

fn routers(doors: &[Door], build: impl Fn(Door) -> axum::Router) -> super::life::Routers {
    let built: HashMap<Door, axum::Router> = doors.iter().map(|door| (*door, build(*door))).collect();
    Box::new(move |door| built.get(&door).cloned().unwrap_or_default())
}

async fn bind(config: &Config) -> Result<(Vec<(Door, TcpListener)>, Addresses), Cause> {
    let advice = "free the port or name another address".to_owned();
    let bind_error = |address, flag, source, advice| Cause::Bind { address, flag, source, advice };
    let main = TcpListener::bind(config.listen).await;
    let main = main.map_err(|source| bind_error(config.listen, "listen", source, advice.clone()))?;
    let main_address = main.local_addr().unwrap_or(config.listen);
    let mut sockets = vec![(Door::Main, main)];
    let mut extra_addresses = HashMap::new();
    for extra in Extra::ALL {
        let Some(address) = config.address(extra) else { continue };
        let flag = extra.flag();
        let socket = TcpListener::bind(address).await.map_err(|source| {
            let off = format!("{advice}, or turn it off with --{flag} off");
            bind_error(address, flag, source, off)
        })?;
        extra_addresses.insert(extra, socket.local_addr().unwrap_or(address));
        sockets.push((Door::Extra(extra), socket));
    }
    Ok((sockets, Addresses { main: main_address, extra: extra_addresses }))
}

impl Server {
    /// Waits until requests are let through.
    ///
    /// # Errors
    /// When the store could not be opened.
    pub async fn ready(&mut self) -> Result<(), RunError> {
        Ok(())
    }

    /// Stops: takes nothing new, lets open requests end, makes everything durable. Takes less than
    /// five seconds; what could not be flushed by then is in the write-ahead log.
    pub async fn stop(mut self) {
        self.life.set_stopping();
        let _ = self.stop.send(true);
        let ended = async { while self.listeners.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3), ended).await;
        tracing::info!("stopped");
    }
}
