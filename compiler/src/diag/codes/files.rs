//! Codes of files and the command line: `E09xx`.

use super::Code;

/// An input could not be read.
pub static UNREADABLE: Code = Code {
    id: "E0901",
    title: "an input cannot be read",
    explanation: "The file named on the command line does not exist, is a directory, or may not be read.",
};

/// An output could not be written.
pub static UNWRITABLE: Code = Code {
    id: "E0902",
    title: "an output cannot be written",
    explanation: "The directory of the output is missing or read-only, or the disk is full. \
                  Outputs are written to a temporary file and renamed, so nothing half-written is left behind.",
};

/// A flag has a value that is not understood.
pub static FLAG: Code = Code {
    id: "E0903",
    title: "a flag has a value that does not fit",
    explanation: "The value of a command-line flag is malformed or does not go with the other arguments.",
};

/// `nnbpfc fmt --check` found something to do.
pub static UNFORMATTED: Code = Code {
    id: "E0904",
    title: "a specification is not in the one layout",
    explanation: "`nnbpfc fmt --check` changes nothing and names the specifications that `nnbpfc fmt` would change.",
};

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[&UNREADABLE, &UNWRITABLE, &FLAG, &UNFORMATTED];
