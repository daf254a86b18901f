//! What the repository's chores and its tests of itself share: the list of files, and the pages written from sources.

pub mod tree;
pub mod source;
pub mod errors;
pub mod modules;
