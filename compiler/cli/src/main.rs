//! The `nnbpfc` command: reads the arguments and hands over to one module per subcommand.

#[macro_use]
mod output;
mod args;
mod files;
mod inputs;
mod uses;
mod engines;
mod frames;
mod plot;
mod rank;
mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use nnbpf_compiler::diag::{Diagnostic, render};

use args::{Cli, Command};

/// What stopped a command: diagnostics, and the texts of the specifications they point into.
struct Refusal {
    diagnostics: Vec<Diagnostic>,
    sources: Vec<(String, String)>,
}

impl From<Vec<Diagnostic>> for Refusal {
    fn from(diagnostics: Vec<Diagnostic>) -> Self {
        Self { diagnostics, sources: Vec::new() }
    }
}

impl From<Diagnostic> for Refusal {
    fn from(diagnostic: Diagnostic) -> Self {
        vec![diagnostic].into()
    }
}

impl From<Box<Diagnostic>> for Refusal {
    fn from(diagnostic: Box<Diagnostic>) -> Self {
        vec![*diagnostic].into()
    }
}

impl Refusal {
    /// Adds the text of a specification, which rendering quotes.
    fn with_source(mut self, file: &str, text: &[u8]) -> Self {
        // Positions count from behind a byte order mark.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        self.sources.push((file.to_owned(), String::from_utf8_lossy(text).into_owned()));
        self
    }

    /// Prints every diagnostic with what it quotes.
    fn print(&self) {
        let sources: Vec<(&str, &str)> =
            self.sources.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        for diagnostic in &self.diagnostics {
            eprint!("{}", render::plain(diagnostic, &sources));
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        None => match &cli.compile.explain {
            Some(code) => commands::explain_code::run(code),
            None => commands::compile::run(&cli.compile),
        },
        Some(Command::Eval(args)) => commands::eval::run(&args),
        Some(Command::Replay(args)) => commands::replay::run(&args),
        Some(Command::Extract(args)) => commands::extract::run(&args),
        Some(Command::Bench(args)) => commands::bench::run(&args),
        Some(Command::Explore(args)) => commands::explore::run(&args),
        Some(Command::Flips(args)) => commands::flips::run(&args),
        Some(Command::Inspect(args)) => commands::inspect::run(&args),
        Some(Command::Verify(args)) => commands::verify::run(&args),
        Some(Command::Explain(args)) => commands::explain::run(&args),
        Some(Command::Rank(args)) => commands::rank::run(&args),
        Some(Command::Check(args)) => commands::check::run(&args),
        Some(Command::Fmt(args)) => commands::fmt::run(&args),
    };
    let result = result.and_then(|()| output::lost().map_or(Ok(()), |diagnostic| Err(diagnostic.into())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            refusal.print();
            ExitCode::FAILURE
        }
    }
}
