//! Flags of `datastore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigArgs;

/// `datastore`
#[derive(Debug, Args)]
pub struct DatastoreArgs {
    #[command(subcommand)]
    pub command: DatastoreCommand,
}

/// What to do with the datastore as a whole.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// Move everything from one datastore to another
    Migrate(MigrateArgs),
    /// Store policies of the default tier under their own names, without the `default.` that versions before 3.32 wrote
    #[command(after_help = "Examples:
  calicoctl datastore migrate-policy-names

On etcd alone. May be run again: what is right stays.")]
    MigratePolicyNames(ConfigArgs),
}

/// `datastore migrate`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(subcommand)]
    pub command: MigrateCommand,
}

/// Steps of a migration.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Print all resources and IPAM's records; the datastore must be locked
    #[command(after_help = "Examples:
  calicoctl datastore migrate lock
  calicoctl datastore migrate export > etcd-data

WorkloadEndpoints and Profiles are left out: what runs the workloads makes them again.")]
    Export(ConfigArgs),
    /// Write what `export` printed into an empty datastore, and leave it locked
    #[command(after_help = "Examples:
  calicoctl datastore migrate import -f etcd-data
  calicoctl datastore migrate unlock")]
    Import(MigrateImportArgs),
    /// Lock the datastore: what is changed takes no effect until it is unlocked
    #[command(after_help = "Examples:
  calicoctl datastore migrate lock")]
    Lock(ConfigArgs),
    /// Unlock the datastore
    #[command(after_help = "Examples:
  calicoctl datastore migrate unlock")]
    Unlock(ConfigArgs),
}

/// `datastore migrate import`
#[derive(Clone, Debug, Args)]
pub struct MigrateImportArgs {
    /// What `export` printed; `-` is standard input
    #[arg(short, long, value_name = "FILE")]
    pub filename: PathBuf,
    #[command(flatten)]
    pub config: ConfigArgs,
}
