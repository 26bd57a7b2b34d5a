//! Messages and services between components, generated from the `.proto` files beside this crate: one module for each
//! package. Byte fields are [`bytes::Bytes`].

/// `calico.typha.v1`: the stream of datastore updates from Typha to its clients.
pub mod typha {
    #![allow(clippy::all, missing_docs)] // generated
    #![allow(
        clippy::needless_pass_by_value,
        clippy::uninlined_format_args,
        clippy::match_wildcard_for_single_variants
    )]
    tonic::include_proto!("calico.typha.v1");
}
