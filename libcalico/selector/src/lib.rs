//! libcalico-selector
