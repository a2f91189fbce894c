//! The one door in: every sample, line and span passes through it to the store.
