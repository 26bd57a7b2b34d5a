//! libcalico-ipam
