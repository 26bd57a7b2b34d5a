//! One file per verb. Each takes its parsed flags, opens the datastore, does its work and prints.

pub mod apply;
pub mod cluster_diags;
pub mod convert;
pub mod create;
pub mod datastore_migrate;
pub mod delete;
pub mod diags;
pub mod get;
pub mod ipam_check;
pub mod ipam_configure;
pub mod ipam_release;
pub mod ipam_show;
pub mod ipam_split;
pub mod label;
pub mod manual;
pub mod node_checksystem;
pub mod node_diags;
pub mod node_status;
pub mod outcome;
pub mod patch;
pub mod policy_diff;
pub mod policy_explain;
pub mod replace;
pub mod validate;
pub mod version;
