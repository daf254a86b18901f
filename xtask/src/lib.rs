//! The chores of the repository, and what they share with its tests of itself: the list of files, and the pages written from sources.

pub mod tree;
pub mod source;
pub mod errors;
pub mod modules;
pub mod prices;
pub mod send;
pub mod stress;
pub mod mutate;
pub mod verdicts;
pub mod vm_cases;
mod packet_socket;
