//! Deep trees on deep stacks: a query with many operators nests as deep as it is long, and the
//! threads of the runtime have stacks for short ones.

use std::thread;

/// Depth that any thread's stack can hold.
const DEPTH_PLAIN: usize = 40;
/// Address space for deeper trees; only what is touched takes memory.
const STACK_BYTES: usize = 256 << 20;

/// Runs `work`, whose recursion goes about `depth` levels down, where there is stack for it.
pub(super) fn with_depth<T: Send>(depth: usize, work: impl FnOnce() -> T + Send) -> T {
    if depth <= DEPTH_PLAIN {
        return work();
    }
    thread::scope(|scope| {
        // An Err from spawn means that the system has no thread left for us, which it says by
        // failing here rather than by overflowing a stack later.
        let handle = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        match handle.map(thread::ScopedJoinHandle::join) {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => std::panic::panic_any(format!("start a thread for a deep query: {error}")),
        }
    })
}
