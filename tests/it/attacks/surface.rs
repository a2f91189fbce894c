//! Everything that a request can be sent to, from the tables of the server itself: a new endpoint, receiver or
//! page is under attack as soon as it is there.

use trilith::api;
use trilith::receive::RECEIVERS;

use crate::endpoints::{TABLES, concrete};

use super::client::Outcome;
use super::scene::Scene;

/// A path and a request of it that is right.
pub(super) struct Door {
    /// As its table has it, below its base.
    pub(super) row: String,
    /// With something in place of the row's `{...}`.
    pub(super) path: String,
    /// A query string.
    pub(super) params: &'static str,
    pub(super) methods: String,
}

impl Door {
    /// Whether it answers POST.
    pub(super) fn posts(&self) -> bool {
        self.methods.contains("POST") || self.methods == "any"
    }

    /// A method that it answers.
    pub(super) fn method(&self) -> &'static str {
        if self.methods.starts_with("POST") { "POST" } else { "GET" }
    }

    /// Path and parameters.
    pub(super) fn call(&self) -> String {
        format!("{}?{}", self.path, self.params)
    }

    /// Whether `asked` is a call of its row.
    pub(super) fn answers(&self, asked: &str) -> bool {
        let Some((before, rest)) = self.row.split_once('{') else { return asked == self.row };
        let after = rest.split_once('}').map_or("", |(_, after)| after);
        asked.len() > before.len() + after.len() && asked.starts_with(before) && asked.ends_with(after)
    }
}

/// Endpoints of all dialects; those of Loki once, since they are the same at both bases.
pub(super) fn queries() -> Vec<Door> {
    let mut doors = Vec::new();
    for (base, endpoints, calls) in TABLES.iter().filter(|(base, ..)| *base != "/loki") {
        for endpoint in *endpoints {
            let call = calls.iter().find(|call| call.0 == endpoint.path).expect("a call in tests/it/endpoints.rs");
            doors.push(Door {
                row: format!("{base}{}", endpoint.path),
                path: concrete(base, call.0, call.1),
                params: call.2,
                methods: endpoint.methods.to_owned(),
            });
        }
    }
    doors
}

/// Paths that telemetry is pushed to over HTTP.
pub(super) fn receivers() -> Vec<Door> {
    let paths = RECEIVERS.iter().flat_map(|receiver| receiver.paths);
    paths.map(|path| plain(path, "POST")).collect()
}

/// Paths of unary and streaming gRPC calls.
pub(super) fn calls() -> Vec<Door> {
    let receivers = RECEIVERS.iter().filter_map(|receiver| receiver.grpc);
    let queries = api::tempo::GRPC_ENDPOINTS.iter().map(|endpoint| endpoint.path);
    receivers.chain(queries).map(|path| plain(path, "POST")).collect()
}

/// Pages of the server itself, as it lists them.
pub(super) fn pages(scene: &Scene<'_>) -> Vec<Door> {
    let Outcome::Answered(answer) = scene.get("/-/") else { return Vec::new() };
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
    rows.iter().map(|row| plain(row["path"].as_str().unwrap(), row["methods"].as_str().unwrap())).collect()
}

/// All of them but the calls.
pub(super) fn all(scene: &Scene<'_>) -> Vec<Door> {
    let mut doors = queries();
    doors.extend(receivers());
    doors.extend(pages(scene));
    doors
}

fn plain(path: &str, methods: &str) -> Door {
    Door { row: path.to_owned(), path: path.to_owned(), params: "", methods: methods.to_owned() }
}
