//! Channels that alerts go out by. Empty until alerting is built.
