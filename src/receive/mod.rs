//! How telemetry arrives, one file per protocol; `RECEIVERS` lists them.
