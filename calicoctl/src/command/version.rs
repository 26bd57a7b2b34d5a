//! `version`: this command's version and the cluster's.

use libcalico_api::CALICO_VERSION;
use libcalico_api::duration::GoDuration;

use crate::cli::{Global, VersionArgs};
use crate::{Error, Result, client};

/// The commit that was built, where the build said so.
const COMMIT: &str = match option_env!("CALICO_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Runs the command.
pub async fn run(args: &VersionArgs, global: &Global) -> Result<()> {
    let interval = match &args.poll {
        None => None,
        Some(text) => {
            let interval: GoDuration = text.parse().map_err(|e| Error::Usage(format!("--poll: {e}")))?;
            interval.to_std().filter(|d| !d.is_zero())
        }
    };
    println!("Client Version:    {CALICO_VERSION}");
    println!("Git commit:        {COMMIT}");
    if args.client {
        return Ok(());
    }
    let store = client::open_unchecked(&args.config, global).await?;
    loop {
        let info = client::cluster_information(store.as_ref())
            .await
            .map_err(|e| Error::Action(format!("Unable to retrieve Cluster Version or Type: {e}")))?;
        let Some(info) = info else {
            return Err(Error::Action(
                "Unable to retrieve Cluster Version or Type: resource does not exist: ClusterInformation(default) with error: <nil>"
                    .to_owned(),
            ));
        };
        println!("Cluster Version:   {}", info.spec.calico_version.unwrap_or_default());
        println!("Cluster Type:      {}", info.spec.cluster_type.unwrap_or_default());
        match interval {
            Some(interval) => tokio::time::sleep(interval).await,
            None => return Ok(()),
        }
    }
}
