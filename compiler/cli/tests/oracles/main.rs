//! The oracles: interpreter, virtual machine and kernel on the committed models and on captures.
//!
//! No process is started for a row or a packet; the commands have tests of their own in `command_line`. What
//! a machine lacks (BPF, the shared captures, bpftool) prints a line that starts with `SKIP`, unless
//! `NNBPF_REQUIRE_KERNEL=1` demands the kernel.

#![cfg(test)]

mod common;
mod engines;
mod ring;
mod rows;
mod captures;
mod mutations;
mod tc;
mod eviction;
mod shadow;
mod two_cpus;
mod triggers;
mod clock;
mod sweep;
mod verifier;
mod memory;
mod builds;
mod tools;
mod objects;
mod notation;
mod llvm;
mod xlated;
mod xlated_rows;
