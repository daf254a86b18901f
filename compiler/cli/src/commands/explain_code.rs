//! `nnbpfc --explain CODE`: what a diagnostic's code means.

use nnbpf_compiler::diag::codes;
use nnbpf_compiler::diag::codes::files::FLAG;
use nnbpf_compiler::diag::{Diagnostic, Origin};

use crate::Refusal;

pub fn run(wanted: &str) -> Result<(), Refusal> {
    let Some(code) = codes::find(&wanted.to_uppercase()) else {
        return Err(Diagnostic::new(
            &FLAG,
            Origin::Flag { flag: "--explain".to_owned() },
            format!("`{wanted}` is no code of a diagnostic"),
            "write the code as a diagnostic shows it, such as `E0201`; the error index of the book lists all",
        )
        .into());
    };
    println!("{}: {}\n\n{}", code.id, code.title, code.explanation);
    Ok(())
}
