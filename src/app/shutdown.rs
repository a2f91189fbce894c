//! What asks the server to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Returns at SIGTERM or SIGINT, with the signal's name.
///
/// # Errors
/// When the runtime cannot take signals.
pub(super) async fn asked() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
