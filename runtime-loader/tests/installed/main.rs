//! Real objects on veth pairs: the `nnbpf` command, packets that are dropped or not, updates under traffic, and
//! the same by hand with bpftool.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::panic, reason = "a panic is how a test fails")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;
mod built;
mod net;
mod setup;
mod commands;
mod embedded;
mod enforce;
mod guard;
mod holds;
mod hosts;
mod rights;
mod update;
mod tables;
mod constants;
mod shadow;
mod sweep;
mod single;
mod by_hand;
mod tc_hooks;
mod tc_installed;
mod detectors;
mod environment;
mod replace;
mod rollback;
mod killed;
mod tc;
