//! Wiring: configuration, router, background tasks, shutdown.
