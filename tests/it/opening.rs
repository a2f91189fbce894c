//! A data directory that cannot be opened: what passes is waited for, with the listeners open and the reason
//! said; what does not pass ends the start at once, with what to do about it.

use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use trilith::app::config::Config;
use trilith::app::{Server, run, run_on};
use trilith::base::disk::RealDisk;

use super::doors::{get, send};
use super::support::SimDisk;
use super::support::faults::{Fault, Op};

const LINES: &str = "/loki/api/v1/query_range?query=%7Bapp%3D%22opening%22%7D";

async fn push(server: &Server, line: &str) -> u16 {
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let body = format!(r#"{{"streams":[{{"stream":{{"app":"opening"}},"values":[["{now}","{line}"]]}}]}}"#);
    let headers = "Content-Type: application/json\r\n";
    send(server.addresses.main, "POST", "/loki/api/v1/push", headers, body.as_bytes()).await.status
}

/// A data directory with a line in a part and one in the log.
async fn with_data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for line in ["first", "second"] {
        let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
        server.ready().await.unwrap();
        assert_eq!(push(&server, line).await, 204);
        server.stop().await;
    }
    folder
}

async fn start(folder: &tempfile::TempDir, disk: &SimDisk) -> Server {
    run_on(Config::for_tests(folder.path()), None, Arc::new(disk.clone())).await.unwrap()
}

/// Waits until `path` is answered with `status` and a text that has `expected`.
async fn until(server: &Server, path: &str, status: u16, expected: &str) {
    let mut last = String::new();
    for _ in 0..600 {
        let answer = get(server.addresses.main, path).await;
        last = format!("{} {}", answer.status, answer.text());
        if answer.status == status && answer.text().contains(expected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path}: {last} is not {status} {expected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for_said_and_over_when_it_is() {
    let folder = with_data().await;
    for (fault, said, advice) in [
        (Fault::new(Op::List, Errno::IO), "Input/output error", "dmesg"),
        (Fault::new(Op::List, Errno::MFILE).within("wal"), "Too many open files", "ulimit -n"),
        (Fault::new(Op::Open, Errno::NOMEM).within("FORMAT"), "Cannot allocate memory", "more memory"),
        (Fault::new(Op::CreateDir, Errno::NOSPC), "no room on disk", "free some room"),
    ] {
        let disk = SimDisk::new(1);
        disk.fail(fault.for_ever());
        let mut server = start(&folder, &disk).await;
        let main = server.addresses.main;
        until(&server, "/-/ready", 503, said).await;
        until(&server, "/-/ready", 503, advice).await;
        until(&server, "/metrics", 200, "trilith_condition{name=\"not_open\",signal=\"all\"} 1").await;
        assert_eq!(get(main, "/-/healthy").await.status, 200);
        assert_eq!(push(&server, "refused").await, 503);
        assert_eq!(get(main, LINES).await.status, 503);
        disk.heal();
        server.ready().await.unwrap();
        until(&server, "/-/ready", 200, "ready").await;
        assert_eq!(get(main, "/-/ready").await.text(), "ready\n", "{said}: something is left of it");
        until(&server, "/metrics", 200, "trilith_condition{name=\"not_open\",signal=\"all\"} 0").await;
        let lines = get(main, LINES).await.text();
        assert!(lines.contains("first") && lines.contains("second") && !lines.contains("refused"), "{said}: {lines}");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_waits_for_its_data_directory_can_be_stopped_and_lets_go_of_it() {
    let folder = with_data().await;
    let disk = SimDisk::new(1);
    disk.fail(Fault::new(Op::List, Errno::IO).for_ever());
    let server = start(&folder, &disk).await;
    until(&server, "/-/ready", 503, "Input/output error").await;
    server.stop().await;
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    server.ready().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_ends_the_start_and_says_what_to_do() {
    let folder = with_data().await;
    for (error, advice) in [(Errno::ACCESS, "read and write access"), (Errno::ROFS, "mount its file system")] {
        let disk = SimDisk::new(1);
        disk.fail(Fault::new(Op::List, error).for_ever());
        let mut server = start(&folder, &disk).await;
        let refused = server.ready().await.unwrap_err().to_string();
        assert!(refused.contains(advice) && refused.contains("wal"), "{error:?}: {refused}");
        server.stop().await;
    }
    let wal = folder.path().join("wal");
    std::fs::rename(&wal, folder.path().join("kept")).unwrap();
    std::fs::write(&wal, "a file").unwrap();
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    let refused = server.ready().await.unwrap_err().to_string();
    assert!(refused.contains("move it away"), "{refused}");
    server.stop().await;
    std::fs::remove_file(&wal).unwrap();
    std::fs::rename(folder.path().join("kept"), &wal).unwrap();
    for name in ["FORMAT", "FORMAT.sum"] {
        std::fs::remove_file(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("FORMAT"), "99\n").unwrap();
    let mut server = run(Config::for_tests(folder.path()), None).await.unwrap();
    let refused = server.ready().await.unwrap_err().to_string();
    assert!(refused.contains("run a newer version"), "{refused}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_of_another_server_is_waited_for_a_moment() {
    let folder = with_data().await;
    let mut first = run(Config::for_tests(folder.path()), None).await.unwrap();
    first.ready().await.unwrap();
    let refused = run_on(Config::for_tests(folder.path()), None, Arc::new(RealDisk)).await.err().unwrap().to_string();
    assert!(refused.contains("in use by another process") && refused.contains("stop it"), "{refused}");
    let (second, ()) = tokio::join!(run(Config::for_tests(folder.path()), None), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        first.stop().await;
    });
    let mut second = second.unwrap();
    second.ready().await.unwrap();
    second.stop().await;
}
