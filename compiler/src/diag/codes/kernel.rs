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

/// The interface does not exist.
pub static NO_INTERFACE: Code = Code {
    id: "E0809",
    title: "no such interface",
    explanation: "The network namespace that the command runs in has no interface of this name. `ip link` \
        lists the interfaces; one in another namespace is reached with `nsenter --net=/run/netns/NAME`.",
};

/// The program cannot be attached.
pub static ATTACH: Code = Code {
    id: "E0810",
    title: "cannot attach to the interface",
    explanation: "The object was loaded, but the kernel did not attach it: another XDP program is there \
        already, the driver has no native XDP, or the interface's MTU is too large for it. Nothing stays \
        behind.",
};

/// bpffs is not mounted.
pub static NO_BPFFS: Code = Code {
    id: "E0811",
    title: "no bpffs",
    explanation: "Programs, maps and the attachment are pinned in bpffs so that they survive the command \
        that loaded them. The directory is not in a mounted bpffs. `mount -t bpf bpf /sys/fs/bpf` mounts it. \
        `ip netns exec` mounts a fresh /sys that hides it; `nsenter --net=` does not.",
};

/// Something is installed there already.
pub static ALREADY_INSTALLED: Code = Code {
    id: "E0812",
    title: "already installed",
    explanation: "An installation of this name exists, and it is not what the command asked for; loading the same \
        object in the same way again is no error. `nnbpf update` replaces parameters or object while packets flow, \
        `nnbpf attach` adds interfaces, `nnbpf unload` removes it, and `--name` loads a second one beside it.",
};

/// Nothing is installed there.
pub static NOT_INSTALLED: Code = Code {
    id: "E0813",
    title: "nothing installed",
    explanation: "The command works on an installation that `nnbpf load` made, and found none. Name the \
        interface with `--iface`, or the directory with `--pin` when the object was loaded with one.",
};

/// A pin cannot be made or removed.
pub static PIN: Code = Code {
    id: "E0814",
    title: "cannot pin",
    explanation: "The directory for the pins cannot be read or written. bpffs belongs to root, and refuses \
        names that contain a dot.",
};

/// A host is no address.
pub static HOST: Code = Code {
    id: "E0815",
    title: "not a host",
    explanation: "Hosts are IPv4 or IPv6 addresses; allowed hosts may be prefixes such as 10.0.0.0/8. Names \
        are not looked up.",
};

/// Several installations, none named.
pub static AMBIGUOUS: Code = Code {
    id: "E0816",
    title: "several installations",
    explanation: "More than one object is installed, so the command needs to know which one is meant. Name \
        an interface with `--iface IF`, or the installation with `--name NAME`.",
};

/// Parameters that do not fit the installed object.
pub static PARAMS_MISFIT: Code = Code {
    id: "E0817",
    title: "parameters do not fit the installed object",
    explanation: "Parameters of a retrained model fit an object only when the model has the same plan: the \
        same layers, widths and lanes. The layout hash in the file and the one in the object's metadata say \
        so. Compile the parameters with `nnbpfc MODEL SPEC --like OBJ -o NEW.params` for the object that is \
        installed. The parameters that were active still are.",
};

/// Parameters that the proof refuses.
pub static PARAMS_UNPROVED: Code = Code {
    id: "E0818",
    title: "parameters that could overflow",
    explanation: "Before new parameters reach the kernel, the intervals of every accumulator are proved again \
        from the file and the plan in the object's metadata. These parameters could overflow, or the file \
        holds something that the compiler never writes, so it was changed after it was compiled. Nothing in \
        the kernel was touched; the parameters that were active still are.",
};

/// Two readers of events.
pub static EVENTS_IN_USE: Code = Code {
    id: "E0819",
    title: "events have a reader already",
    explanation: "The ring buffer hands out every event once, so two readers would each see a part of them. \
        End the other `nnbpf events` first.",
};

/// An installation that was not finished.
pub static INCOMPLETE: Code = Code {
    id: "E0820",
    title: "incomplete installation",
    explanation: "The directory for the pins exists, but parts of the installation are missing: `nnbpf load` was \
        killed before it had finished, or somebody removed pins. The next `nnbpf load` or `nnbpf unload` removes \
        what is left.",
};

/// A rollback to what is not kept.
pub static NO_GENERATION: Code = Code {
    id: "E0821",
    title: "no such generation",
    explanation: "`nnbpf rollback` goes back to one of the last 8 generations of an installation, and this is none \
        of them. `nnbpf status` lists them. Nothing was changed.",
};

/// A program update to another hook.
pub static OTHER_HOOK: Code = Code {
    id: "E0822",
    title: "object for another hook",
    explanation: "A program update puts the new object's programs where the old ones are, so both must be for the \
        same hook: `attach` in the specification names it. Unload the old object and load the new one.",
};

/// A shadow that the object has no code for.
pub static SHADOW_UNSUPPORTED: Code = Code {
    id: "E0831",
    title: "object without a shadow",
    explanation: "A shadow runs by code that is part of the object. It is missing where the object was compiled \
        by an older release, and in chains of tail calls that could not run twice for every verdict of a packet: \
        the kernel follows 33 tail calls per packet, and allows less than 256 bytes of stack in front of one, \
        which a long specification can need by itself.",
};

/// An update that would overwrite a shadow.
pub static SHADOW_RUNS: Code = Code {
    id: "E0832",
    title: "a shadow is in the way of an update",
    explanation: "An object has two slots for parameters. While a shadow runs, one is active and the other the \
        shadow's, so an update has none to write to. Promote the shadow, end it, or say that the update may \
        replace it.",
};

/// What needs a shadow, without one.
pub static NO_SHADOW: Code = Code {
    id: "E0833",
    title: "no shadow",
    explanation: "There is nothing to show, to end or to promote: no model runs in the shadow of the active one. \
        An update, a rollback and a promotion end a shadow too.",
};

/// A sweep that the object has no program for.
pub static NO_SWEEP: Code = Code {
    id: "E0834",
    title: "object without a sweep",
    explanation: "Flows that send no further packet are judged by the program `nn_sweep`, which is part of an \
        object where the specification asks for it: `idle 60 s sweep;` in the flow block. Without it a flow gets \
        its idle verdict at its next packet.",
};

/// A setting that cannot be made sense of.
pub static SETTING: Code = Code {
    id: "E0840",
    title: "not a setting",
    explanation: "A setting of the event filter is unknown, has a value out of its range, or names a label that \
        the model does not have. Nothing was changed.",
};

/// A file of records that cannot be read or written.
pub static RECORDS: Code = Code {
    id: "E0841",
    title: "a file of events, hosts or corrections",
    explanation: "A file that the loader was told to read or write is not accessible, or a line of it does not \
        say what it should. Files are read as a whole before anything is changed; the message names the line.",
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
    &NO_INTERFACE,
    &ATTACH,
    &NO_BPFFS,
    &ALREADY_INSTALLED,
    &NOT_INSTALLED,
    &PIN,
    &HOST,
    &AMBIGUOUS,
    &PARAMS_MISFIT,
    &PARAMS_UNPROVED,
    &EVENTS_IN_USE,
    &INCOMPLETE,
    &NO_GENERATION,
    &OTHER_HOOK,
    &SHADOW_UNSUPPORTED,
    &SHADOW_RUNS,
    &NO_SHADOW,
    &NO_SWEEP,
    &SETTING,
    &RECORDS,
];
