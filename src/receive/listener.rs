//! Which listener serves which receivers.

use super::receiver::{Dialect, Receiver};

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// All of them.
    Main,
    /// Loki's paths.
    Loki,
    /// OTLP over HTTP at `/v1/*`.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
}

impl Listener {
    pub(super) fn serves_path(self, receiver: &Receiver, path: &str) -> bool {
        match self {
            Self::Main => true,
            Self::Loki => receiver.dialect == Dialect::Loki || path == "/otlp/v1/logs",
            Self::OtlpHttp => receiver.dialect == Dialect::Otlp && path.starts_with("/v1/"),
            Self::OtlpGrpc => false,
        }
    }

    pub(super) fn serves_grpc(self) -> bool {
        matches!(self, Self::Main | Self::OtlpGrpc)
    }
}
