//! Chores of the repository: `cargo xtask <chore>`. Each chore is a module of the library.

use std::process::ExitCode;

use xtask::{errors, tree};

const USAGE: &str = "usage: cargo xtask errors    writes book/src/errors.md from the code table";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["errors"] {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match std::fs::write(tree::root().join(errors::PAGE), errors::page()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", errors::PAGE);
            ExitCode::FAILURE
        }
    }
}
