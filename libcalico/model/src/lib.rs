//! libcalico-model
