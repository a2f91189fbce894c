//! The configuration file: settings, or errors that name a line.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use trilith::app::config::Config;
use trilith::app::config::Invocation;

/// In memory where the machine has such a place: a file that is written anew goes to the disk at once.
fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let shm = Path::new("/dev/shm");
        let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
        base.join(format!("trilith-fuzz-config-{}.yaml", std::process::id()))
    })
}

fuzz_target!(|bytes: &[u8]| {
    fs::write(path(), bytes).expect("to write the file");
    let invocation = Invocation { file: Some(path().clone()), ..Invocation::default() };
    if let Err(problems) = Config::load(invocation) {
        assert!(!problems.is_empty());
        problems.iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
    }
});
