//! A cgroup of our own with a limit of memory, version 1 or 2; it goes when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A group that processes can be put into.
pub(super) struct Cgroup {
    folder: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    /// Makes one with `bytes` of memory and no swap; nothing where that is not allowed.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let name = format!("trilith-attack-{}", std::process::id());
        let kinds = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
        ];
        for (root, limit, peak) in kinds {
            // Of version 2, the root must hand memory down.
            if limit == "memory.max" && !Path::new(root).join("cgroup.controllers").exists() {
                continue;
            }
            let _ = fs::write(Path::new(root).join("cgroup.subtree_control"), "+memory");
            let folder = Path::new(root).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let group = Self { folder, peak };
            let _ = fs::write(group.folder.join("memory.swap.max"), "0");
            let _ = fs::write(group.folder.join("memory.swappiness"), "0");
            if fs::write(group.folder.join(limit), bytes.to_string()).is_ok() {
                return Some(group);
            }
        }
        None
    }

    /// The file that takes process ids.
    pub(super) fn procs(&self) -> String {
        self.folder.join("cgroup.procs").display().to_string()
    }

    /// Most bytes that were charged to it, page cache included; 0 where the kernel does not say.
    pub(super) fn peak(&self) -> u64 {
        fs::read_to_string(self.folder.join(self.peak)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may still be counted.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
