//! The listeners by what they serve, and their names in `/metrics` and the log.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::config::Extra;

/// Where a server listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The main listener.
    pub main: SocketAddr,
    /// Those of the others that are on.
    pub extra: HashMap<Extra, SocketAddr>,
}

/// A listener, by what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ListenerKind {
    /// Everything.
    Main,
    /// One protocol's paths.
    Extra(Extra),
}

impl ListenerKind {
    /// Its name in `/metrics` and the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Extra(Extra::OtlpGrpc) => "otlp_grpc",
            Self::Extra(Extra::OtlpHttp) => "otlp_http",
            Self::Extra(Extra::Loki) => "loki",
            Self::Extra(Extra::Tempo) => "tempo",
        }
    }
}
