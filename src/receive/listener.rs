//! Which listener serves which receivers.

use super::receiver::{Dialect, Receiver};

/// Which paths a listener serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// All of them.
    Main,
    /// Loki's paths.
    Loki,
    /// OTLP over HTTP; over gRPC as well, for senders take one port for the other.
    OtlpHttp,
    /// OTLP over gRPC, and over HTTP.
    OtlpGrpc,
}

impl Listener {
    pub(super) fn serves_path(self, receiver: &Receiver, path: &str) -> bool {
        match self {
            Self::Main => true,
            Self::Loki => receiver.dialect == Dialect::Loki || path == "/otlp/v1/logs",
            Self::OtlpHttp | Self::OtlpGrpc => receiver.dialect == Dialect::Otlp,
        }
    }

    pub(super) fn serves_grpc(self) -> bool {
        matches!(self, Self::Main | Self::OtlpGrpc | Self::OtlpHttp)
    }
}
