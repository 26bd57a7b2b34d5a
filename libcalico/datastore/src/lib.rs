//! libcalico-datastore
