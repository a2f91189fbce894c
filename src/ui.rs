//! The web page, embedded from `web/dist`: a few files written by hand, no build step.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::routing::get;

#[derive(rust_embed::RustEmbed)]
#[folder = "web/dist"]
struct Files;

/// The page takes everything from this server, writes no styles or scripts of its own, and sends no forms.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page at `/`, its parts below `/ui/`.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(|| async { file("index.html") }))
        .route("/favicon.ico", get(|| async { file("icon.svg") }))
        .route("/ui/{file}", get(|Path(name): Path<String>| async move { file(&name) }))
}

fn file(name: &str) -> Response<Body> {
    let Some(found) = Files::get(name) else {
        let body = r#"{"status":"error","errorType":"not_found","error":"page not found"}"#;
        return answer(StatusCode::NOT_FOUND, "application/json", Body::from(body));
    };
    let kind = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    answer(StatusCode::OK, kind, Body::from(found.data.into_owned()))
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("content-security-policy", HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_that_the_page_names_is_embedded() {
        let page = String::from_utf8(Files::get("index.html").unwrap().data.into_owned()).unwrap();
        let names: Vec<&str> = page.split("\"/ui/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() >= 4, "{names:?}");
        for name in names {
            assert_eq!(file(name).status(), StatusCode::OK, "{name}");
        }
        assert_eq!(file("../Cargo.toml").status(), StatusCode::NOT_FOUND);
    }
}
