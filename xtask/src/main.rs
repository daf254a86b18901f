//! Chores of the repository; each is a subcommand in a file of its own.

fn main() {}
