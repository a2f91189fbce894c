//! OpenMetrics text in and out: what is exported can be imported, value for value, by us and by
//! Debian's promtool.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use super::bodies::{Series, remote_write};
use super::doors::{Answer, get, send, server};

const OPENMETRICS: &str = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
const ALL: &str = "/api/v1/export?match%5B%5D=%7B__name__!%3D%22%22%7D";

/// What an export holds, by series: (time as written, value).
fn rows(text: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut rows: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.rsplitn(3, ' ');
        let (time, value, series) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        rows.entry(series.to_owned()).or_default().push((time.to_owned(), value.to_owned()));
    }
    rows
}

async fn import(main: SocketAddr, text: &str) -> Answer {
    send(main, "POST", "/api/v1/import/prometheus", OPENMETRICS, text.as_bytes()).await
}

/// Two families and a name that needs quotes, an hour long.
fn text(now: i64) -> String {
    let mut text = String::from("# TYPE jobs counter\n# HELP jobs Jobs done.\n");
    let values = ["0", "1", "2.5", "1e-300", "+Inf", "-Inf", "NaN", "0.1", "1e+300", "123456789"];
    for queue in ["a", "b\\\"c"] {
        for step in 0..240 {
            let value = values[step % values.len()];
            text += &format!("jobs_total{{queue=\"{queue}\"}} {value} {}.{:03}\n", now - 3600 + 15 * step as i64, step);
        }
    }
    text += &format!("{{\"odd.name\",\"a b\"=\"c\"}} 7 {now}\n# TYPE up gauge\nup 1 {now}\n# EOF\n");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_imported_elsewhere_exports_the_same() {
    let now = chrono::Utc::now().timestamp();
    let (first, _first_folder) = server().await;
    let answer = import(first.addresses.main, &text(now)).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let exported = get(first.addresses.main, ALL).await;
    assert_eq!(exported.status, 200, "{}", exported.text());
    assert!(exported.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", exported.head);
    let exported = exported.text();
    assert!(exported.ends_with("# EOF\n") && exported.contains("# TYPE jobs counter\n# HELP jobs Jobs done.\n"));
    let all = rows(&exported);
    assert_eq!(all.values().map(Vec::len).collect::<Vec<_>>(), [240, 240, 1, 1], "{exported}");
    let (second, _second_folder) = server().await;
    assert_eq!(import(second.addresses.main, &exported).await.status, 204);
    // The same again is kept once.
    assert_eq!(import(second.addresses.main, &exported).await.status, 204);
    assert_eq!(get(second.addresses.main, ALL).await.text(), exported);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_of_many_pieces_takes_what_is_good_and_names_what_is_not() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = chrono::Utc::now().timestamp_millis();
    let mut text = String::new();
    for row in 0..60_000 {
        text += &format!("many{{n=\"{}\"}} {row} {}\n", row % 300, now - 60_000 + row / 300 * 100);
        if row == 50_000 {
            text += "broken{ 1\n";
        }
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let headers = "Content-Encoding: gzip\r\n";
    let answer = send(main, "POST", "/api/v1/import/prometheus", headers, &gzip.finish().unwrap()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("line 50002"), "{}", answer.text());
    let found: Value =
        serde_json::from_slice(&get(main, "/api/v1/query?query=count_over_time(many%5B1h%5D)").await.body).unwrap();
    let counts: Vec<_> =
        found["data"]["result"].as_array().unwrap().iter().map(|row| row["value"][1].clone()).collect();
    assert_eq!(counts.len(), 300);
    assert!(counts.iter().all(|count| count == "200"), "{counts:?}");
    let cut = send(main, "POST", "/api/v1/import/prometheus", OPENMETRICS, b"a 1\nb 2\n").await;
    assert_eq!(cut.status, 400);
    assert!(cut.text().contains("2 samples stored") && cut.text().contains("cut short"), "{}", cut.text());
    let endless = send(main, "POST", "/api/v1/import/prometheus", "", &vec![b'a'; 3 << 20]).await;
    assert_eq!(endless.status, 413, "{}", endless.text());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_needs_a_selector_and_keeps_to_its_range() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let now = chrono::Utc::now().timestamp_millis() / 1000 * 1000;
    let samples = vec![(now - 2000, 1.0), (now - 1000, 2.0), (now, 3.0)];
    let series = Series { labels: vec![("__name__", "ranged"), ("a", "1")], samples };
    let other = Series { labels: vec![("__name__", "other")], samples: vec![(now, 1.0)] };
    let headers = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n";
    assert_eq!(send(main, "POST", "/api/v1/write", headers, &remote_write(&[series, other])).await.status, 204);
    let seconds = now / 1000;
    let path = format!(
        "/api/v1/export?match%5B%5D=ranged&match%5B%5D=%7Ba%3D%221%22%7D&start={}&end={}",
        seconds - 1,
        seconds - 1
    );
    let expected = format!("ranged{{a=\"1\"}} 2 {}\n# EOF\n", seconds - 1);
    assert_eq!(get(main, &path).await.text(), expected);
    assert_eq!(get(main, "/api/v1/export").await.status, 400);
    assert_eq!(get(main, "/api/v1/export?match%5B%5D=%7B").await.status, 400);
    assert_eq!(get(main, "/api/v1/export?match%5B%5D=nothing").await.text(), "# EOF\n");
    server.stop().await;
}
