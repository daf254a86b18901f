//! Codes of checks and budgets: `E04xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] =
    &[&SHAPE, &WIDTH, &QUANTISER, &LANE, &DECISION, &MARGIN, &TREES, &KERNEL_TOO_OLD, &TOO_LARGE, &INTERNAL];

pub static SHAPE: Code = Code {
    id: "E0401",
    title: "shapes of the integer network do not fit",
    explanation: "An operation of the fixed-point network reads another number of values than the one before \
                  it gives. The compiler never builds such a network from a model; it can come from a damaged \
                  object.",
};

pub static WIDTH: Code = Code {
    id: "E0402",
    title: "shift or width out of range",
    explanation: "Shifts are at most 62 bits and activations at most 32 bits wide. The compiler never chooses \
                  others; they can come from a damaged object.",
};

pub static QUANTISER: Code = Code {
    id: "E0403",
    title: "an input quantiser can overflow",
    explanation: "A feature's range times its multiplier must fit 64 bits, and the result must lie in the \
                  interval that the plan assumes. A retrained model whose inputs no longer fit the plan of an \
                  existing object is refused with this code: compile it anew.",
};

pub static LANE: Code = Code {
    id: "E0404",
    title: "an accumulator can leave its lane",
    explanation: "Several accumulators share one 64-bit register; each must fit its lane for every input that \
                  can arrive. A retrained model that needs more room than the plan of an existing object has \
                  is refused with this code: compile it anew.",
};

pub static DECISION: Code = Code {
    id: "E0405",
    title: "labels or rules do not fit the outputs",
    explanation: "The number of labels, or the class that a rule names, does not fit the number of outputs.",
};

pub static MARGIN: Code = Code {
    id: "E0406",
    title: "the difference of two outputs can overflow",
    explanation: "A rule with a probability compares the difference of two outputs, or sums up powers of several \
                  differences; all of that must fit 64 bits.",
};

pub static TREES: Code = Code {
    id: "E0407",
    title: "the table of decision trees cannot be walked",
    explanation: "Every node must lead to nodes behind it, every walk must end at a leaf within the steps that the \
                  code takes, and no sum of leaves may leave 64 bits. The compiler never writes another table; it \
                  can come from a damaged object or parameter file.",
};

pub static KERNEL_TOO_OLD: Code = Code {
    id: "E0410",
    title: "the target kernel lacks what the object needs",
    explanation: "Every object needs Linux 5.10: tail calls out of functions. Flow records are updated by atomic \
                  operations that fetch, so specifications with `flow` need Linux 5.12. On 5.10 and 5.11 single \
                  packets (`packets on …;`) can be judged. Parameters of more than 4 MiB, both slots together, need \
                  Linux 6.1; constant weights (`--weights const`) stand in the object once.",
};

pub static TOO_LARGE: Code = Code {
    id: "E0411",
    title: "the program does not fit the kernel",
    explanation: "The kernel limits the stack to 512 bytes, a per-CPU map value to 32 KiB a chain of tail \
                  calls to 33 programs and a program to 1,000,000 instructions, some of which are kept for the \
                  packet path. The message names the limit that the plan passes.",
};

pub static INTERNAL: Code = Code {
    id: "E0499",
    title: "the compiler contradicts itself",
    explanation: "No input should cause this. Please report it together with the model and the specification.",
};
