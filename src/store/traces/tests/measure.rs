//! What half a million spans cost. Measures nothing by itself:
//! `cargo test --release --lib store::traces::tests::measure -- --ignored --nocapture`.

use std::fs;
use std::time::Instant;

use super::*;
use crate::store::waist::AttrScope;

const SERVICES: [&str; 6] = ["frontend", "backend", "redis", "postgres", "ollama", "payments"];
const ROUTES: [&str; 8] =
    ["/", "/api/chat", "/api/items", "/api/items/{id}", "/api/cart", "/api/pay", "/api/login", "/healthz"];

fn text(key: &str, value: impl Into<String>) -> (String, AttrValue) {
    (key.into(), AttrValue::Str(value.into()))
}

fn shop_resources() -> Vec<Arc<Resource>> {
    let resource = |(number, name): (usize, &&str)| {
        let attrs = vec![
            text("service.name", *name),
            text("service.version", "1.4.2"),
            text("host.name", format!("host-{number}")),
            text("deployment.environment", "prod"),
        ];
        Arc::new(Resource { attrs, ..Resource::default() })
    };
    SERVICES.iter().enumerate().map(resource).collect()
}

/// A trace of a shop-like application: 5 to 40 spans over six services.
fn shop_trace(dice: &mut Dice, number: u64, at: i64, resources: &[Arc<Resource>], out: &mut Vec<Span>) {
    let _ = number;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&dice.next().to_be_bytes());
    id[8..].copy_from_slice(&dice.next().to_be_bytes());
    let scope = Arc::new(Scope::default());
    let first = out.len();
    for number in 0..5 + dice.below(35) {
        let service = if number == 0 { 0 } else { dice.below(6) as usize };
        let parent = if number == 0 { None } else { Some(&out[first + dice.below(number) as usize]) };
        let (start, len) = parent.map_or((at, 1_000_000 + dice.below(900_000_000) as i64), |parent| {
            let whole = parent.duration_ns();
            (parent.start + (whole / 1000) * dice.below(500) as i64, whole / 20 * (1 + dice.below(9) as i64))
        });
        let route = ROUTES[dice.below(8) as usize];
        let (name, kind, attrs) = match SERVICES[service] {
            "redis" => {
                let statement = text("db.statement", format!("GET user:{}", dice.below(100_000)));
                let port = ("net.peer.port".into(), AttrValue::Int(6379));
                ("GET".to_owned(), SpanKind::Client, vec![text("db.system", "redis"), statement, port])
            }
            "postgres" => {
                let statement = format!("SELECT * FROM items WHERE id = {}", dice.below(1_000_000));
                let attrs =
                    vec![text("db.system", "postgresql"), text("db.statement", statement), text("db.name", "shop")];
                ("SELECT items".to_owned(), SpanKind::Client, attrs)
            }
            _ => {
                let attrs = vec![
                    text("http.method", "GET"),
                    text("http.route", route),
                    text("http.url", format!("http://shop{route}?q={}", dice.below(1_000_000))),
                    ("http.status_code".into(), AttrValue::Int(if dice.one_in(50) { 500 } else { 200 })),
                    text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"),
                    ("user.id".into(), AttrValue::Int(dice.below(50_000) as i64)),
                ];
                (format!("GET {route}"), SpanKind::Server, attrs)
            }
        };
        out.push(Span {
            trace_id: TraceId(id),
            span_id: SpanId(dice.next().to_be_bytes()),
            parent_id: parent.map_or(SpanId::default(), |parent| parent.span_id),
            name,
            kind,
            start,
            end: start + len.max(1000),
            attrs,
            resource: resources[service].clone(),
            scope: scope.clone(),
            ..Span::default()
        });
    }
}

/// CPU seconds of this process, from the kernel's ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap());
    entries
        .map(|entry| if entry.path().is_dir() { folder_bytes(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

fn report(what: &str, since: (Instant, f64)) {
    println!("{what}: {:.0} ms, {:.2} CPU s", since.0.elapsed().as_secs_f64() * 1e3, cpu_seconds() - since.1);
}

#[test]
#[ignore = "a measurement"]
fn half_a_million_spans() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_with(dir.path(), Options { lane: LaneOptions::default(), ..Options::default() });
    let (mut dice, resources) = (Dice::new(1), shop_resources());
    let (mut spans, mut ids, mut cost) = (0, Vec::new(), 0.0);
    let started = Instant::now();
    for request in 0..200i64 {
        let mut batch = Vec::new();
        for trace in 0..100 {
            let at = NOW - 3_600_000_000_000 + (request * 100 + trace) * 180_000_000;
            shop_trace(&mut dice, 0, at, &resources, &mut batch);
        }
        batch.sort_by_key(|span| Arc::as_ptr(&span.resource));
        ids.push(batch[0].trace_id);
        spans += batch.len();
        let before = cpu_seconds();
        let started = Instant::now();
        append(&store, &batch);
        cost += started.elapsed().as_secs_f64();
        let _ = before;
    }
    println!("{spans} spans; append {cost:.2} s of {:.2}", started.elapsed().as_secs_f64());
    println!(
        "head {} KiB, log {} KiB",
        store.lane().stats().head_bytes >> 10,
        folder_bytes(&dir.path().join("wal")) >> 10
    );
    let budget = QueryBudget::unlimited();
    let since = (Instant::now(), cpu_seconds());
    store.services(&budget).unwrap();
    report("services of the head", since);
    let since = (Instant::now(), cpu_seconds());
    assert_eq!(all(&store).len(), spans);
    report("read the head", since);
    let since = (Instant::now(), cpu_seconds());
    store.lane().flush().unwrap();
    report("flush", since);
    let since = (Instant::now(), cpu_seconds());
    store.lane.kind().narrower.settle();
    report("text index", since);
    println!(
        "parts {} KiB, catalog {} KiB, text {} KiB",
        folder_bytes(&dir.path().join("traces")) >> 10,
        folder_bytes(&dir.path().join("catalog")) >> 10,
        folder_bytes(&dir.path().join("text")) >> 10
    );
    let since = (Instant::now(), cpu_seconds());
    assert_eq!(all(&store).len(), spans);
    report("read the part", since);
    let since = (Instant::now(), cpu_seconds());
    ids.iter().for_each(|id| assert!(!store.trace(*id, &budget).unwrap().is_empty()));
    report("200 traces by id", since);
    let since = (Instant::now(), cpu_seconds());
    let value = AttrValue::Str("SELECT * FROM items WHERE id = 77".into());
    let hint =
        SpanHint::Attr { scopes: vec![AttrScope::Span, AttrScope::Resource], name: "db.statement".into(), value };
    let found = read_all(&store, RangeNs::ALL, &[hint]);
    report(&format!("a rare attribute ({} spans read)", found.len()), since);
    let since = (Instant::now(), cpu_seconds());
    store.services(&budget).unwrap();
    report("services of the part", since);
    drop(store);
    let since = (Instant::now(), cpu_seconds());
    let store = open(dir.path());
    report("reopen", since);
    drop(store);
}
