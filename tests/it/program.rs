//! The program as a process: commands, exit codes, signals.

use std::io::{BufRead, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use super::doors::ask;

/// The program without variables of ours that the environment may hold.
pub(super) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRILITH_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program in a cgroup, whose file of process ids is `procs`, from its first instruction on.
/// `ATTACK_PROGRAM` names another build of it.
pub(super) fn in_group(procs: &str) -> Command {
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRILITH_") {
            command.env_remove(name);
        }
    }
    let script = format!("echo $$ > {procs} && exec \"$0\" \"$@\"");
    let built = std::env::var("ATTACK_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_trilith").to_owned());
    command.args(["-c", &script, &built]);
    command
}

fn output(args: &[&str]) -> (Output, String) {
    let output = program().args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

/// A server as a process of its own; it is killed when dropped.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) main: SocketAddr,
    /// Reads what it logs from then on, so that a full pipe never stops it.
    log: Option<JoinHandle<String>>,
}

/// Reads the log up to the line that says where the program listens.
fn listening(log: &mut impl BufRead) -> Option<SocketAddr> {
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
        if event["message"] == "listening" {
            return event["address"].as_str()?.parse().ok();
        }
    }
    None
}

impl Process {
    /// Starts the program on a free port and waits until it listens.
    pub(super) fn start(data_dir: &Path, args: &[&str]) -> Self {
        Self::spawn(program(), data_dir, args)
    }

    /// As [`start`](Self::start), by a command that may set something up first.
    pub(super) fn spawn(mut command: Command, data_dir: &Path, args: &[&str]) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--no-extra-listeners", "--log-format", "json", "--data-dir"]);
        let mut child = command.arg(data_dir).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let Some(main) = listening(&mut log) else {
            child.kill().unwrap();
            panic!("the program ended before it listened: {}", child.wait().unwrap());
        };
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            log.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, main, log: Some(log) }
    }

    /// Sends a signal by name.
    pub(super) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// The rest of its log, once it has ended.
    pub(super) fn rest_of_log(&mut self) -> String {
        self.log.take().unwrap().join().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_wrong_flag_variable_or_file_ends_with_code_2() {
    let (wrong, text) = output(&["--retention-metric", "1d"]);
    assert_eq!(wrong.status.code(), Some(2), "{text}");
    let (wrong, text) = output(&["--retention-metrics", "soon"]);
    assert_eq!(wrong.status.code(), Some(2), "{text}");
    assert!(text.contains("--retention-metrics"), "{text}");
    let variable = program().env("TRILITH_LISTEN", "x").output().unwrap();
    assert_eq!(variable.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&variable.stderr).contains("TRILITH_LISTEN"));
    // Others may set variables that begin like ours: those are named, and the program goes on.
    let variable = program().arg("check-config").env("TRILITH_LISTN", "x").output().unwrap();
    assert_eq!(variable.status.code(), Some(0));
    let said = String::from_utf8_lossy(&variable.stderr).into_owned() + &String::from_utf8_lossy(&variable.stdout);
    assert!(said.contains("TRILITH_LISTN") && said.contains("TRILITH_LISTEN"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    std::fs::write(&file, "listen: 127.0.0.1:1\nlog_formt: json\n").unwrap();
    let (wrong, text) = output(&["check-config", "--config", file.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text.contains("line 2") && text.contains("did you mean \"log-format\""), "{text}");
}

#[test]
fn check_config_says_each_value_and_where_it_comes_from() {
    let checked = program().args(["check-config", "--retention-logs", "1d"]).env("TRILITH_LOG_LEVEL", "debug").output();
    let checked = checked.unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0));
    let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(line("retention-logs").contains("1d") && line("retention-logs").ends_with("--retention-logs"));
    assert!(line("log-level").ends_with("variable TRILITH_LOG_LEVEL"));
    assert!(line("listen ").ends_with("default"));
}

#[test]
fn a_taken_port_is_said_once_and_repair_makes_no_data_directory() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data_dir = folder.path().join("data");
    let data_dir_text = data_dir.to_str().unwrap();
    let (ended, text) = output(&["--listen", &address, "--no-extra-listeners", "--data-dir", data_dir_text]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text.contains(&address) && text.contains("free the port"), "{text}");
    assert_eq!(text.matches("Address already in use").count(), 1, "{text}");
    std::fs::remove_dir_all(&data_dir).unwrap();
    let (ended, text) = output(&["repair", "--data-dir", data_dir_text]);
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("there is no data directory"), "{text}");
    assert!(!data_dir.exists());
}

#[test]
fn help_and_version_go_to_stdout_with_code_0() {
    let (help, _) = output(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(help.stdout.len() > 500 && help.stderr.is_empty());
    assert_eq!(output(&["--version"]).0.status.code(), Some(0));
}

#[test]
fn help_and_version_are_commands_too() {
    let (help, text) = output(&["help"]);
    assert_eq!((help.status.code(), text.contains("check-config")), (Some(0), true), "{text}");
    let (version, text) = output(&["version"]);
    assert_eq!((version.status.code(), text.as_str()), (Some(0), concat!("trilith ", env!("CARGO_PKG_VERSION"), "\n")));
    let (wrong, text) = output(&["--port", "80"]);
    assert_eq!(wrong.status.code(), Some(2), "{text}");
    assert!(text.contains("tip: write --listen 127.0.0.1:9090"), "{text}");
}

/// What the program says in `folder`, with a relative data directory, up to when it is ready.
fn first_lines(folder: &Path) -> Vec<String> {
    let mut command = program();
    command.args(["--listen", "127.0.0.1:0", "--listen-loki", "127.0.0.1:0", "--data-dir", "here"]);
    command.args(["--listen-otlp-grpc", "off", "--listen-otlp-http", "off", "--listen-tempo", "off"]);
    let mut child = command.current_dir(folder).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().contains("ready after_ms=") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

#[test]
fn the_first_lines_say_where_to_look_where_data_lies_and_nothing_that_did_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("here");
    for (round, new) in [" (a new data directory: nothing was there)", ""].into_iter().enumerate() {
        let lines = first_lines(folder.path());
        let words: Vec<&str> =
            lines.iter().map(|line| line.split_once(" trilith: ").map_or("", |(_, own)| own)).collect();
        assert!(words[0].starts_with("open http://127.0.0.1:") && words[0].ends_with("/ in a browser"), "{lines:#?}");
        assert_eq!(words[1], format!("data lies in {}{new}", data.display()), "round {round}");
        assert!(words[2].starts_with("listening on 127.0.0.1:") && words[2].contains(": everything"), "{lines:#?}");
        assert!(words[3].ends_with(": Loki's paths at the root"), "{lines:#?}");
        assert!(words[4].starts_with("metrics are kept 30d, logs 14d, traces 7d; within "), "{lines:#?}");
        assert!(words[5].starts_with("ready after_ms="), "{lines:#?}");
        assert_eq!(lines.len(), 6, "{lines:#?}");
    }
}

#[test]
fn what_kubernetes_says_of_a_service_is_named_and_ends_no_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    command.env("TRILITH_PORT", "tcp://10.0.0.1:9090").env("TRILITH_SERVICE_HOST", "10.0.0.1");
    let process = Process::spawn(command, folder.path(), &[]);
    assert_eq!(ask(process.main, "GET", "/-/healthy", "", b"").status, 200);
    let checked = program().arg("check-config").env("TRILITH_PORT", "tcp://10.0.0.1:9090").output().unwrap();
    assert_eq!(checked.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&checked.stderr).contains("TRILITH_PORT"));
}

#[test]
fn sigterm_ends_it_with_code_0() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start(folder.path(), &[]);
    assert_eq!(ask(process.main, "GET", "/-/healthy", "", b"").status, 200);
    process.signal("TERM");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
    let log = process.rest_of_log();
    assert!(log.contains("\"signal\":\"SIGTERM\""), "{log}");
}

#[test]
fn healthcheck_asks_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let address = process.main.to_string();
    assert_eq!(output(&["healthcheck", "--listen", &address]).0.status.code(), Some(0));
    drop(process);
    assert_eq!(output(&["healthcheck", "--listen", &address]).0.status.code(), Some(1));
}

#[test]
fn a_data_directory_that_cannot_be_is_an_error_with_code_1() {
    let (wrong, text) = output(&["--listen", "127.0.0.1:0", "--no-extra-listeners", "--data-dir", "/dev/null/x"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text.contains("/dev/null/x") && text.contains("--data-dir"), "{text}");
}

#[test]
fn reload_applies_what_it_can_and_names_what_it_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.yaml");
    std::fs::write(&file, "retention-logs: 1d\n").unwrap();
    let process = Process::start(&folder.path().join("data"), &["--config", file.to_str().unwrap()]);
    let reload = || {
        let answer = ask(process.main, "POST", "/-/reload", "", b"");
        (answer.status, serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap())
    };
    std::fs::write(&file, "retention-logs: 2d\nlog-level: debug\nwal-fsync: always\n").unwrap();
    let (status, body) = reload();
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["applied"], serde_json::json!(["retention-logs", "log-level"]));
    assert_eq!(body["needs_restart"], serde_json::json!(["wal-fsync"]));
    std::fs::write(&file, "retention-log: 2d\n").unwrap();
    let (status, body) = reload();
    assert_eq!(status, 400, "{body}");
    assert!(body["error"].as_str().unwrap().contains("line 1"), "{body}");
}

#[test]
fn root_hands_the_data_directory_over_and_becomes_an_ordinary_user() {
    let folder = tempfile::tempdir().unwrap();
    if std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.path()).unwrap()) != 0 {
        return;
    }
    // The new user has to pass through the folder above.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = folder.path().join("data");
    let process = Process::start(&data, &["--run-as", "10001:10001"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    for line in ["Uid:\t10001\t10001\t10001\t10001", "Gid:\t10001\t10001\t10001\t10001", "CapEff:\t0000000000000000"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data).unwrap()), 10_001);
}
