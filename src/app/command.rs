//! The commands of the program. Exit codes: 0 done, 1 could not, 2 wrong flags or configuration.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::error::chain;
use crate::store::stores;

use super::config::{Command, Config, command_line, variables};
use super::data_dir::{DataDir, absolute};
use super::telemetry::Telemetry;
use super::{check_config, server, transfer, user};

const WRONG_USAGE: u8 = 2;

/// The program: reads its configuration and does what it is signals.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let invocation = match command_line(args, variables()) {
        Ok(invocation) => invocation,
        Err(error) => {
            // Help and version come this way too, with exit code 0 and to stdout.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_USAGE));
        }
    };
    if invocation.command == Command::Version {
        say(concat!("trilith ", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let config = match Config::load(invocation) {
        Ok(config) => config,
        Err(problems) => {
            for problem in problems {
                say_error(&problem.to_string());
            }
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let writes = matches!(config.invocation.command, Command::Serve | Command::Repair);
    if let Some(run_as) = config.run_as.filter(|_| writes)
        && let Err(error) = user::give_up_root(run_as, &config.data_dir)
    {
        say_error(&error.to_string());
        return ExitCode::FAILURE;
    }
    match config.invocation.command {
        Command::Serve => serve(config),
        Command::Version => ExitCode::SUCCESS,
        Command::CheckConfig => check_config(&config),
        Command::Repair => repair(&config),
        Command::Healthcheck => healthcheck(&config),
        Command::Import => transferred(transfer::import(&config.invocation.transfer, config.listen)),
        Command::Export => transferred(transfer::export(&config.invocation.transfer, config.listen)),
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_warning(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

fn transferred(outcome: Result<bool, transfer::TransferError>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say_error(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn check_config(config: &Config) -> ExitCode {
    say(check_config::table(config).trim_end());
    for warning in &config.warnings {
        say_warning(&format!("{warning}; it is left out"));
    }
    ExitCode::SUCCESS
}

/// SIGTERM and SIGINT, taken from when this is made: before the server says that it listens, so that
/// nobody who has read that can end it without a last flush.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the two signals from now on; needs a runtime.
    ///
    /// # Errors
    /// When the runtime cannot take signals.
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns at the first of them, with its name.
    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn serve(config: Config) -> ExitCode {
    let telemetry = Telemetry::start(&config);
    for warning in &config.warnings {
        tracing::warn!("{warning}; it is left out");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say_error(&format!("cannot start threads: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let mut signals = match StopSignals::new() {
            Ok(signals) => signals,
            Err(error) => {
                say_error(&format!("cannot take signals: {error}"));
                return ExitCode::FAILURE;
            }
        };
        let server = match server::run(config, Some(telemetry)).await {
            Ok(server) => server,
            Err(error) => {
                say_error(&chain(&error));
                return ExitCode::FAILURE;
            }
        };
        let mut server = server;
        let code = tokio::select! {
            signal = signals.wait() => {
                tracing::info!(signal, "stopping");
                ExitCode::SUCCESS
            }
            Err(error) = server.ready() => {
                say_error(&chain(&error));
                ExitCode::FAILURE
            }
        };
        server.stop().await;
        code
    });
    // A query that does not end must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// Moves aside what is only an index, so that the next start builds it from parts and log.
fn repair(config: &Config) -> ExitCode {
    if !config.data_dir.exists() {
        say_error(&format!("there is no data directory {:?}; name it with --data-dir", absolute(&config.data_dir)));
        return ExitCode::FAILURE;
    }
    let taken = match DataDir::take(&config.data_dir) {
        Ok(taken) => taken,
        Err(error) => {
            say_error(&chain(&error));
            return ExitCode::FAILURE;
        }
    };
    match stores::repair(taken.path()) {
        Ok(moved) => {
            for (from, to) in &moved {
                say(&format!("moved {} to {}", from.display(), to.display()));
            }
            say("the next start builds the indexes from the data");
            ExitCode::SUCCESS
        }
        Err(error) => {
            say_error(&chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Asks `/-/healthy` of the main listener, as `curl` would, for images that have no curl.
fn healthcheck(config: &Config) -> ExitCode {
    let mut address = config.listen;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        address.set_ip(loopback);
    }
    match ask_healthy(address) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say_error(&format!("{address} answers, but not as a healthy server does"));
            ExitCode::FAILURE
        }
        Err(error) => {
            say_error(&format!("{address} does not answer: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn ask_healthy(address: SocketAddr) -> std::io::Result<bool> {
    let patience = Duration::from_secs(3);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("GET /-/healthy HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(&head == b"HTTP/1.1 200")
}
