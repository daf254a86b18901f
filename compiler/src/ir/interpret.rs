//! The reference interpreter of the integer network.
