//! Codes of ONNX import: `E01xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &EMPTY_FILE,
    &NOT_ONNX,
    &DAMAGED,
    &OPSET,
    &DOMAIN,
    &EXTERNAL_PATH,
    &EXTERNAL_MISSING,
    &EXTERNAL_RANGE,
    &TENSOR,
    &NOT_FINITE,
    &TOO_LARGE,
    &DUPLICATE_NAME,
    &DANGLING,
    &UNSORTED,
    &CYCLE,
    &INPUTS,
    &LOST_CAPTURE,
    &INPUT_SHAPE,
    &OUTPUTS,
    &OPERATOR,
    &DYNAMIC_QUANTISATION,
    &QUANTISED,
    &MODEL_FAMILY,
    &ACTIVATION,
    &OPERATOR_FORM,
    &SHAPES,
    &ZERO_DIVISOR,
    &HUGE_WEIGHT,
    &NO_LAYERS,
    &TREES,
];

pub static EMPTY_FILE: Code = Code {
    id: "E0101",
    title: "the model file is empty",
    explanation: "The file has no bytes: an export or a copy was interrupted. Export the model again and \
        compare file sizes.",
};

pub static NOT_ONNX: Code = Code {
    id: "E0102",
    title: "the file is not an ONNX model",
    explanation: "The content is something else: a Git LFS pointer, a web page, an archive, a checkpoint \
        of a training framework. Fetch or export the real file; `git lfs pull` replaces \
        pointers.",
};

pub static DAMAGED: Code = Code {
    id: "E0103",
    title: "the model file is damaged",
    explanation: "The file starts like an ONNX model but does not decode to the end, most often because it \
        was cut off. Copy or export it again.",
};

pub static OPSET: Code = Code {
    id: "E0104",
    title: "the operator set version is not supported",
    explanation: "Models of the operator sets 8 to 25 (and 1 to 5 of `ai.onnx.ml`) are read. Export with \
        `opset_version=17`, or convert with `onnx.version_converter`.",
};

pub static DOMAIN: Code = Code {
    id: "E0105",
    title: "an operator comes from an unknown domain",
    explanation: "Operators outside of the standard domains have no public meaning. Export the model \
        without the vendor's optimiser or custom operators.",
};

pub static EXTERNAL_PATH: Code = Code {
    id: "E0106",
    title: "external data points outside of the model's folder",
    explanation: "Weights may live in files beside the model. Absolute paths and `..` are refused, because \
        a model must not read other files of the machine. Save the model again with \
        `onnx.save_model(..., save_as_external_data=True)`, or with all weights inside.",
};

pub static EXTERNAL_MISSING: Code = Code {
    id: "E0107",
    title: "a file with external data cannot be read",
    explanation: "Exporters put larger weights in a file beside the model, mostly `model.onnx.data`. Keep \
        the two together, or export with `external_data=False`.",
};

pub static EXTERNAL_RANGE: Code = Code {
    id: "E0108",
    title: "external data does not lie inside its file",
    explanation: "Offset or length of a tensor do not fit the file with its weights or the tensor's own \
        shape: the two files do not belong together. Export the model again.",
};

pub static TENSOR: Code = Code {
    id: "E0109",
    title: "a constant is malformed",
    explanation: "The number of values does not fit the shape, or the element type is not read. Export the \
        model again with float weights.",
};

pub static NOT_FINITE: Code = Code {
    id: "E0110",
    title: "a weight is not a finite number",
    explanation: "NaN or infinite weights come from a training run that diverged. Train again with a lower \
        learning rate or gradient clipping; check the training data for missing values.",
};

pub static TOO_LARGE: Code = Code {
    id: "E0111",
    title: "the model is too large",
    explanation: "Limits on files, tensors and nodes keep hostile files from exhausting memory. They are \
        far above what fits a kernel program.",
};

pub static DUPLICATE_NAME: Code = Code {
    id: "E0112",
    title: "two values have the same name",
    explanation: "Every value of a graph is assigned once. Export the model again, or rename one of the \
        two outputs.",
};

pub static DANGLING: Code = Code {
    id: "E0113",
    title: "a node reads a value that nothing produces",
    explanation: "The graph is incomplete: a part was cut away without its consumers. Export the whole \
        model again.",
};

pub static UNSORTED: Code = Code {
    id: "E0114",
    title: "nodes are not in topological order",
    explanation: "The format demands that a value is produced before it is used. Sort the graph, for \
        example with `onnxslim` or `onnxsim`.",
};

pub static CYCLE: Code = Code {
    id: "E0115",
    title: "the graph contains a cycle",
    explanation: "A value depends on itself. Recurrent models are not supported; a feed-forward model with \
        a cycle is damaged.",
};

pub static INPUTS: Code = Code {
    id: "E0116",
    title: "the model does not have exactly one input of features",
    explanation: "The features of a flow are one vector. Export a model with one input of shape `[batch, \
        features]`, or one input of shape `[batch, 1]` per feature.",
};

pub static LOST_CAPTURE: Code = Code {
    id: "E0117",
    title: "the export lost constants and lists them as inputs",
    explanation: "Some converters turn the mean and the variance of a normalisation layer into extra \
        required inputs. Their values are gone from the file: export them by another route or \
        put the scaler into the graph yourself.",
};

pub static INPUT_SHAPE: Code = Code {
    id: "E0118",
    title: "the shape or type of the model's input does not fit",
    explanation: "The input is a vector of numbers, with or without a batch axis: `[batch, n]`, `[1, n]`, \
        `[n]` or `[batch, 1, n]`; n must be known. Images, sequences and text are not supported.",
};

pub static OUTPUTS: Code = Code {
    id: "E0119",
    title: "the model's outputs are not those of a classifier or regressor",
    explanation: "Outputs are scores of one network, their softmax or sigmoid, and the label; a network may \
        have several heads of that kind on one hidden layer. Remove other outputs before the export.",
};

pub static OPERATOR: Code = Code {
    id: "E0120",
    title: "an operator is not supported",
    explanation: "Multi-layer perceptrons and linear models are imported: Gemm, MatMul, Add, Relu, scalers, \
        BatchNormalization and the usual tails; and ensembles of decision trees. Everything else is refused as a \
        whole, so that nothing is silently wrong.",
};

pub static DYNAMIC_QUANTISATION: Code = Code {
    id: "E0121",
    title: "dynamically quantised models have no fixed meaning per row",
    explanation: "Dynamic quantisation chooses scales from the batch at run time, so the result for a row \
        depends on the other rows. Compile the float model, or one that is quantised statically \
        (`quantize_static`).",
};

pub static QUANTISED: Code = Code {
    id: "E0122",
    title: "this form of quantisation is not supported",
    explanation: "Models with static quantisation of their own are imported: QuantizeLinear and DequantizeLinear, \
        onnxruntime's QOperator form of dense layers, QONNX's Quant. Data is rounded per tensor to at most 16 bits; \
        constants per tensor or per channel. Scales for blocks, scales for each column of data, 8-bit and 4-bit \
        floats, and quantised convolutions and attention are not imported.",
};

pub static MODEL_FAMILY: Code = Code {
    id: "E0123",
    title: "this family of models is not supported yet",
    explanation: "Multi-layer perceptrons, linear models, and trees, forests and boosted trees as \
        TreeEnsembleClassifier, TreeEnsembleRegressor or TreeEnsemble are imported. Of support vector machines the \
        linear kernel is: it folds into one weight vector for each pair of classes. Other kernels compute a function \
        of each support vector for every verdict.",
};

pub static ACTIVATION: Code = Code {
    id: "E0124",
    title: "the activation function is not supported yet",
    explanation: "Hidden layers may use ReLU, functions made of straight pieces (LeakyRelu, PRelu, Clip, HardSigmoid, \
        Abs) and the usual curves (Sigmoid, Tanh, Softplus, Softsign, Elu, Selu, Celu, Gelu, Silu, Mish, HardSwish). \
        Train with one of them: on tabular data the accuracy hardly differs.",
};

pub static OPERATOR_FORM: Code = Code {
    id: "E0125",
    title: "an operator is used in a way that is not supported",
    explanation: "The operator is known, but not with this attribute or on this kind of value. The message \
        names the attribute or the value.",
};

pub static SHAPES: Code = Code {
    id: "E0126",
    title: "shapes do not fit",
    explanation: "The dimensions of the two sides of an operation do not agree: the model is damaged or \
        was edited. Export it again.",
};

pub static ZERO_DIVISOR: Code = Code {
    id: "E0127",
    title: "a scaler divides by zero",
    explanation: "A feature that was constant in the training data has a deviation of zero. Remove the \
        feature, or set its scale to 1 as scikit-learn does.",
};

pub static HUGE_WEIGHT: Code = Code {
    id: "E0128",
    title: "a weight is absurdly large",
    explanation: "No fixed-point format holds such a weight beside ordinary ones; it comes from a training \
        run that diverged. Train again, with weight decay or a lower learning rate.",
};

pub static NO_LAYERS: Code = Code {
    id: "E0129",
    title: "the model has no trained layer",
    explanation: "The outputs are a scaled copy of the inputs or constants; there is nothing to compile. \
        Check that the right model was exported.",
};

pub static TREES: Code = Code {
    id: "E0135",
    title: "the trees of an ensemble are malformed",
    explanation: "A TreeEnsemble operator lists nodes, thresholds and the weights of leaves side by side. The lists \
        must have one length; each tree must have one root, which is listed first, and each other node one parent; \
        thresholds and weights must be numbers, and classes and features must exist. Export the model again.",
};
