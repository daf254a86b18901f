//! Codes of checks and budgets: `E04xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[&SHAPE, &WIDTH, &QUANTISER, &LANE, &DECISION, &MARGIN];

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
    explanation: "A rule with a probability compares the difference of two outputs, which must fit 64 bits.",
};
