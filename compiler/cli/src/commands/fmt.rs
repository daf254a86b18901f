//! `nnbpfc fmt SPEC…`: specifications in the one layout.

use std::io::{Read as _, Write as _};
use std::path::Path;

use nnbpf_compiler::diag::codes::files::{UNFORMATTED, UNREADABLE};
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::spec;

use crate::args::FmtArgs;
use crate::inputs::Loaded;
use crate::{Refusal, files};

/// The name of standard input in diagnostics.
const STANDARD_INPUT: &str = "standard input";

pub fn run(args: &FmtArgs) -> Result<(), Refusal> {
    let mut refused = Refusal::from(Vec::new());
    for path in &args.specs {
        if let Err(one) = format(path, args.check) {
            refused.diagnostics.extend(one.diagnostics);
            refused.sources.extend(one.sources);
        }
    }
    if refused.diagnostics.is_empty() { Ok(()) } else { Err(refused) }
}

fn format(path: &Path, check: bool) -> Result<(), Refusal> {
    let standard = path == Path::new("-");
    let source = if standard { standard_input()? } else { Loaded::read(path)? };
    let text = spec::text(source.named())?;
    let formatted = spec::format::format(&source.name, text)
        .map_err(|diagnostics| Refusal::from(diagnostics).with_source(&source.name, &source.bytes))?;
    if check {
        return if formatted == text { Ok(()) } else { Err(unformatted(&source.name).into()) };
    }
    if standard {
        std::io::stdout().write_all(formatted.as_bytes()).map_err(|error| unreadable(&error))?;
    } else if formatted != text {
        files::write(path, formatted.as_bytes())?;
    }
    Ok(())
}

fn standard_input() -> Result<Loaded, Refusal> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    Ok(Loaded { name: STANDARD_INPUT.to_owned(), bytes })
}

fn unreadable(error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(
        &UNREADABLE,
        Origin::File { file: STANDARD_INPUT.to_owned() },
        format!("standard input and output cannot be used: {error}"),
        "name a file instead of `-`",
    )
}

fn unformatted(name: &str) -> Diagnostic {
    Diagnostic::new(
        &UNFORMATTED,
        Origin::File { file: name.to_owned() },
        "the specification is not in the one layout",
        format!("run `nnbpfc fmt {name}`"),
    )
}
