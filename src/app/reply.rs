//! Answers that belong to no dialect: unknown paths, wrong methods, a server that is not ready,
//! a handler that panicked. JSON in the shape of Prometheus, or a gRPC status for gRPC callers.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};

/// What is answered instead of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    Method,
    /// Starting or stopping.
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl Refusal {
    /// HTTP status, Prometheus's error type, gRPC status.
    fn codes(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found", "12"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "bad_data", "12"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "14"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "13"),
        }
    }
}

/// Whether a request comes from a gRPC client, which reads its status from headers.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The answer, for a gRPC caller or for another.
pub(super) fn refuse(refusal: Refusal, grpc: bool, message: &str) -> Response<Body> {
    let (status, error_type, grpc_status) = refusal.codes();
    if grpc {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static(grpc_status));
        if let Ok(text) = HeaderValue::from_str(message) {
            headers.insert("grpc-message", text);
        }
        return response;
    }
    let body = serde_json::json!({"status": "error", "errorType": error_type, "error": message});
    let mut response = json(status, &body);
    if refusal == Refusal::Unavailable {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// A page for people: what happened, what to do, and where everything is.
pub(super) fn page(refusal: Refusal, what: &str, advice: &str, home: &str) -> Response<Body> {
    let (what, advice, home) = (escaped(what), escaped(advice), escaped(home));
    let body = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Trilith</title>\n\
         <link rel=\"icon\" href=\"{home}ui/icon.svg\">\n<link rel=\"stylesheet\" href=\"{home}ui/style.css\">\n</head>\n\
         <body>\n<header><img src=\"{home}ui/icon.svg\" alt=\"\" width=\"32\" height=\"32\"><h1>Trilith</h1></header>\n<main>\n\
         <section class=\"card lead\">\n<h2>{what}</h2>\n<p>{advice}</p>\n<p class=\"links\"><a href=\"{home}\">What is stored \
         and comes in</a> <a href=\"{home}#send\">Send data</a> <a href=\"{home}#grafana\">Add to Grafana</a></p>\n\
         </section>\n</main>\n</body>\n</html>\n"
    );
    let mut response = typed(refusal.codes().0, "text/html; charset=utf-8", body);
    let headers = response.headers_mut();
    // The style may come from the main listener's port.
    let policy = format!("default-src 'none'; style-src {home}; img-src {home}; frame-ancestors 'none'");
    if let Ok(policy) = HeaderValue::try_from(policy) {
        headers.insert("content-security-policy", policy);
    }
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// Text as HTML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A JSON answer.
pub(super) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    typed(status, "application/json", body.to_string())
}

/// A short text for people.
pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", body.into())
}

/// A body of the given type.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
