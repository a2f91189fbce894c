//! What the caller of a failed operation can do about it, told apart from what happened.

/// What a caller can do about an error. Each API dialect maps a class to its own status and body
/// in its `error.rs`; nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The request is wrong and will stay wrong: do not retry (400).
    BadData,
    /// The body or the question is larger than a limit allows: do not retry as it is (413 or 422).
    TooLarge,
    /// The request is well-formed but cannot be executed (422).
    Execution,
    /// Nothing by that name (404).
    NotFound,
    /// The deadline passed (503 or 504).
    Timeout,
    /// The client went away, or the query was cancelled (499).
    Canceled,
    /// Too much at once: retry after a pause (429 with Retry-After).
    Throttled,
    /// The server cannot take this now, but will: retry after a pause (503 with Retry-After).
    Unavailable,
    /// A defect of ours or of the machine (500).
    Internal,
}

/// Longest message that clients get, in bytes, give or take a character and the note in its middle.
const MESSAGE_BYTES_MAX: usize = 4_096;

/// A message without its middle when it is long, as when it repeats a query of a megabyte.
pub fn brief(message: String) -> String {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let half = MESSAGE_BYTES_MAX / 2;
    let head = (0..=half).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
    let tail = (message.len() - half..message.len()).find(|at| message.is_char_boundary(*at)).unwrap_or(message.len());
    let (begin, end) = (message.get(..head).unwrap_or_default(), message.get(tail..).unwrap_or_default());
    format!("{begin} … {} bytes left out … {end}", tail - head)
}

/// Gives the class of an error. Implementations have no `_` arm: a new variant must decide.
pub trait Classify {
    /// What the caller can do about it.
    fn class(&self) -> ErrorClass;
}

/// An error and what caused it on one line, each cause said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_keep_their_ends() {
        assert_eq!(brief("short".to_owned()), "short");
        let long = brief(format!("first {} last", "ä".repeat(1 << 20)));
        assert!(long.starts_with("first ") && long.ends_with(" last"), "{long}");
        assert!(long.len() < MESSAGE_BYTES_MAX + 100, "{}", long.len());
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Error(&'static str, #[source] Option<Box<Error>>);

    #[test]
    fn a_chain_says_each_cause_once() {
        let disk = Error("disk full", None);
        let write = Error("write: disk full", Some(Box::new(disk)));
        assert_eq!(chain(&Error("flush", Some(Box::new(write)))), "flush: write: disk full");
    }
}
