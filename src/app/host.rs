//! What the machine has and what this process uses of it, from /proc and the cgroup files.

use std::fs;

/// Bytes of memory this process may use: the smallest limit of its cgroup and those above it, or
/// what the machine has.
pub(super) fn memory_total() -> u64 {
    let machine = meminfo_total(&fs::read_to_string("/proc/meminfo").unwrap_or_default()).unwrap_or(1 << 30);
    let membership = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_files(&membership)
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok())
        .fold(machine, u64::min)
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Files that may hold a limit (over `memory.high` a group is held up, hardly better), for the lines of /proc/self/cgroup: version 2 (`0::/path`) and 1
/// (`5:memory:/path`). Inside a container the path is often `/`.
fn cgroup_files(membership: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, names): (_, &[_]) = if controllers.is_empty() {
            ("/sys/fs/cgroup", &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"])
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            files.extend(names.iter().map(|name| format!("{root}{path}/{name}")));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    files
}

/// Resident memory of this process, in bytes.
pub(super) fn memory_resident() -> u64 {
    status_bytes("VmRSS:").unwrap_or(0)
}

/// Resident memory of this process that no file can give back, in bytes.
pub(super) fn memory_anonymous() -> Option<u64> {
    status_bytes("RssAnon:")
}

fn status_bytes(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// CPU time of this process, in nanoseconds.
pub(super) fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Open files of this process.
pub(super) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Raises the soft limit of open files to the hard one and says what it is: a connection, a part and
/// a segment of the log each need one, and the usual soft limit of 1,024 is soon used up.
pub(super) fn raise_open_files_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let soft = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.maximum.unwrap_or(u64::MAX),
        Err(_) => soft.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_looked_for_in_the_group_and_all_above_it() {
        let files = cgroup_files("12:cpu:/x\n5:cpuset,memory:/docker/ab\n0::/a/b\n");
        assert_eq!(files.len(), 9);
        assert_eq!(files[0], "/sys/fs/cgroup/memory/docker/ab/memory.limit_in_bytes");
        assert_eq!(files[3], "/sys/fs/cgroup/a/b/memory.max");
        assert_eq!(files[4], "/sys/fs/cgroup/a/b/memory.high");
        assert_eq!(files[7], "/sys/fs/cgroup/memory.max");
        assert_eq!(cgroup_files("0::/\n"), ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.high"]);
        assert_eq!(cgroup_files("nonsense"), Vec::<String>::new());
    }

    #[test]
    fn this_process_uses_memory_and_files_and_time() {
        assert_eq!(meminfo_total("MemTotal:  16 kB\n"), Some(16_384));
        assert!(memory_total() > memory_resident());
        assert!(memory_anonymous().is_some_and(|bytes| bytes > 0 && bytes <= memory_resident()));
        assert!(memory_resident() > 0 && open_files() > 0 && cpu_ns() > 0);
    }
}
