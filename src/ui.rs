//! The web page, embedded from `web/dist`.
