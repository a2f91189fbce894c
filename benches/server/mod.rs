//! A server as a process of its own, for benches that ask what the whole of it costs: CPU seconds
//! and memory as the kernel counts them, in a memory cgroup where one can be made. Linux only.
#![expect(dead_code, reason = "each bench uses its part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running server; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    cgroup: Option<PathBuf>,
}

/// A memory cgroup of our own with a limit, where the system lets us make one.
fn cgroup(bytes: u64) -> Option<PathBuf> {
    let name = format!("trilith-bench-{}", std::process::id());
    for (root, file) in [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")] {
        let group = Path::new(root).join(&name);
        if fs::create_dir_all(&group).is_ok() {
            // A folder that is no cgroup takes files of any name.
            if group.join("cgroup.procs").exists() && fs::write(group.join(file), bytes.to_string()).is_ok() {
                return Some(group);
            }
            let _ = fs::remove_dir(&group);
        }
    }
    None
}

impl Server {
    /// Starts the program on a free port with its data in `dir`. With `memory_max`, in a cgroup of
    /// that many bytes; where none can be made, says so and leaves it at `--memory-limit 60 %` of it.
    pub(crate) fn start(dir: &Path, memory_max: Option<u64>, args: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_trilith");
        let group = memory_max.and_then(cgroup);
        let mut command = Command::new("sh");
        let enter =
            group.as_ref().map_or(String::new(), |group| format!("echo $$ >{}/cgroup.procs; ", group.display()));
        command.args(["-c", &format!("{enter}exec \"$0\" \"$@\""), program]);
        if let (Some(bytes), None) = (memory_max, &group) {
            println!("no cgroup can be made here: the server is told its limit, nothing enforces it");
            command.args(["--memory-limit", &(bytes * 6 / 10).to_string()]);
        }
        command.args(["--listen", "127.0.0.1:0", "--no-extra-listeners", "--log-format", "json", "--data-dir"]);
        let mut child = command.arg(dir).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before it listened");
            let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "listening" {
                break event["address"].as_str().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok).filter(|line| !line.contains("\"INFO\"")) {
                println!("server: {line}");
            }
        });
        let server = Self { child, address, cgroup: group };
        while server.ask("GET", "/-/ready", "", b"").0 != 200 {
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// One request over a connection of its own: status and body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nHost: bench\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(split + 4))
    }

    /// Sends a remote-write 1.0 body, again and again while the server asks for that; any other
    /// refusal ends the bench. Returns how often it had to be sent again.
    pub(crate) fn write(&self, body: &[u8]) -> u64 {
        let headers = "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n";
        let mut again = 0;
        loop {
            let (status, text) = self.ask("POST", "/api/v1/write", headers, body);
            match status {
                200..300 => return again,
                429 | 503 => again += 1,
                _ => panic!("{status}: {}", String::from_utf8_lossy(&text)),
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// An instant or range query: `path` with its parameters.
    pub(crate) fn query(&self, path: &str) -> Vec<u8> {
        let (status, body) = self.ask("GET", path, "", b"");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// Writes heads to parts.
    pub(crate) fn flush(&self) {
        assert_eq!(self.ask("POST", "/-/flush", "", b"").0 / 100, 2);
    }

    /// A number of the server's own about metrics.
    fn own(&self, name: &str) -> usize {
        let text = String::from_utf8(self.query("/metrics")).unwrap();
        let series = format!("{name}{{signal=\"metrics\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).unwrap().parse().unwrap()
    }

    /// Parts of metrics.
    pub(crate) fn parts(&self) -> usize {
        self.own("trilith_parts")
    }

    /// Waits until merges, which take a quarter of a core, have come to rest: none for twelve
    /// seconds, or five minutes in all. Returns how many parts there are.
    pub(crate) fn settle(&self) -> usize {
        let (mut parts, mut quiet) = (self.parts(), 0);
        for _ in 0..300 {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.parts();
            quiet = if now == parts && self.own("trilith_merges_running") == 0 { quiet + 1 } else { 0 };
            parts = now;
            if quiet >= 12 {
                break;
            }
        }
        parts
    }

    /// CPU seconds used so far, user and system.
    pub(crate) fn cpu_s(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<f64> = text.rsplit(')').next().unwrap().split(' ').filter_map(|own| own.parse().ok()).collect();
        // After the state: user and system time are the 11th and 12th number, in hundredths of a second.
        (fields[10] + fields[11]) / 100.0
    }

    /// CPU seconds that `work` costs the server.
    pub(crate) fn cpu_of(&self, work: impl FnOnce()) -> f64 {
        let before = self.cpu_s();
        work();
        self.cpu_s() - before
    }

    /// Resident memory in MiB, now and at its highest.
    pub(crate) fn memory_mib(&self) -> (f64, f64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        (of("VmRSS"), of("VmHWM"))
    }

    /// Whether it still runs.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it as a crash would and returns after how many seconds a new one is ready.
    pub(crate) fn crash_and_restart(mut self, dir: &Path, args: &[&str]) -> (Self, f64) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let begun = Instant::now();
        let next = Self::start(dir, None, args);
        (next, begun.elapsed().as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(group) = &self.cgroup {
            // The kernel needs a moment to see that it is empty.
            for _ in 0..50 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Bytes of all files in a folder, in MiB.
pub(crate) fn disk_mib(dir: &Path) -> f64 {
    fn sum(dir: &Path) -> u64 {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { sum(&entry.path()) } else { size(&entry.path()) }).sum()
    }
    fn size(path: &Path) -> u64 {
        fs::metadata(path).map_or(0, |meta| meta.len())
    }
    sum(dir) as f64 / 1_048_576.0
}

/// Numbers that look random and are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// From 0 up to 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Series in the proportions of a fleet of hosts: counters, gauges of few decimals, whole numbers,
/// constants, a little noise.
pub(crate) struct Fleet {
    labels: Vec<Vec<u8>>,
    values: Vec<f64>,
    random: Random,
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn encoded_labels(number: usize, pod: Option<String>) -> Vec<u8> {
    let (host, k) = (number / 200, number % 200);
    let name = match k {
        0..=39 => "node_cpu_seconds_total".to_owned(),
        40..=79 => "node_network_bytes_total".to_owned(),
        _ => format!("node_gauge_{k}"),
    };
    let mut pairs = vec![
        ("__name__", name),
        ("instance", format!("10.{}.{}.{}:9100", host / 62_500, host / 250 % 250, host % 250)),
        ("job", ["node", "backend", "frontend", "redis", "postgres"][host % 5].to_owned()),
    ];
    pairs.extend((k < 80).then(|| ("mode", k.to_string())));
    pairs.extend(pod.map(|pod| ("pod", pod)));
    pairs.push(("region", ["eu-1", "eu-2", "us-1"][host % 3].to_owned()));
    let (mut all, mut label) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        label.clear();
        field(10, name.as_bytes(), &mut label);
        field(18, value.as_bytes(), &mut label);
        field(10, &label, &mut all);
    }
    all
}

impl Fleet {
    /// So many series.
    pub(crate) fn new(series: usize) -> Self {
        let labels = (0..series).map(|number| encoded_labels(number, None)).collect();
        Self { labels, values: vec![1000.0; series], random: Random(7) }
    }

    /// Series.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }

    /// Replaces a share of the series by new ones.
    pub(crate) fn replace(&mut self, share: f64, generation: usize) {
        for number in 0..self.labels.len() {
            if self.random.unit() < share {
                self.labels[number] = encoded_labels(number, Some(format!("pod-{generation}-{number}")));
                self.values[number] = 0.0;
            }
        }
    }

    /// Remote-write bodies with one new sample of each series at `t`, milliseconds.
    pub(crate) fn scrape(&mut self, t: i64) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        for first in (0..self.len()).step_by(10_000) {
            let mut request = Vec::new();
            for number in first..self.len().min(first + 10_000) {
                let value = self.advance(number);
                let offset = (number / 200 * 37 % 10_000) as i64;
                let mut sample = vec![9];
                sample.extend_from_slice(&value.to_le_bytes());
                sample.push(16);
                varint((t + offset) as u64, &mut sample);
                let mut series = self.labels[number].clone();
                field(18, &sample, &mut series);
                field(10, &series, &mut request);
            }
            bodies.push(snap::raw::Encoder::new().compress_vec(&request).unwrap());
        }
        bodies
    }

    fn advance(&mut self, number: usize) -> f64 {
        let (value, unit) = (self.values[number], self.random.unit());
        let next = match number % 200 {
            0..=39 => ((value + 15.0 * unit) * 100.0).round() / 100.0,
            40..=79 => value + (10_000.0 * unit).round(),
            80..=139 => 4096.0 * (5_000.0 * unit).round(),
            140..=159 => ((value * 0.9 + unit) * 1000.0).round() / 1000.0,
            160..=189 => value,
            _ => unit,
        };
        self.values[number] = next;
        next
    }
}
