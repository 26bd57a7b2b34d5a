//! felix-calc
