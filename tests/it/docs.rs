//! `docs/api.md` and `docs/compat.md` say what the tables say. `BLESS=1 cargo test --test it docs`
//! rewrites them; read the diff.

use std::fmt::Write as _;
use std::fs;

use trilith::api::{self, Endpoint};
use trilith::query::{logql, promql};
use trilith::receive::RECEIVERS;

/// Compares a file with what it should be, or writes it when asked to.
fn fresh(path: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, text).unwrap();
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(found == text, "{path} is stale: run `BLESS=1 cargo test --test it docs` and read the diff");
}

#[test]
fn api_md_lists_every_door() {
    let mut text = String::from(
        "# The doors\n\nMade from `RECEIVERS` and the `ENDPOINTS` of each dialect; a test keeps it fresh.\n\n\
         ## In\n\n| receiver | paths (POST) | takes | specification |\n| --- | --- | --- | --- |\n",
    );
    for receiver in RECEIVERS {
        let paths: Vec<_> =
            receiver.paths.iter().copied().chain(receiver.grpc).map(|path| format!("`{path}`")).collect();
        writeln!(text, "| {} | {} | {} | {} |", receiver.name, paths.join(" "), receiver.summary, receiver.spec)
            .unwrap();
    }
    let dialects: [(&str, &str, &[Endpoint]); 5] = [
        ("Prometheus", "", api::prometheus::ENDPOINTS),
        ("Loki", "", api::loki::ENDPOINTS),
        ("Tempo", "/tempo", api::tempo::ENDPOINTS),
        ("Tempo over gRPC", "", api::tempo::GRPC_ENDPOINTS),
        ("Jaeger", "/jaeger", api::jaeger::ENDPOINTS),
    ];
    for (dialect, base, endpoints) in dialects {
        writeln!(text, "\n## Out: {dialect}\n\n| methods | path | answers |\n| --- | --- | --- |").unwrap();
        for endpoint in endpoints {
            writeln!(text, "| {} | `{base}{}` | {} |", endpoint.methods, endpoint.path, endpoint.summary).unwrap();
        }
    }
    fresh("docs/api.md", &text);
}

#[test]
fn compat_md_lists_every_function_and_stage() {
    let mut text = String::from(
        "# What of each language is there\n\nMade from `FUNCTIONS` and `STAGES`; a test keeps it fresh.\n\n\
         ## PromQL functions\n\n| function | what it does |\n| --- | --- |\n",
    );
    let mut functions: Vec<_> = promql::functions::all().collect();
    functions.sort_by_key(|function| function.name);
    for function in functions {
        writeln!(text, "| `{}` | {} |", function.name, function.summary.replace('|', "\\|")).unwrap();
    }
    text.push_str("\n## LogQL stages\n\n| stage | what it does |\n| --- | --- |\n");
    for stage in logql::stages::STAGES {
        writeln!(text, "| `{}` | {} |", stage.name.replace('|', "\\|"), stage.summary.replace('|', "\\|")).unwrap();
    }
    fresh("docs/compat.md", &text);
}
