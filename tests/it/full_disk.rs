//! A real disk that is full when the program starts: a small file system in memory. Whoever may not mount
//! one is told, and the test ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::crash::wait_ready;
use super::doors::{ask, try_ask};
use super::program::Process;

/// A file system of eight megabytes; it goes when dropped.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut file = fs::File::create(self.folder.path().join("filler")).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            while std::io::Write::write_all(&mut file, &vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.folder.path().join("filler")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

fn push(process: &Process, line: &str, status: u16) {
    let now = chrono::Utc::now().timestamp_nanos_opt().unwrap();
    let body = format!(r#"{{"streams":[{{"stream":{{"app":"full"}},"values":[["{now}","{line}"]]}}]}}"#);
    let headers = "Content-Type: application/json\r\n";
    let mut last = 0;
    for _ in 0..100 {
        last = ask(process.main, "POST", "/loki/api/v1/push", headers, body.as_bytes()).status;
        if last == status {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("a push is answered {last}, not {status}");
}

fn lines(process: &Process) -> String {
    let query = "/loki/api/v1/query_range?query=%7Bapp%3D%22full%22%7D";
    let answer = ask(process.main, "GET", query, "", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_server_starts_on_a_full_disk_answers_queries_refuses_writes_and_heals() {
    let Some(small) = Small::mount() else {
        println!("skipped: only root can mount the small file system that this test fills");
        return;
    };
    let process = Process::start(&small.data(), &[]);
    wait_ready(process.main);
    push(&process, "first", 204);
    assert_eq!(ask(process.main, "POST", "/-/flush", "", b"").status, 200);
    push(&process, "second", 204);
    drop(process);
    small.fill();
    for round in 0..2 {
        let process = Process::start(&small.data(), &[]);
        wait_ready(process.main);
        let found = lines(&process);
        assert!(found.contains("first") && found.contains("second"), "round {round}: {found}");
        push(&process, "refused", 503);
        let ready = try_ask(process.main, "GET", "/-/ready", "", b"").unwrap();
        assert_eq!(ready.status, 200);
        assert!(ready.text().contains("disk_full"), "round {round}: {}", ready.text());
        let all = names(&small.data());
        assert!(!all.iter().any(|name| name.contains("damaged")), "round {round}: moved aside: {all:?}");
        if round == 1 {
            small.make_room();
            push(&process, "third", 204);
            let found = lines(&process);
            assert!(found.contains("first") && found.contains("third"), "{found}");
            for _ in 0..100 {
                if try_ask(process.main, "GET", "/-/ready", "", b"").unwrap().text() == "ready\n" {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            assert_eq!(try_ask(process.main, "GET", "/-/ready", "", b"").unwrap().text(), "ready\n");
        }
    }
}
