//! Codes of the contract between model and specification, and of quantisation: `E03xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &COUNT,
    &ORDER,
    &LABELS,
    &LABEL_ORDER,
    &COARSE,
    &BUDGET,
    &UNITS,
    &NO_ROWS,
    &NO_FIT,
    &WIDTH,
    &REGRESSOR,
    &SHAPE,
    &OUTPUT_COUNT,
    &ONE_VERSUS_REST,
    &RECONSTRUCTION,
    &NO_SCALER,
    &LEVELS,
    &ANOMALIES,
    &SLOW,
    &NO_LABEL,
];

pub static COUNT: Code = Code {
    id: "E0301",
    title: "the specification has another number of features than the model has inputs",
    explanation: "Features feed the model's inputs one by one, in the order in which they are written. Add the \
                  missing features or remove the surplus ones, or give the model that was trained on this \
                  specification.",
};

pub static ORDER: Code = Code {
    id: "E0302",
    title: "features stand in another order than the model's inputs",
    explanation: "The model file names its input columns, and a feature of that name stands at another place. \
                  Write the features in the model's order.",
};

pub static LABELS: Code = Code {
    id: "E0303",
    title: "the specification has another number of labels than the model has classes",
    explanation: "Write one label for each class, in the order of the model's outputs. A model with a single \
                  logistic output has two classes.",
};

pub static LABEL_ORDER: Code = Code {
    id: "E0304",
    title: "labels stand in another order than the model's classes",
    explanation: "The model file names its classes, and a label of that name stands at another place: every \
                  verdict would be the wrong way round. Write the labels in the model's order.",
};

pub static COARSE: Code = Code {
    id: "E0305",
    title: "the outputs are too coarse for a probability",
    explanation: "Over more than two classes, `when p >= ...` sums up powers of the differences of outputs, and one \
                  unit of the integer outputs must not change such a power by more than about 1.4 times. The \
                  outputs of this model can become so large that their unit is coarser. Leave the probability \
                  out, so that the rule fires when its label has the largest output, or train with smaller \
                  outputs.",
};

pub static BUDGET: Code = Code {
    id: "E0306",
    title: "quantisation flips more labels than the budget allows",
    explanation: "No candidate, up to one 64-bit accumulator for each output, keeps the label of enough \
                  calibration rows. The message names the layer whose rounding costs most. If it is the \
                  inputs, their declared ranges or fraction bits are usually too narrow for the rows.",
};

pub static UNITS: Code = Code {
    id: "E0307",
    title: "a feature's range does not meet what the model was trained on",
    explanation: "The model's scaler says where the values of this input lay in training, and the feature's \
                  range lies far outside. Usually the units differ: microseconds against seconds, bytes \
                  against kilobytes.",
};

pub static NO_ROWS: Code = Code {
    id: "E0308",
    title: "no calibration row can be used",
    explanation: "The calibration file has no rows, or single and double precision disagree on every one of \
                  them. Give rows like those that the model was trained on.",
};

pub static NO_FIT: Code = Code {
    id: "E0309",
    title: "the model cannot be represented in fixed point",
    explanation: "No choice of scales lets every accumulator fit 64 bits. This happens with weights or inputs \
                  whose magnitudes differ by more than about fifteen decimal digits.",
};

pub static WIDTH: Code = Code {
    id: "E0310",
    title: "calibration rows have another width than the model",
    explanation: "A calibration row holds one value for each input of the model.",
};

pub static REGRESSOR: Code = Code {
    id: "E0311",
    title: "a rule on a model without classes",
    explanation: "Rules name labels, and this model gives plain numbers. Export the model with a softmax, \
                  sigmoid or arg-max tail, or remove the rules.",
};

pub static SHAPE: Code = Code {
    id: "E0312",
    title: "the retrained model has another shape than the object",
    explanation: "New parameters fit the code of an existing object only when the model has the same layers with \
                  the same numbers of inputs and outputs. Compile the model anew and load the new object.",
};

pub static OUTPUT_COUNT: Code = Code {
    id: "E0313",
    title: "the specification has another number of outputs than the model",
    explanation: "A model may have several outputs: heads on the same hidden layer, or one sigmoid for each of \
                  several labels. The `model` block then has one `output NAME { labels ...; }` for each. A name \
                  that the model's file has too stands for that output; the others stand for the rest in the \
                  model's order. A model with one output takes a plain `labels` statement.",
};

pub static ONE_VERSUS_REST: Code = Code {
    id: "E0314",
    title: "a probability of a one-versus-rest model",
    explanation: "A one-versus-rest model has a binary classifier for each of several classes; its label is the class \
                  with the largest output, and its probabilities are no softmax, so that no threshold on them is a \
                  comparison of two outputs. Rules on such a model name the label alone.",
};

pub static RECONSTRUCTION: Code = Code {
    id: "E0320",
    title: "the model cannot be judged by the error of its reconstruction",
    explanation: "`reconstruction` in the model block takes a network whose outputs are its inputs again, as many and in \
                  the same order, after the scaler of the file: the error is about scaled values, as in training. The \
                  outputs are plain numbers or one sigmoid each, no classes. Each input has a scale other than 0. The \
                  result is a label and no probability, so that rules have no `when p >= P`.",
};

pub static NO_SCALER: Code = Code {
    id: "E0330",
    title: "a network that looks trained on scaled inputs, without its scaler (warning)",
    explanation: "Over the calibration rows the first layer sees one or a few of the largest features only, and the \
                  outputs are so far apart that every probability is 0 or 1. Networks do that which were trained on \
                  standardised features when their scaler was not exported with them: every verdict is then wrong \
                  without notice. Put the scaler into the graph. The object is written in any case, as a network may \
                  have been trained on raw values with such a result.",
};

pub static LEVELS: Code = Code {
    id: "E0331",
    title: "the levels of the model's own quantisation are not kept exactly (warning)",
    explanation: "A model that its author quantised is compiled in the author's integers when every value between two \
                  layers is rounded to levels, features included, and the weights of each neuron are whole multiples \
                  of one number. This model is not of that form at the node that is named, so that it is quantised \
                  like a float model: rounded values may come out as the neighbouring level. Labels are compared as \
                  for every model, and `--report` has the differences of outputs. Where the model is to be exact, \
                  quantise it statically: features, weights, and what each layer gives.",
};

pub static ANOMALIES: Code = Code {
    id: "E0332",
    title: "nearly every calibration row is an anomaly (warning)",
    explanation: "The error of a reconstruction compares the network's outputs with the scaled features, as most \
                  autoencoders are trained. Where it is above the threshold for more than nine tenths of the rows, either \
                  the threshold is for other units, or the network's last layer undoes its scaler, so that outputs and \
                  scaled features are not comparable. Export such a network without that layer.",
};

pub static SLOW: Code = Code {
    id: "E0340",
    title: "the model is predicted to be slower than `--max-ns` allows",
    explanation: "The search takes the cheapest fixed-point network that keeps enough labels, and the cost model predicts \
                  that it takes longer. The notes say what would have to give, one thing at a time: flips, an object \
                  whose parameters can be updated, or neurons. Predictions are for the machine that the constants were \
                  measured on; `nnbpfc bench --calibrate-cost` measures another.",
};

pub static NO_LABEL: Code = Code {
    id: "E0350",
    title: "a model without labels has no decision boundary",
    explanation: "`nnbpfc flips` looks for inputs whose label is another one after quantisation, and proves where there are \
                  none. A regressor has no labels: `certificate.error` in the report bounds how far its outputs are off.",
};
