//! The `nnbpf` command: reads the arguments and hands over to one module per subcommand.

#[macro_use]
mod output;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use nnbpf_compiler::diag::render;
use nnbpf_runtime_loader::capabilities;

/// Exit status for input that was refused; wrong usage is 2, by clap.
const REFUSED: u8 = 1;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    // Filters of clsact are found by number, which takes CAP_SYS_ADMIN; what runs for long needs no such thing.
    if matches!(arguments.command, commands::Command::Events(_)) {
        capabilities::keep_needed();
    }
    match arguments.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprint!("{}", render::plain(diagnostic, &[]));
            }
            ExitCode::from(REFUSED)
        }
    }
}
