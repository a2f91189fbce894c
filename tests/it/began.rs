//! What remote write 2.0 tells besides samples: when counting began, and type and unit, over a
//! server's doors and through a restart.

use std::net::SocketAddr;

use serde_json::Value;

use trilith::app::config::Config;
use trilith::app::run;
use trilith::base::clock::{Clock as _, SystemClock};

use super::bodies::{field, snappy, varint};
use super::doors::{get, send};

const V2: &str = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n\
                  Content-Encoding: snappy\r\nX-Prometheus-Remote-Write-Version: 2.0.0\r\n";

fn number(number: u8, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

/// A counter of bytes whose samples have starts, and a native histogram with one.
fn body(now: u64) -> Vec<u8> {
    let mut request = Vec::new();
    for symbol in ["", "__name__", "sent_total", "bytes", "wait"] {
        field(4, symbol.as_bytes(), &mut request);
    }
    let mut series = Vec::new();
    field(1, &[1, 2], &mut series);
    for (minute, value, start) in [(2, 5.0f64, 200), (1, 9.0, 200), (0, 14.0, 30)] {
        let mut sample = vec![1 << 3 | 1];
        sample.extend_from_slice(&value.to_le_bytes());
        number(2, now - minute * 60_000, &mut sample);
        number(3, now - start * 1000, &mut sample);
        field(2, &sample, &mut series);
    }
    let mut metadata = Vec::new();
    number(1, 1, &mut metadata);
    number(4, 3, &mut metadata);
    field(5, &metadata, &mut series);
    field(5, &series, &mut request);

    let (mut series, mut histogram, mut metadata) = (Vec::new(), Vec::new(), Vec::new());
    field(1, &[1, 4], &mut series);
    number(1, 3, &mut histogram);
    number(6, 3, &mut histogram);
    number(15, now, &mut histogram);
    number(17, now - 40_000, &mut histogram);
    field(3, &histogram, &mut series);
    number(1, 3, &mut metadata);
    field(5, &metadata, &mut series);
    field(5, &series, &mut request);
    request
}

async fn ask(address: SocketAddr, query: &str, at: u64) -> Value {
    let answer = get(address, &format!("/api/v1/query?query={query}&time={}", at / 1000)).await;
    let value: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(value["status"], "success", "{value}");
    value["data"]["result"].clone()
}

async fn check(address: SocketAddr, now: u64) {
    for (name, before) in [("sent_total", 30), ("wait", 40)] {
        let start = ask(address, &format!("start_timestamp({name})"), now).await;
        assert_eq!(start[0]["value"][1], (now / 1000 - before).to_string(), "{name}");
    }
    // Five and nine are of one run of counting, fourteen of the next.
    assert_eq!(ask(address, "resets(sent_total[5m])", now).await[0]["value"][1], "1");
    let series = ask(address, "sent_total", now).await;
    assert_eq!(
        (&series[0]["metric"]["__type__"], &series[0]["metric"]["__unit__"]),
        (&"counter".into(), &"bytes".into())
    );
    assert_eq!(ask(address, "wait", now).await[0]["metric"]["__type__"], "histogram");
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_types_and_units_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { type_and_unit_labels: true, ..Config::for_tests(folder.path()) };
    let now = u64::try_from(SystemClock.now_ms()).unwrap() / 1000 * 1000;
    let mut server = run(config.clone(), None).await.unwrap();
    server.ready().await.unwrap();
    let answer = send(server.addresses.main, "POST", "/api/v1/write", V2, &snappy(&body(now))).await;
    assert_eq!(answer.status / 100, 2, "{}", answer.text());
    check(server.addresses.main, now).await;
    server.stop().await;

    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    check(server.addresses.main, now).await;
    server.stop().await;
}
