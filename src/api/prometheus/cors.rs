//! Pages of other origins may ask this API, as they may ask a Prometheus: whoever can reach it can
//! read it, and it takes no cookies.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue, ORIGIN, VARY,
};

/// What browsers ask before they ask.
pub(super) async fn ask_before() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Says that pages of other origins may read the answer.
pub(super) async fn answer(request: Request, next: Next) -> Response {
    let is_foreign = request.headers().contains_key(ORIGIN);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if is_foreign {
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
            (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
