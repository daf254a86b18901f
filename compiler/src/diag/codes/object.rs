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

/// The bytes of the object are not those that its content is written as.
pub static NOT_AS_WRITTEN: Code = Code {
    id: "E0710",
    title: "object that is not as it was written",
    explanation: "What the object holds was decoded and written again, and other bytes came out: something was added, \
                  moved, reordered or changed that belongs to no function, map, section or line of it. Such an object \
                  was changed after it was compiled, or linked or stripped by another tool. Compile the model again.",
};

/// The parameters are not those that the object was compiled with.
pub static OTHER_PARAMETERS: Code = Code {
    id: "E0711",
    title: "parameters that the object was not compiled with",
    explanation: "The numbers of the model in the object do not have the hash that its metadata states, or its two \
                  slots differ, or they hold words that belong to no parameter. The object was changed after it was \
                  compiled, or its metadata is that of another object.",
};

/// The certificate does not hold.
pub static CERTIFICATE_FALSE: Code = Code {
    id: "E0712",
    title: "certificate that does not hold",
    explanation: "The intervals of accumulators and values were derived again from the parameters in the object, and \
                  the intervals that the metadata states do not contain them, or are not those of this network: the \
                  certificate belongs to another object, or was changed.",
};

/// The code does not compute the network.
pub static NOT_THE_NETWORK: Code = Code {
    id: "E0713",
    title: "code that does not compute the network",
    explanation: "The instructions of the network were executed symbolically, and what they leave in an output, a \
                  value or a verdict is not what the network says, for at least one instruction. The code was changed \
                  after it was compiled. Compile the model again, and report it when a fresh object is refused.",
};

/// The packet path is not that of the specification.
pub static NOT_THE_PATH: Code = Code {
    id: "E0714",
    title: "packet path that is not the specification's",
    explanation: "The specification in the metadata was compiled again, and a function, map or section of the object \
                  differs from what came out. The object was changed after it was compiled, or its metadata is that of \
                  another object. Compile the model again.",
};

/// The packet path cannot be derived again.
pub static OTHER_COMPILER: Code = Code {
    id: "E0715",
    title: "object of another release",
    explanation: "The packet path is checked by compiling the specification in the metadata again, which only the \
                  release that compiled the object can do. Use that release's `nnbpfc` and `nnbpf`, or compile the \
                  model again with this one. `nnbpfc verify --network-only` checks what does not depend on the release: \
                  the network with its parameters and certificate, and every access to memory. The loader never loads \
                  an object that it cannot check.",
};

/// An access to memory that cannot be shown to stay within what it may touch.
pub static ACCESS: Code = Code {
    id: "E0716",
    title: "access beyond a value or a packet",
    explanation: "An instruction reads or writes memory that it may not: beyond the value of a map, beyond the bytes \
                  of a packet that a comparison has shown to be there, outside of the stack, or through what is no \
                  pointer. The code was changed after it was compiled.",
};

/// The object was compiled from another model or specification.
pub static OTHER_SOURCE: Code = Code {
    id: "E0717",
    title: "object of another model or specification",
    explanation: "`nnbpfc verify` was given the model or the specification, and the object was compiled from others: \
                  the hash of the model differs, the model compiles to other parameters in the object's plan, or the \
                  specification says something else than the one in the metadata. A model that was compiled with \
                  `--calibrate` needs the same rows.",
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
    &NOT_AS_WRITTEN,
    &OTHER_PARAMETERS,
    &CERTIFICATE_FALSE,
    &NOT_THE_NETWORK,
    &NOT_THE_PATH,
    &OTHER_COMPILER,
    &ACCESS,
    &OTHER_SOURCE,
    &PARAMS_FORMAT,
    &PARAMS_VERSION,
    &PARAMS_CHECKSUM,
];
