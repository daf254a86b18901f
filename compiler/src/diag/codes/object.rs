//! Codes of objects and parameter files: `E07xx`.

use super::Code;

/// The file is no ELF object for the BPF machine.
pub static NOT_AN_OBJECT: Code = Code {
    id: "E0701",
    title: "not an object for the BPF machine",
    explanation: "Commands that read an object expect the file that `nnbpfc MODEL SPEC -o OBJ` wrote: a \
        little-endian 64-bit ELF file for the BPF machine. The file named here is something else, or it was \
        cut. Check the path; compile the model again when the file was damaged.",
};

/// The parts of an object contradict each other.
pub static MALFORMED: Code = Code {
    id: "E0702",
    title: "malformed object",
    explanation: "The file is an ELF object for the BPF machine, but its sections, symbols or types \
        contradict each other or point outside of the file. It was changed after it was compiled, or \
        another tool wrote it. Compile the model again.",
};

/// The object has no metadata section.
pub static NO_METADATA: Code = Code {
    id: "E0703",
    title: "object without metadata",
    explanation: "Objects of `nnbpfc` describe themselves in the section `.nnbpf`. This object lacks it: it \
        was written by another compiler, or a tool such as `strip` removed the section. The programs in it \
        may still load with other loaders, but updates and checks need the description.",
};

/// The metadata section is damaged.
pub static DAMAGED_METADATA: Code = Code {
    id: "E0704",
    title: "damaged metadata",
    explanation: "The section `.nnbpf` starts with a magic number and carries the length and the SHA-256 of \
        what follows. One of them does not match, so nothing in the section can be trusted. Compile the \
        model again.",
};

/// The metadata has a version that this release does not read.
pub static UNKNOWN_METADATA_VERSION: Code = Code {
    id: "E0705",
    title: "unknown metadata version",
    explanation: "The object was compiled by another release, whose metadata this one does not read. Use \
        the tools of the release that compiled the object, or compile the model again with this one.",
};

/// The file is no parameter file, or was cut.
pub static PARAMS_FORMAT: Code = Code {
    id: "E0721",
    title: "not a parameter file",
    explanation: "The file is not one that `nnbpfc MODEL SPEC --like OBJ -o NEW.params` wrote, or it was cut \
                  off on its way. Nothing in the kernel was touched.",
};

/// The metadata's content does not read.
pub static METADATA_CONTENT: Code = Code {
    id: "E0706",
    title: "metadata of another format",
    explanation: "The object's description is intact but is not in the format that this release reads. Use the \
                  loader and compiler of the release that wrote the object, or compile the model again.",
};

/// The object's plan is not the one that was compiled.
pub static OTHER_PLAN: Code = Code {
    id: "E0707",
    title: "object with another plan",
    explanation: "Parameters fit an object only when model shape, specification and the plan's widths are the \
                  same. `--like` takes the widths from the object, and the values of `--param` that are not given \
                  again; the features, their order, the rules and the layers must be those that the object was \
                  compiled from. Only the probabilities of rules may differ.",
};

/// The object's parameters are constants.
pub static CONSTANT_WEIGHTS: Code = Code {
    id: "E0708",
    title: "object with constant weights",
    explanation: "The object was compiled with `--weights const`: the numbers of its model are part of the code, \
                  so there is no slot that new parameters could go to. Compile the retrained model to a new \
                  object and load that one. An object that was compiled without the flag takes updates while \
                  packets flow.",
};

/// The object is not what its metadata says.
pub static METADATA_FALSE: Code = Code {
    id: "E0709",
    title: "metadata that does not hold",
    explanation: "The description of the object is intact, but the object is not what it says: a program, map or \
                  section is missing or has another size, or the description contradicts itself. Such an object \
                  was changed after it was compiled. Nothing in the kernel was touched.",
};

/// The parameter file comes from another release.
pub static PARAMS_VERSION: Code = Code {
    id: "E0722",
    title: "parameter file of another version",
    explanation: "The parameter file was written by another release, whose format this one does not read. \
                  Compile the model again with the same release as the loader's.",
};

/// The parameter file's checksum does not match.
pub static PARAMS_CHECKSUM: Code = Code {
    id: "E0723",
    title: "parameter file is damaged",
    explanation: "The checksum at the end of the file does not match what stands before it. Copy the file \
                  again or write it anew. Nothing in the kernel was touched.",
};

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &NOT_AN_OBJECT,
    &MALFORMED,
    &NO_METADATA,
    &DAMAGED_METADATA,
    &UNKNOWN_METADATA_VERSION,
    &METADATA_CONTENT,
    &OTHER_PLAN,
    &CONSTANT_WEIGHTS,
    &METADATA_FALSE,
    &PARAMS_FORMAT,
    &PARAMS_VERSION,
    &PARAMS_CHECKSUM,
];
