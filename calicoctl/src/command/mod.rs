//! One file per verb. Each takes its parsed flags, opens the datastore, does its work and prints.

pub mod apply;
pub mod create;
pub mod datastore_migrate;
pub mod delete;
pub mod get;
pub mod ipam_check;
pub mod ipam_configure;
pub mod ipam_release;
pub mod ipam_show;
pub mod ipam_split;
pub mod label;
pub mod node_status;
pub mod outcome;
pub mod patch;
pub mod replace;
pub mod validate;
pub mod version;
