//! The `nnbpf` command: reads the arguments and hands over to one module per subcommand.

#[macro_use]
mod output;
mod commands;

use std::process::ExitCode;

use clap::Parser;
use nnbpf_compiler::diag::render;

/// Exit status for input that was refused; wrong usage is 2, by clap.
const REFUSED: u8 = 1;

fn main() -> ExitCode {
    let arguments = commands::Arguments::parse();
    let result = arguments.command.run();
    match result.and_then(|()| output::lost().map_or(Ok(()), |diagnostic| Err(vec![diagnostic]))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                eprint!("{}", render::plain(diagnostic, &[]));
            }
            ExitCode::from(REFUSED)
        }
    }
}
