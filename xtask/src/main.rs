//! Chores of the repository: `cargo xtask <chore>`. Each chore is a module of the library.

use std::process::ExitCode;

use xtask::{errors, modules, tree};

const USAGE: &str = "\
usage: cargo xtask CHORE

  errors    writes book/src/errors.md from the code table
  modules   writes the list of modules in docs/architecture.md";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, page) = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["errors"] => (errors::PAGE, Ok(errors::page())),
        ["modules"] => (modules::PAGE, modules::page()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match page.and_then(|page| std::fs::write(tree::root().join(path), page)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::FAILURE
        }
    }
}
