//! Deep trees on deep stacks: a query with many operators nests as deep as it is long, and the
//! threads of the runtime have stacks for short ones.

use std::io;
use std::thread;

/// Depth that any thread's stack can hold: half of what the smallest has takes it (`stack_tests`).
const DEPTH_PLAIN: usize = 40;
/// Address space for deeper trees; only what is touched takes memory.
const STACK_BYTES: usize = 256 << 20;

/// Runs `work`, whose recursion goes about `depth` levels down, where there is stack for it.
///
/// # Errors
/// When the system has no thread left for it.
pub(super) fn with_depth<T: Send>(depth: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if depth <= DEPTH_PLAIN {
        return Ok(work());
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, work)?.join() {
            Ok(answer) => Ok(answer),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
