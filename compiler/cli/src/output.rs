//! `println!` and `print!` for whoever stops reading, as `head` does: what cannot be written is left out, where
//! the standard macros would panic. A full disk is remembered, so that the command fails in the end.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nnbpf_compiler::diag::codes::files::UNWRITABLE;
use nnbpf_compiler::diag::{Diagnostic, Origin};

static LOST: AtomicBool = AtomicBool::new(false);

/// Remembers an output that was lost though somebody reads.
pub(crate) fn written(result: &io::Result<()>) {
    if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// What the user is told when something was.
pub(crate) fn lost() -> Option<Diagnostic> {
    LOST.load(Ordering::Relaxed).then(|| {
        Diagnostic::new(
            &UNWRITABLE,
            Origin::File { file: "standard output".to_owned() },
            "the output cannot be written",
            "check that there is room; everything else was done",
        )
    })
}

macro_rules! println {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        $crate::output::written(&writeln!(std::io::stdout(), $($argument)*));
    }};
}

macro_rules! print {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        $crate::output::written(&write!(std::io::stdout(), $($argument)*));
    }};
}
