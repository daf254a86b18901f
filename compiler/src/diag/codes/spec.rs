//! Codes of the feature specification: `E02xx`.
//!
//! | codes | concern |
//! |---|---|
//! | `E0200`–`E0209` | text and structure of the file |
//! | `E0210`–`E0219` | hook and flow |
//! | `E0220`–`E0239` | features |
//! | `E0240`–`E0249` | labels, triggers, rules |
//! | `E0250`–`E0259` | parameters, names, files |
//! | `E0260`–`E0269` | warnings of `nnbpfc check` |
//! | `E0290` | what the language has and this version does not |

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &UNKNOWN_CHARACTER,
    &SYNTAX,
    &TOO_LARGE,
    &MISSING,
    &REPEATED,
    &VERSION,
    &HOOK,
    &PROTOCOL,
    &KEY,
    &CAPACITY,
    &TIME,
    &FLOW_END,
    &UNKNOWN_FLOW,
    &CLOCK,
    &UNKNOWN_FUNCTION,
    &ARGUMENTS,
    &UNKNOWN_FIELD,
    &CONDITION,
    &NEVER_TRUE,
    &UNIT,
    &RANGE,
    &FEATURE_NAME,
    &NOT_AN_AGGREGATE,
    &TABLE_OF_FEATURE,
    &WINDOW,
    &LABELS,
    &UNKNOWN_LABEL,
    &THRESHOLD,
    &ACTION,
    &TRIGGER,
    &RECONSTRUCTION,
    &NAME,
    &PARAMETER,
    &USE,
    &ONE_VALUE,
    &ZERO_DIVISOR,
    &SHORT_SUM,
    &STATE,
    &UNSUPPORTED,
];

pub static UNKNOWN_CHARACTER: Code = Code {
    id: "E0200",
    title: "text that is not part of the language",
    explanation: "A character begins no word, number, sign or comment. \
        Words consist of letters, digits and `_`; comments begin with `//`; text stands in double quotes.",
};

pub static SYNTAX: Code = Code {
    id: "E0201",
    title: "syntax error",
    explanation: "A statement does not have the form that the language reference gives for it. \
        The message lists what could stand at the place. \
        Reading goes on behind the statement, so that further mistakes are shown in the same run.",
};

pub static TOO_LARGE: Code = Code {
    id: "E0202",
    title: "specification beyond a limit",
    explanation: "A specification has at most 1 MiB of text in 64 files, 64 levels of brackets, 65,536 parts behind its \
        names, 1,024 features of 256 values each and 32 rules; a condition has at most 256 comparisons and 512 \
        cases. The limits keep the compiler's own memory and stack bounded.",
};

pub static MISSING: Code = Code {
    id: "E0203",
    title: "missing part",
    explanation: "Every specification has a `spec` line, an `attach` line, a `flow` block with key, capacity, \
        idle time and end, a `features` block with at least one feature, a `model` block with labels, \
        and a `classify` line. Where single packets are judged, there is no `flow` block.",
};

pub static REPEATED: Code = Code {
    id: "E0204",
    title: "part given twice",
    explanation: "A part that may be given once is given again; the first one is pointed at. \
        Remove one of the two.",
};

pub static VERSION: Code = Code {
    id: "E0205",
    title: "unknown version of the language",
    explanation: "The `spec` line ends with the version of the language that the file is written in. \
        This compiler reads `v1`.",
};

pub static HOOK: Code = Code {
    id: "E0210",
    title: "unknown hook",
    explanation: "`attach` names the place in the kernel where packets are seen: `xdp`, `tc ingress` or \
        `tc egress`.",
};

pub static PROTOCOL: Code = Code {
    id: "E0211",
    title: "unknown protocol",
    explanation: "`flow NAME on …` lists the transport protocols whose packets belong to flows, `packets on …` those of the packets \
        that are judged one by one: `tcp`, `udp`, `icmp`, `sctp`.",
};

pub static KEY: Code = Code {
    id: "E0212",
    title: "unusable flow key",
    explanation: "`key` says which packets share a record. \
        `five_tuple bidirectional` gives a connection one record, `five_tuple directional` each direction its own. \
        A list of `ip.src`, `ip.dst`, `l4.src_port`, `l4.dst_port` and `ip.proto` joins all packets that agree in \
        these parts; both directions share a record where the list names both ends alike.",
};

pub static CAPACITY: Code = Code {
    id: "E0213",
    title: "unusable table size",
    explanation: "`capacity` is the number of flow records, a whole number from 1 to 16,777,216. \
        Memory for all of them is taken when the program is loaded. \
        When the table is full, the least recently used record makes place: `evict lru`.",
};

pub static TIME: Code = Code {
    id: "E0214",
    title: "unusable time",
    explanation: "A time is a number with one of the units `ns`, `us`, `ms`, `s`, `min`, `h`, \
        a whole number of nanoseconds, above zero and below 292 years.",
};

pub static FLOW_END: Code = Code {
    id: "E0215",
    title: "unusable end of flow",
    explanation: "`end` lists what ends a flow besides idle time: `tcp.fin`, `tcp.rst`, joined by `or`; or `never`. \
        Causes beginning with `tcp.` need `tcp` among the flow's protocols, and a key that names a connection.",
};

pub static UNKNOWN_FLOW: Code = Code {
    id: "E0216",
    title: "unknown flow",
    explanation: "`features of NAME` and `classify NAME` refer to a flow block by its name, both to the same. \
        Other flow blocks are tables that features read with `per NAME`. \
        Without a flow block packets are judged one by one: `features { … }` and `classify packet`.",
};

pub static CLOCK: Code = Code {
    id: "E0217",
    title: "unknown clock",
    explanation: "`clock` says how exactly packets know their time: `exact`, to the nanosecond, as without the line, or \
        `coarse`, to the kernel's tick of 1 to 10 ms, which costs 30 ns less for each packet.",
};

pub static UNKNOWN_FUNCTION: Code = Code {
    id: "E0220",
    title: "unknown function",
    explanation: "Features are made by the functions `count`, `sum`, `min`, `max`, `first`, `last`, `mean`, `std`, \
        `std_pop`, `var`, `var_pop`, `ewma`, `rate` and `distinct`, and by `duration`, `range`, `share`, `any` and `all`; \
        `abs` and `log2` take a value made by them, and nothing stands behind their bracket but `clip` and `in`.",
};

pub static ARGUMENTS: Code = Code {
    id: "E0221",
    title: "wrong arguments",
    explanation: "`count()` takes no argument, every other function exactly one field of a packet or `gap`; \
        a weight stands behind it in `ewma(l4.len, 1/8)`, a size in `distinct(l4.dst_port, 1024)`. \
        Which packets count is said behind the function: `count() where tcp.syn`.",
};

pub static UNKNOWN_FIELD: Code = Code {
    id: "E0222",
    title: "unknown field",
    explanation: "The language reference lists the fields of a packet. \
        Lengths are told apart by the layer whose bytes they count: `frame.len`, `ip.len`, `l4.len`, `l4.payload_len`.",
};

pub static CONDITION: Code = Code {
    id: "E0223",
    title: "not a condition",
    explanation: "Behind `where` stand conditions that a packet fulfils or not: `fwd`, `bwd`, TCP flags such as \
        `tcp.syn`, and comparisons of a field with a constant such as `ip.ttl < 64`; joined by `and` and `or`, \
        turned round by `not`. In the formula of a feature these words join what is 0 or 1: comparisons, `any`, \
        `all`.",
};

pub static NEVER_TRUE: Code = Code {
    id: "E0224",
    title: "condition that no packet fulfils",
    explanation: "The conditions exclude each other, or exclude what the flow block lets in: \
        a directional flow has no backward packets, a flow without `tcp` no TCP flags, and no field has a value \
        beyond its greatest one.",
};

pub static UNIT: Code = Code {
    id: "E0225",
    title: "unusable unit",
    explanation: "`as` converts a time to `ns`, `us`, `ms` or `s`, or to ticks of a clock that shows nothing finer, \
        `us_ticks`, `ms_ticks` or `s_ticks`; the result is a whole number, rounded down. \
        Packets, bytes and plain numbers have no other unit, and what is added, subtracted or compared has one unit.",
};

pub static RANGE: Code = Code {
    id: "E0226",
    title: "unusable range",
    explanation: "`in LOW..HIGH` narrows the range that follows from a feature's type. \
        LOW lies below HIGH and both lie inside that range, in the feature's unit. \
        Whole-number features have whole bounds. A formula, a variance or a constant whose values could pass 62 bits \
        needs `clip LOW..HIGH` on its parts.",
};

pub static FEATURE_NAME: Code = Code {
    id: "E0227",
    title: "feature name used twice",
    explanation: "Names of features are column names of files and fields of maps; each stands for one feature.",
};

pub static NOT_AN_AGGREGATE: Code = Code {
    id: "E0228",
    title: "not a value of a flow",
    explanation: "A field has one value per packet, a feature one value per flow: \
        a function such as `first`, `last`, `max` or `sum` makes one from the other. \
        Where packets are judged one by one, features are fields themselves, and such functions have no meaning.",
};

pub static TABLE_OF_FEATURE: Code = Code {
    id: "E0230",
    title: "unusable table beside the flow's",
    explanation: "`per NAME` reads a feature from the records of another `flow` block, `per ip.src` and the other \
        parts of a key from a table of that key alone. \
        Their key is part of the flow's own, so that a flow has one record there; they have no end and no direction.",
};

pub static WINDOW: Code = Code {
    id: "E0231",
    title: "unusable window",
    explanation: "`over TIME` takes an aggregate over the last packets by time. \
        It goes with functions that two parts of a time can be joined by: not with the first or last value, a \
        weighted mean or a duration.",
};

pub static LABELS: Code = Code {
    id: "E0240",
    title: "unusable labels",
    explanation: "`labels` names the model's classes in the order of its outputs: at least two, each name once. \
                  A model with several outputs has an `output NAME { labels ...; }` for each and no labels \
                  beside them.",
};

pub static UNKNOWN_LABEL: Code = Code {
    id: "E0241",
    title: "unknown label",
    explanation: "`on LABEL` refers to one of the names behind `labels`, and `on OUTPUT.LABEL` to one of an \
                  output's. Where a model has several outputs, a rule says which one it is about.",
};

pub static THRESHOLD: Code = Code {
    id: "E0242",
    title: "unusable threshold",
    explanation: "A rule may demand a probability: `when p >= 0.95`. \
        It lies above 0 and below 1 and has at most six decimals.",
};

pub static ACTION: Code = Code {
    id: "E0243",
    title: "unusable action",
    explanation: "A rule's actions are `drop;`, `pass;`, `block ip.src for TIME;`, `block ip.dst for TIME;`, \
        `mark NUMBER;` at tc, and `report;` or `report 1 in N;`, each at most once, and at least one of them; `pass` goes \
        with neither `drop` nor `block`. Whom to block is known where the end is part of the flow's key.",
};

pub static TRIGGER: Code = Code {
    id: "E0244",
    title: "unusable trigger",
    explanation: "`classify FLOW at …` takes `end`, `every N packets` and `every TIME`, and `after N packets` and \
        `after TIME`, each at most once. \
        `end` needs something that ends flows: a cause behind `end` or an idle time. \
        Single packets are judged `at every packet` or `at every N packets`.",
};

pub static RECONSTRUCTION: Code = Code {
    id: "E0245",
    title: "statement about the error of a reconstruction that cannot be used",
    explanation: "`reconstruction l1 > 0.037;` says that the model gives its inputs again, and that label 1 is due \
        where the mean of the absolute differences exceeds the number; `l2` is the mean of their squares. The number \
        lies above 0 and has at most nine decimals. The block then has two labels, `labels normal, anomaly;`, and no \
        `output`.",
};

pub static NAME: Code = Code {
    id: "E0250",
    title: "name of a parameter or expression that cannot be used",
    explanation: "Names of `param` and of `let` statements are given once, in whichever file, and mean nothing \
        else in an expression: `fwd`, `gap` and the like are taken.",
};

pub static PARAMETER: Code = Code {
    id: "E0251",
    title: "value from outside that fits no parameter",
    explanation: "`--param NAME=VALUE` replaces the value of `param NAME = …;`. The specification has such a \
        statement, and the value is a number where that is one, a number with a unit where that is one: \
        `--param packets=32`, `--param idle=90s`.",
};

pub static USE: Code = Code {
    id: "E0252",
    title: "file that cannot be used",
    explanation: "`use \"FILE\";` inserts the statements of another file, which lies beside the one that uses it or \
        in a folder that `-I DIR` names. No file uses itself, directly or through others. A file that is used \
        several times is inserted once.",
};

pub static ONE_VALUE: Code = Code {
    id: "E0260",
    title: "feature that always has the same value (warning)",
    explanation: "What the flow block lets in, the key, or the condition behind `where` leave the feature one \
        value, so the model learns nothing from it: `max(tcp.window)` in a flow without TCP is always 0, and ports \
        that the key names do not deviate. The notes say why. Conditions that no packet fulfils are refused: E0224.",
};

pub static ZERO_DIVISOR: Code = Code {
    id: "E0261",
    title: "divisor that can be 0 (warning)",
    explanation: "Over no packet every aggregate is 0. A quotient or remainder is 0 where its divisor is: the model \
        cannot tell that from a small quotient. `count()` without `where` is never 0 when a verdict is due, and \
        `share` is meant so: neither is warned about.",
};

pub static SHORT_SUM: Code = Code {
    id: "E0262",
    title: "sum that is full after few packets (warning)",
    explanation: "Sums have 63 bits. Gaps in nanoseconds are so large that a record takes samples of its first \
        4,194,304 packets only, of 4,286,578,688 with every other sum. Later packets leave the record as it is and \
        are counted as `saturated`. Coarser units have room for all of them.",
};

pub static STATE: Code = Code {
    id: "E0263",
    title: "large state (warning)",
    explanation: "The kernel takes the memory of all records when the object is loaded, whether there are flows or \
        not: `nnbpfc explain` shows it map by map. Loading fails where a machine has less.",
};

pub static UNSUPPORTED: Code = Code {
    id: "E0290",
    title: "not supported yet",
    explanation: "The language has this construct, this version of the compiler does not build it. \
        The help text names what can be used instead.",
};
