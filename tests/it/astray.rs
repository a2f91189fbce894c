//! Requests at the wrong door, from outside: what senders and people read, and how often the log says it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::doors::ask;
use super::program::Process;

#[test]
fn senders_at_the_wrong_path_are_told_the_right_one_and_the_log_says_it_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    super::doors::until_ready(process.main);
    let otlp = "Content-Type: application/x-protobuf\r\n";
    let write = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
    for (path, headers, status, told) in [
        ("/", otlp, 405, "OTLP is taken at http://t/v1/traces"),
        ("/v1", otlp, 404, "OTLP is taken at http://t/v1/traces"),
        ("/write", write, 404, "remote write is taken at http://t/api/v1/write"),
        ("/api/v1/receive", write, 404, "remote write is taken at http://t/api/v1/write"),
        ("/loki/push", write, 404, "push is taken at http://t/loki/api/v1/push"),
    ] {
        for _ in 0..2 {
            let answer = ask(process.main, "POST", path, headers, b"x");
            assert_eq!(answer.status, status, "{path}");
            assert!(answer.text().contains(told), "{path}: {}", answer.text());
        }
    }
    // A slash too many leaves no doubt of what is meant.
    assert_eq!(ask(process.main, "POST", "/v1/traces/", otlp, b"").status, 200);
    // The beginning of a TLS handshake.
    for _ in 0..2 {
        let mut stream = TcpStream::connect(process.main).unwrap();
        stream.write_all(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03 and so on\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    process.signal("TERM");
    process.child.wait().unwrap();
    let log = process.rest_of_log();
    let warned = |words: &str| log.lines().filter(|line| line.contains("WARN") && line.contains(words)).count();
    for words in ["OTLP is taken at", "remote write is taken at", "push is taken at", "speaks TLS"] {
        assert_eq!(warned(words), 1, "{words}: {log}");
    }
    assert!(log.contains("\"sender\":\"127.0.0.1\""), "{log}");
}

#[test]
fn browsers_get_a_page_and_programs_json() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    super::doors::until_ready(process.main);
    let browser = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n";
    for (path, words) in [
        ("/graph", "Explore"),
        ("/targets", "agents send"),
        ("/alerts", "alerting"),
        ("/explore", "Explore"),
        ("/no/\"such\"", "page not found: /no/&quot;such&quot;"),
        ("/v1/traces", "does not answer GET"),
    ] {
        let page = ask(process.main, "GET", path, browser, b"");
        assert!(page.status == 404 || page.status == 405, "{path}: {}", page.status);
        assert!(page.head.contains("content-type: text/html"), "{path}: {}", page.head);
        let text = page.text();
        assert!(text.contains(words) && text.contains("<a href=\"http://t/\">"), "{path}: {text}");
        let other = ask(process.main, "GET", path, "Accept: */*\r\n", b"");
        assert_eq!(other.status, page.status);
        let json: serde_json::Value = serde_json::from_slice(&other.body).unwrap();
        assert_eq!(json["status"], "error", "{path}");
    }
}
