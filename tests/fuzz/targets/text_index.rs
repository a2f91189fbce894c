//! A full-text index whose files are changed behind their checksums: it does not open, or a search gives blocks or
//! an error; what panics inside the library is an error here.
#![no_main]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use trilith::base::disk::{Disk, RealDisk};
use trilith::store::text::{TextBuilder, TextIndex};
use trilith_fuzz::EDIT_BYTES;

type Files = Vec<(PathBuf, Vec<u8>)>;

fn folder() -> PathBuf {
    let shm = Path::new("/dev/shm");
    let base = if shm.is_dir() { shm.to_owned() } else { std::env::temp_dir() };
    base.join(format!("trilith-fuzz-text-{}", std::process::id()))
}

/// All files but locks, and but the store of documents, in which nothing is stored: the library believes a length that
/// it reads there and asks for as much memory, which ends the process. Only the checksums keep that from damage.
fn read(dir: &Path, files: &mut Files) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, files);
        } else if !path.extension().is_some_and(|kind| kind == "lock" || kind == "store") {
            files.push((path.clone(), fs::read(path).expect("a file")));
        }
    }
    files.sort();
}

fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| {
        // What the library panics with is caught and told as an error; a fuzzer would end at the first.
        std::panic::set_hook(Box::new(|_| {}));
        let dir = folder();
        let _ = fs::remove_dir_all(&dir);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut builder = TextBuilder::create(&disk, &dir, 48 << 20).expect("a builder");
        for block in 0..40u32 {
            let text = format!("level=info user=alice{block} id=7f3a9c{block:08x} grüße took={block}ms");
            builder.add_texts(block, [text.as_str(), "payment timeout"]).expect("a text");
            builder.add(block, ["service.name=shop"]).expect("a term");
        }
        builder.finish().expect("an index");
        let mut files = Files::new();
        read(&dir, &mut files);
        files
    })
}

fuzz_target!(|bytes: &[u8]| {
    let all = files();
    for (path, content) in all {
        fs::write(path, content).expect("a file");
    }
    for (bytes, _) in bytes.as_chunks::<{ 1 + EDIT_BYTES }>().0.iter().zip(0..8) {
        let [which, edit @ ..] = *bytes;
        let (path, _) = &all[usize::from(which) % all.len()];
        let mut content = fs::read(path).expect("a file");
        trilith_fuzz::edit(&mut content, edit);
        fs::write(path, content).expect("a file");
    }
    let Ok(index) = TextIndex::open(&RealDisk, &folder()) else { return };
    for literal in ["alice", "=7f3a9c0000", "timeout", "absent", "üß"] {
        let _ = index.blocks_with_substring_words(literal);
    }
    let _ = index.blocks_with_term("service.name=shop");
});
