//! The lines of Grafana's smoke checklist that touch Loki, against a store of vectors.
#![expect(clippy::unwrap_used, reason = "a test that fails to unwrap has failed")]
