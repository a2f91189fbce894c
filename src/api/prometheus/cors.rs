//! Pages of other origins may ask this API, as they may ask a Prometheus: whoever can reach it can
//! read it, and it takes no cookies. Endpoints that change the store are for no page of another origin, not even
//! where a browser sends its request without asking first.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, StatusCode};

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

/// Refuses what a page of another origin asks.
pub(super) async fn refuse(request: Request, next: Next) -> Response {
    if is_foreign(request.headers()) {
        let body = "{\"status\":\"error\",\"errorType\":\"forbidden\",\"error\":\"a page of another origin may not ask this\"}";
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        return (StatusCode::FORBIDDEN, json, body).into_response();
    }
    next.run(request).await
}

/// Whether a browser says that the page that asks is not one of this server, by whatever name it is reached.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let hosts = [text("host"), text("x-forwarded-host")];
    origin.is_none() || !hosts.contains(&origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_foreign_unless_it_comes_from_the_same_host() {
        let foreign = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            is_foreign(&pairs.collect())
        };
        assert!(!foreign(&[("host", "t:9090")]), "no browser");
        assert!(!foreign(&[("host", "t:9090"), ("origin", "http://t:9090")]));
        assert!(!foreign(&[("host", "in"), ("x-forwarded-host", "out"), ("origin", "https://out")]));
        assert!(foreign(&[("host", "t:9090"), ("origin", "http://evil")]));
        assert!(foreign(&[("host", "t:9090"), ("origin", "null")]));
    }
}
