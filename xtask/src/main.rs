//! Chores of the repository: `cargo xtask <chore>`. Each chore is a module of the library.

use std::process::ExitCode;

use clap::Parser;
use xtask::{errors, modules, mutate, prices, send, stress, tree, verdicts, vm_cases};

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "xtask", max_term_width = 100)]
enum Chore {
    /// Write the error index of the book from the code table.
    Errors,
    /// Write the list of modules in docs/architecture.md.
    Modules,
    Prices(prices::Prices),
    Send(send::Send),
    StressUpdate(stress::Stress),
    Mutate(mutate::Mutate),
    Verdicts(verdicts::Verdicts),
    VmCases(vm_cases::VmCases),
}

fn main() -> ExitCode {
    let result = match Chore::parse() {
        Chore::Errors => write(errors::PAGE, Ok(errors::page())),
        Chore::Modules => write(modules::PAGE, modules::page()),
        Chore::Prices(chore) => chore.run(),
        Chore::Send(chore) => chore.run(),
        Chore::StressUpdate(chore) => chore.run(),
        Chore::Mutate(chore) => chore.run(),
        Chore::Verdicts(chore) => chore.run(),
        Chore::VmCases(chore) => chore.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a page that is made from sources.
fn write(path: &str, page: std::io::Result<String>) -> Result<(), String> {
    page.and_then(|page| std::fs::write(tree::root().join(path), page))
        .map_err(|error| format!("{path}: {error}"))
}
