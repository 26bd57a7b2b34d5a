//! libcalico-telemetry
