//! The query API of Jaeger: services, operations, traces, dependencies; the JSON that Grafana's
//! datasource reads, and the newer `/api/v3` of Jaeger's own UI.
//! Spec: <https://www.jaegertracing.io/docs/latest/apis/>.

mod error;
mod services;
mod traces;
mod v3;

use axum::routing::get;

use super::endpoint::Endpoint;

/// Paths below Jaeger's base.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint { methods: "GET", path: "/api/services", summary: "Names of services", route: || get(services::list) },
    Endpoint {
        methods: "GET",
        path: "/api/services/{*service}",
        summary: "Names of a service's operations; the path ends in /operations",
        route: || get(services::operation_names),
    },
    Endpoint {
        methods: "GET",
        path: "/api/operations",
        summary: "Names and kinds of a service's operations",
        route: || get(services::operations),
    },
    Endpoint {
        methods: "GET",
        path: "/api/traces",
        summary: "Traces by service, operation, tags and duration",
        route: || get(traces::search),
    },
    Endpoint { methods: "GET", path: "/api/traces/{id}", summary: "A trace by id", route: || get(traces::by_id) },
    Endpoint {
        methods: "GET",
        path: "/api/dependencies",
        summary: "Which service calls which, and how often",
        route: || get(services::dependencies),
    },
    Endpoint { methods: "GET", path: "/api/v3/services", summary: "Names of services", route: || get(v3::services) },
    Endpoint {
        methods: "GET",
        path: "/api/v3/operations",
        summary: "Names and kinds of a service's operations",
        route: || get(v3::operations),
    },
    Endpoint {
        methods: "GET",
        path: "/api/v3/traces/{id}",
        summary: "A trace by id as OTLP/JSON",
        route: || get(v3::by_id),
    },
];
