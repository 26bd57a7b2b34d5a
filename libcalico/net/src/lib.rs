//! Addresses, prefixes and interface names: what every component needs and no crate gives as Calico wants it.
//!
//! Pure values in and out; no sockets, no kernel, no datastore. What is left out: address allocation
//! (`libcalico-ipam`) and everything that talks to an interface.

pub mod cidr;
pub mod interface_name;
pub mod lpm;

pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
