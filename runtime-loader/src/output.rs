//! `println!` and its relatives for whoever stops reading, as `head` does: what cannot be written is left out, where
//! the standard macros would panic.

macro_rules! println {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _nobody_reads = writeln!(std::io::stdout(), $($argument)*);
    }};
}

macro_rules! print {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _nobody_reads = write!(std::io::stdout(), $($argument)*);
    }};
}

macro_rules! eprintln {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _nobody_reads = writeln!(std::io::stderr(), $($argument)*);
    }};
}

macro_rules! eprint {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        let _nobody_reads = write!(std::io::stderr(), $($argument)*);
    }};
}
