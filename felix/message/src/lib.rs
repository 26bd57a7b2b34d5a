//! felix-message
