//! libcalico-net
