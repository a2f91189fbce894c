//! Bytes to wire types and back, one file per format. No I/O.
