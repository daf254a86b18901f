//! What commands print and nobody gets: a reader that is gone is no mistake, a full disk is remembered, so that the
//! command fails in the end. `nnbpf` and `nnbpfc` print through it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nnbpf_compiler::diag::codes::files::UNWRITABLE;
use nnbpf_compiler::diag::{Diagnostic, Origin};

static LOST: AtomicBool = AtomicBool::new(false);

/// Remembers an output that was lost though somebody reads.
pub fn written(result: &io::Result<()>) {
    if result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe) {
        LOST.store(true, Ordering::Relaxed);
    }
}

/// What the user is told when something was.
#[must_use]
pub fn lost() -> Option<Diagnostic> {
    LOST.load(Ordering::Relaxed).then(|| {
        Diagnostic::new(
            &UNWRITABLE,
            Origin::File { file: "standard output".to_owned() },
            "the output cannot be written",
            "check that there is room; everything else was done",
        )
    })
}
