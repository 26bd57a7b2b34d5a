//! confd
