//! `println!` and `print!` for whoever stops reading, as `head` does: what cannot be written is left out, where
//! the standard macros would panic. A full disk is remembered, so that the command fails in the end.

pub(crate) use nnbpf_runtime_loader::lost::{lost, written};

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
