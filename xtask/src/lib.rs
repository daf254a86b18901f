//! What the repository's chores and its tests of itself share: the list of files, and the error index.

pub mod tree;
pub mod source;
pub mod errors;
