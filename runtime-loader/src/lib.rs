//! Loads, watches and hot-updates the objects that `nnbpfc` writes.
