//! Codes of the kernel and the loader: `E08xx`.

use super::Code;

/// BPF is not permitted.
pub static NO_PERMISSION: Code = Code {
    id: "E0801",
    title: "no permission for BPF",
    explanation: "Loading programs and maps needs CAP_BPF and CAP_PERFMON, attaching them CAP_NET_ADMIN; \
        root has all of them. Containers and security modules often take them away even from root. Nothing \
        was changed in the kernel.",
};

/// The kernel lacks a feature.
pub static MISSING_FEATURE: Code = Code {
    id: "E0802",
    title: "kernel without a needed feature",
    explanation: "The object uses something that the running kernel does not have. Objects record the \
        oldest kernel they are made for; compile with `--kernel VERSION` for the kernel that runs here.",
};

/// The verifier refused a program.
pub static VERIFIER: Code = Code {
    id: "E0803",
    title: "the verifier refused a program",
    explanation: "The kernel checks every program before it runs it, and refused this one. For an object \
        of `nnbpfc` this is a mistake of the compiler or of the kernel, never of the model: the compiler \
        proves what the verifier asks for. The notes show the verifier's reason and the line of the \
        specification or the layer that the instruction came from.",
};

/// A map could not be created.
pub static MAP_CREATE: Code = Code {
    id: "E0804",
    title: "the kernel refused a map",
    explanation: "A map of the object could not be created: there is too little memory, a limit on locked \
        memory is in force, or the kernel does not know the kind of map. The flow table is the largest map; \
        `capacity` in the specification sets its size.",
};

/// A loader cannot make sense of the object.
pub static NOT_LOADABLE: Code = Code {
    id: "E0805",
    title: "object cannot be loaded",
    explanation: "The object is well formed, but something in it is unknown to the loader. It was written \
        by another compiler or another release. Compile the model again.",
};

/// A program or map that the object does not hold.
pub static NO_SUCH_PART: Code = Code {
    id: "E0806",
    title: "no such program or map",
    explanation: "The object holds no program or map of this name. `nnbpfc inspect OBJ` lists what it \
        holds.",
};

/// A test run failed.
pub static TEST_RUN: Code = Code {
    id: "E0807",
    title: "test run failed",
    explanation: "The kernel can run a program on a packet from memory. It refused the packet, whose size \
        must lie between 14 and 3,520 bytes, or the kernel is too old.",
};

/// An access to a map failed.
pub static MAP_ACCESS: Code = Code {
    id: "E0808",
    title: "access to a map failed",
    explanation: "A key or value has the wrong size for the map, the map is full, or the kernel refused \
        the access.",
};

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &NO_PERMISSION,
    &MISSING_FEATURE,
    &VERIFIER,
    &MAP_CREATE,
    &NOT_LOADABLE,
    &NO_SUCH_PART,
    &TEST_RUN,
    &MAP_ACCESS,
];
