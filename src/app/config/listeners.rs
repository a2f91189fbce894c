//! The listeners besides the main one: their flags, their ports and where they are.

use std::net::SocketAddr;

/// One of the four listeners besides the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Extra {
    /// OTLP over gRPC, 4317.
    OtlpGrpc,
    /// OTLP over HTTP, 4318.
    OtlpHttp,
    /// Loki's paths at the root, 3100.
    Loki,
    /// Tempo's paths at the root, 3200.
    Tempo,
}

impl Extra {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::OtlpGrpc, Self::OtlpHttp, Self::Loki, Self::Tempo];

    /// The flag that sets its address, without dashes before it.
    pub fn flag(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "listen-otlp-grpc",
            Self::OtlpHttp => "listen-otlp-http",
            Self::Loki => "listen-loki",
            Self::Tempo => "listen-tempo",
        }
    }

    /// What it serves, in a few words.
    pub fn serves(self) -> &'static str {
        match self {
            Self::OtlpGrpc => "OTLP over gRPC, and over HTTP",
            Self::OtlpHttp => "OTLP over HTTP, and over gRPC",
            Self::Loki => "Loki's paths at the root",
            Self::Tempo => "Tempo's paths at the root",
        }
    }

    /// The port it has when nothing is said.
    pub fn port(self) -> u16 {
        match self {
            Self::OtlpGrpc => 4317,
            Self::OtlpHttp => 4318,
            Self::Loki => 3100,
            Self::Tempo => 3200,
        }
    }
}

/// Where an extra listener is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the main listener's host, at its own default port.
    #[default]
    BesideMain,
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Off,
}
