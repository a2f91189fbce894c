//! Lines 10 and 12 of the smoke checklist: live tail by WebSocket through a reverse proxy, and
//! Tempo's streaming queries by gRPC over HTTP/2 without TLS on the port that serves all the rest.

use std::net::SocketAddr;

use axum::http::Request;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use trilith::app::config::{Amount, Config, Extra};
use trilith::app::run;
use trilith::wire::tempo as wire;

use super::doors::{get, send, server};
use super::shop::{fill, now};
use super::smoke_bases::every_listener;
use super::trace_api::{frame, q};

/// What Grafana puts before the path that it passes on.
const PROXIED: &str = "/api/datasources/proxy/uid/logs";

/// A reverse proxy before `backend`, as Grafana's is: it takes its prefix off the path, adds headers
/// of its own, and passes an upgraded connection on byte by byte.
async fn proxy(backend: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, backend));
        }
    });
    address
}

async fn pass_on(mut client: TcpStream, backend: SocketAddr) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().replacen(PROXIED, "", 1);
    let more = "\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nOrigin: https://grafana.example\r\n";
    let mut server = TcpStream::connect(backend).await.unwrap();
    server.write_all(head.replacen("\r\n", more, 1).as_bytes()).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn tail(proxy: SocketAddr, query: &str) -> Result<Socket, tungstenite::Error> {
    let uri = format!("ws://{proxy}{PROXIED}/loki/api/v1/tail?query={}", q(query));
    connect_async(uri).await.map(|(socket, _)| socket)
}

async fn push_line(main: SocketAddr, t: i64, line: &str) {
    let body = json!({"streams": [{"stream": {"app": "tailed"}, "values": [[t.to_string(), line]]}]});
    let headers = "Content-Type: application/json\r\n";
    let answer = send(main, "POST", "/loki/api/v1/push", headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_passes_through_a_proxy() {
    let (server, _folder) = server().await;
    let main = server.addresses.main;
    let t = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    push_line(main, t, "first").await;
    let mut socket = tail(proxy(main).await, "{app=\"tailed\"} != `hidden`").await.unwrap();
    let (mut pings, mut lines) = (0, Vec::new());
    while pings < 2 || lines.len() < 2 {
        match socket.next().await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(text.as_str()).unwrap();
                assert!(frame.get("dropped_entries").is_some(), "{frame}");
                for stream in frame["streams"].as_array().unwrap() {
                    assert_eq!(stream["stream"]["app"], "tailed");
                    lines.extend(stream["values"].as_array().unwrap().clone());
                }
                if lines.len() == 1 {
                    push_line(main, t + 1, "hidden").await;
                    push_line(main, t + 2, "second").await;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    // Times are strings of nanoseconds; without the flag of the query API there are no triples.
    assert_eq!(lines, [json!([t.to_string(), "first"]), json!([(t + 2).to_string(), "second"])]);
    socket.send(Message::Close(None)).await.unwrap();
    loop {
        match socket.next().await {
            Some(Ok(Message::Close(_))) => break,
            Some(Ok(_)) => {}
            other => panic!("the close of a client is not answered: {other:?}"),
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_cannot_go_on_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::for_tests(folder.path());
    // A query may have an eighth of it, which the lines below do not fit in.
    config.memory_limit = Amount::Bytes(64 << 20);
    let mut server = run(config, None).await.unwrap();
    server.ready().await.unwrap();
    let main = server.addresses.main;
    let t = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let line = "x".repeat(100_000);
    for i in 0..200 {
        push_line(main, t + i, &line).await;
    }
    let mut socket = tail(proxy(main).await, "{app=\"tailed\"}").await.unwrap();
    let close = loop {
        match socket.next().await {
            Some(Ok(Message::Close(close))) => break close.expect("a code and a reason"),
            Some(Ok(_)) => {}
            other => panic!("cut off without a reason: {other:?}"),
        }
    };
    assert!(!close.reason.as_str().is_empty(), "{close:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_tail_is_refused_before_it_is_upgraded() {
    let (server, _folder) = server().await;
    let proxy = proxy(server.addresses.main).await;
    for query in ["{", "count_over_time({app=\"a\"}[1m])", ""] {
        let Err(tungstenite::Error::Http(response)) = tail(proxy, query).await else { panic!("{query} was upgraded") };
        assert_eq!(response.status(), 400, "{query}");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
    assert_eq!(get(server.addresses.main, "/loki/api/v1/tail?query=%7Bapp%3D%22a%22%7D").await.status, 400);
    server.stop().await;
}

/// Messages and status of a gRPC call over HTTP/2, which the client speaks from the first byte on.
async fn grpc(address: SocketAddr, method: &str, message: Vec<u8>) -> (Vec<Vec<u8>>, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/tempopb.StreamingQuerier/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-scope-orgid", "tenant")
        .header("grpc-timeout", "30S")
        .body(())
        .unwrap();
    let (response, mut body) = client.ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(message.into(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let in_head = response.headers().get("grpc-status").cloned();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    let status = match body.trailers().await.unwrap() {
        Some(trailers) => trailers["grpc-status"].clone(),
        None => in_head.expect("a status in the head or in trailers"),
    };
    driver.abort();
    let mut rest = bytes.as_slice();
    let mut messages = Vec::new();
    while let Some((head, tail)) = rest.split_first_chunk::<5>() {
        assert_eq!(head[0], 0, "not compressed");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        messages.push(tail[..length].to_vec());
        rest = &tail[length..];
    }
    (messages, status.to_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn tempo_streams_over_cleartext_http_2_on_the_port_of_all_the_rest() {
    let (server, _folder) = every_listener().await;
    let main = server.addresses.main;
    let now = now();
    let (start, end) = (u32::try_from(now - 900).unwrap(), u32::try_from(now + 1).unwrap());
    let search = wire::SearchRequest { query: "{}".into(), limit: 1, start, end, ..Default::default() };
    let ns = 1_000_000_000;
    let rate = wire::QueryRangeRequest {
        query: "{} | rate()".into(),
        start: u64::from(start) * ns,
        end: u64::from(end) * ns,
        step: 30 * ns,
        ..Default::default()
    };
    let doors = [main, server.addresses.extra[&Extra::Tempo]];
    for door in doors {
        assert_eq!(get(door, if door == main { "/tempo/api/echo" } else { "/api/echo" }).await.text(), "echo");
        // Save & test of an empty server: a message or the end, and no error.
        let (messages, status) = grpc(door, "Search", frame(&search)).await;
        assert_eq!(status, "0");
        assert!(
            messages.iter().all(|message| wire::decode::<wire::SearchResponse>(message).unwrap().traces.is_empty())
        );
    }
    fill(main, now).await;
    for door in doors {
        let (messages, status) = grpc(door, "Search", frame(&search)).await;
        assert_eq!(status, "0");
        let answer: wire::SearchResponse = wire::decode(&messages[0]).unwrap();
        assert_eq!(answer.traces.len(), 1);
        for method in ["MetricsQueryRange", "MetricsQueryInstant"] {
            let (messages, status) = grpc(door, method, frame(&rate)).await;
            assert_eq!((status.as_str(), messages.len()), ("0", 1), "{method}");
        }
        let wrong = wire::SearchRequest { query: "{".into(), ..Default::default() };
        assert_eq!(grpc(door, "Search", frame(&wrong)).await.1, "3");
        assert_eq!(grpc(door, "NoSuchMethod", frame(&search)).await.1, "12");
    }
    server.stop().await;
}
