//! The only place that talks to the kernel: netlink (nf_tables, IP sets, rtnetlink), `/proc/sys`, and
//! programs that do it for us (`iptables-restore`).
//!
//! Always holds: a call here does what it says or returns an error that names what it was about; no policy, no
//! decision. Left out: what is to be programmed ([`crate::driver`]).

pub mod attr;
pub mod command;
pub mod conntrack;
pub mod ipset;
pub mod memory;
pub mod netlink;
pub mod nft;
pub mod route;
pub mod sysctl;
