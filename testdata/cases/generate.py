#!/usr/bin/env python3
"""Writes the models of this folder that no training made: fixed weights from a seed, scalers of many scales.

The oracles need shapes, scalers and heads that differ, not accuracy. Run it in this folder; it needs the
packages `onnx` and `numpy`. The models in `tiny-2-3-2` and `scaled-6-32-32-2` are older than this script.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write(name, mean, scale, widths, tail, seed, lean=0.0):
    """A scaler and an MLP. `lean` moves the decision of two classes towards the second one."""
    random = np.random.default_rng(seed)
    inputs = len(mean)
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"], "subtract_mean"),
        helper.make_node("Div", ["centred", "scale"], ["x0"], "divide_scale"),
    ]
    constants = {"mean": np.array(mean), "scale": np.array(scale)}
    sizes = [inputs, *widths]
    for layer, (columns, rows) in enumerate(zip(sizes, sizes[1:])):
        last = layer + 2 == len(sizes)
        weights = random.normal(0, np.sqrt(2 / columns), (rows, columns))
        bias = random.normal(0, 0.1, rows)
        if last and rows == 1:
            bias[0] += lean
        if last and rows == 2:
            bias += [-lean / 2, lean / 2]
        constants[f"w{layer}"], constants[f"b{layer}"] = weights, bias
        out = "scores" if last else f"z{layer}"
        gemm = [f"x{layer}", f"w{layer}", f"b{layer}"]
        nodes.append(helper.make_node("Gemm", gemm, [out], f"fc{layer}", transB=1))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"x{layer + 1}"], f"relu{layer}"))
    output = "scores"
    if tail is not None:
        output = "probabilities"
        attributes = {"axis": 1} if tail == "Softmax" else {}
        nodes.append(helper.make_node(tail, ["scores"], [output], "tail", **attributes))
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", widths[-1]])],
        tensors,
    )
    save(name, graph)


def save(name, graph, more=()):
    opsets = [helper.make_opsetid("", 17), *more]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="generate.py")
    model.ir_version = 8
    onnx.checker.check_model(model)
    # A name with a slash is another model of that folder.
    folder, _, file = name.partition("/")
    folder = pathlib.Path(__file__).parent / folder
    folder.mkdir(exist_ok=True)
    (folder / f"{file or 'model'}.onnx").write_bytes(model.SerializeToString())


def write_heads(name, mean, scale, hidden, heads, seed):
    """A scaler, one hidden layer, and several heads on it: name, outputs, tail, factor on the weights, biases."""
    random = np.random.default_rng(seed)
    inputs = len(mean)
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"], "subtract_mean"),
        helper.make_node("Div", ["centred", "scale"], ["x0"], "divide_scale"),
        helper.make_node("Gemm", ["x0", "w0", "b0"], ["z0"], "trunk", transB=1),
        helper.make_node("Relu", ["z0"], ["x1"], "relu"),
    ]
    constants = {"mean": np.array(mean), "scale": np.array(scale)}
    constants["w0"] = random.normal(0, np.sqrt(2 / inputs), (hidden, inputs))
    constants["b0"] = random.normal(0, 0.1, hidden)
    outputs = []
    for head, rows, tail, factor, bias in heads:
        constants[f"w_{head}"] = factor * random.normal(0, np.sqrt(2 / hidden), (rows, hidden))
        constants[f"b_{head}"] = factor * np.array(bias, dtype=np.float64)
        raw = head if tail is None else f"scores_{head}"
        nodes.append(helper.make_node("Gemm", ["x1", f"w_{head}", f"b_{head}"], [raw], f"fc_{head}", transB=1))
        kind, shape = TensorProto.FLOAT, ["batch", rows]
        if tail == "ArgMax":
            nodes.append(helper.make_node(tail, [raw], [head], f"tail_{head}", axis=1, keepdims=0))
            kind, shape = TensorProto.INT64, ["batch"]
        elif tail is not None:
            attributes = {"axis": 1} if tail == "Softmax" else {}
            nodes.append(helper.make_node(tail, [raw], [head], f"tail_{head}", **attributes))
        outputs.append(helper.make_tensor_value_info(head, kind, shape))
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs])]
    save(name, helper.make_graph(nodes, name, inputs, outputs, tensors))


def write_trees(name, scales, trees, depth, classes, kind, seed, mean=None):
    """Trees over features of these sizes, with thresholds spread evenly over their magnitudes.

    `kind` is `probability` (two classes, leaves with the share of the second), `shares` (leaves with a share for
    every class) or `boosted` (each tree adds to one class; a softmax follows).
    """
    random = np.random.default_rng(seed)
    nodes = {key: [] for key in ["treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids"]}
    leaves = {key: [] for key in ["treeids", "nodeids", "ids", "weights"]}

    def leaf(tree, node):
        shares = random.dirichlet([0.4] * classes)
        weights = {
            "probability": {0: shares[1]},
            "shares": {c: shares[c] / trees for c in range(classes)},
            "boosted": {tree % classes: random.normal(0, 0.6)},
        }[kind]
        for output, weight in weights.items():
            for key, value in zip(leaves, [tree, node, output, float(np.float32(weight))]):
                leaves[key].append(value)

    def grow(tree, node, level):
        row = len(nodes["modes"])
        for key, value in zip(nodes, [tree, node, 0, "LEAF", 0.0, 0, 0]):
            nodes[key].append(value)
        if level == depth or (level > 2 and random.random() < 0.15):
            leaf(tree, node)
            return node
        feature = int(random.integers(len(scales)))
        value = scales[feature] ** random.random() - 0.5
        if mean is not None:
            value = (value - mean[feature]) / scales[feature]
        nodes["featureids"][row], nodes["values"][row] = feature, float(np.float32(value))
        nodes["modes"][row] = "BRANCH_LT" if kind == "boosted" else "BRANCH_LEQ"
        nodes["truenodeids"][row] = node + 1
        last = grow(tree, node + 1, level + 1)
        nodes["falsenodeids"][row] = last + 1
        return grow(tree, last + 1, level + 1)

    for tree in range(trees):
        grow(tree, 0, 0)
    attributes = {f"nodes_{key}": values for key, values in nodes.items()}
    attributes |= {f"class_{key}": values for key, values in leaves.items()}
    if kind == "boosted":
        attributes |= {"post_transform": "SOFTMAX", "base_values": [0.25] * classes}
    before, read = [], "input"
    if mean is not None:
        scale = {"offset": [float(v) for v in mean], "scale": [1.0 / v for v in scales]}
        before, read = [helper.make_node("Scaler", ["input"], ["scaled"], "scaler", domain="ai.onnx.ml", **scale)], "scaled"
    node = helper.make_node(
        "TreeEnsembleClassifier",
        [read],
        ["label", "probabilities"],
        "trees",
        domain="ai.onnx.ml",
        classlabels_int64s=list(range(classes)),
        **attributes,
    )
    graph = helper.make_graph(
        [*before, node],
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", len(scales)])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", classes]),
        ],
    )
    save(name, graph, [helper.make_opsetid("ai.onnx.ml", 3)])


# The inputs of specs/dsn24.spec: gaps in nanoseconds beside lengths and counts.
write("dsn24-6-32-32-2", [300, 4e8, 40, 9000, 600, 20], [500, 2e9, 30, 15000, 2500, 80], [32, 32, 2], "Softmax", 1, 0.6)
# The inputs of specs/dsn24-cic.spec.
write("dsn24-cic-6-12-2", [400, 4e6, 20, 8000, 300, 12], [600, 2e7, 30, 15000, 700, 40], [12, 2], "Softmax", 3, -2.0)
# The inputs of specs/cic6.spec.
write("cic6-6-16-2", [8000, 6, 900, 20, 300, 120], [15000, 20, 8000, 80, 500, 250], [16, 2], "Softmax", 2, 0.8)
# gaps.spec: every aggregate of gaps in nanoseconds and microseconds.
write(
    "gaps-11-24-2",
    [5e7, 2e8, 1.5e5, 40000, 90000, 5e8, 200, 4e6, 5e4, 90, 12],
    [3e8, 5e8, 6e5, 200000, 300000, 2e9, 400, 9e7, 2e5, 60, 90],
    [24, 2],
    "Softmax",
    4,
    0.6,
)
# oneway.spec: one logistic output.
write(
    "oneway-9-12-1",
    [120, 800, 60, 1, 90, 5, 20, 4000, 2],
    [200, 9000, 60, 5, 60, 50, 10, 20000, 9],
    [12, 1],
    "Sigmoid",
    5,
    0.4,
)
# conditions.spec.
write(
    "conditions-14-16-2",
    [20, 8000, 400, 3, 200, 60, 5, 30, 300, 2e5, 6, 900, 0.3, 0.5],
    [60, 30000, 600, 9, 300, 50, 20, 90, 500, 9e5, 20, 3000, 0.4, 0.5],
    [16, 2],
    "Softmax",
    11,
    0.5,
)
# triggers.spec.
write("triggers-4-8-2", [8, 5000, 8e4, 400], [15, 20000, 3e5, 900], [8, 2], "Softmax", 11, 0.2)
# actions.spec.
write("actions-5-10-3", [1, 10, 100, 1000, 10000], [2, 20, 200, 2000, 20000], [10, 3], "Softmax", 12)
# truth.spec.
write("truth-8-10-2", [0.5, 0.2, 0.7, 7, 400, 0.4, 128, 3], [0.5, 0.4, 0.5, 5, 500, 0.5, 100, 9], [10, 2], "Softmax", 12, 0.3)
# three.spec.
write("three-classes-5-12-3", [1, 10, 100, 1000, 10000], [2, 20, 200, 2000, 20000], [12, 3], "Softmax", 7)
# timeless.spec: nothing in it depends on the clock.
write("timeless-5-8-2", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [8, 2], "Softmax", 11, 0.5)
# nested.spec: sums in sixty brackets, deeper on either side and on both.
write("nested-5-8-2", [60, 5700, 225, 18000, -14], [200, 13200, 700, 97000, 56], [8, 2], "Softmax", 11, 0.1)
# Without a specification: features from one to a million million in one model.
write("scales-6-32-32-2", [0.5, 40, -3e3, 1e6, 2e9, 4e11], [1, 50, 2e4, 3e6, 5e9, 1e12], [32, 32, 2], "Softmax", 6)
write("regressor-4-8-1", [0, 5, 50, 1e6], [1, 3, 40, 5e5], [8, 1], None, 8)
write("logit-6-10-1", [0, 1, 2, 3, 4, 5], [1, 1e2, 1e4, 1e6, 1e8, 1e10], [10, 1], "Sigmoid", 9)
write("deep-12-24-24-24-4", list(range(12)), [3.0] * 12, [24, 24, 24, 4], "Softmax", 10)
# moments.spec: variances, weighted means, rates.
write(
    "moments-11-16-2",
    [40000, 50000, 5e9, 300, 9000, 4e7, 50000, 400, 60000, 30000, 200],
    [90000, 100000, 4e10, 400, 20000, 2e8, 200000, 3000, 300000, 200000, 300],
    [16, 2],
    "Softmax",
    11,
    0.5,
)
# distinct.spec: numbers of different values.
write("distinct-8-12-2", [6, 4, 2, 1, 8, 10, 0.6, 4], [6, 4, 1, 1, 12, 15, 0.3, 2], [12, 2], "Softmax", 12, 0.4)
# hosts.spec: one record for each sender.
write("hosts-6-10-2", [20, 9000, 20000, 2, 9e5, 120], [60, 30000, 25000, 6, 2e6, 200], [10, 2], "Softmax", 11, -0.2)
# service.spec: one record for each port that is sent to.
write("service-5-8-2", [30, 600, 3, 90, 200], [80, 900, 9, 60, 300], [8, 2], "Softmax", 17, 0.1)
# pairs.spec: one record for each two hosts.
write("pairs-5-8-1", [20, 15, 4000, 3000, 2e5], [50, 40, 12000, 9000, 9e5], [8, 1], "Sigmoid", 17, 0.1)
# scan.spec: connections beside tables of senders, receivers and services, and windows.
write(
    "scan-10-12-2",
    [3, 20000, 250, 20000, 4e4, 30, 6, 5e7, 12, 40],
    [9, 60000, 300, 25000, 3e5, 90, 20, 2e8, 30, 120],
    [12, 2],
    "Softmax",
    14,
    0.2,
)
# specs/scan.spec: sketches in windows, one record for each sender.
write(
    "sources-10-14-2",
    [4, 3, 2, 5, 2, 60, 9000, 300, 25, 0.2],
    [9, 8, 3, 12, 6, 150, 40000, 350, 50, 0.3],
    [14, 2],
    "Softmax",
    15,
    0.1,
)
# rates.spec: rates over windows.
write("rates-5-10-2", [30, 40000, 60, 30000, 0.02], [90, 200000, 300, 100000, 0.1], [10, 2], "Softmax", 14, 0.1)
# ticks.spec: durations and gaps.
write(
    "ticks-10-12-2",
    [600, 550000, 5e8, 0.03, 200, 90000, 90000, 0.06, 500000, 100],
    [750, 750000, 7e8, 0.2, 400, 240000, 300000, 0.3, 700000, 270],
    [12, 2],
    "Softmax",
    12,
    0.0,
)
# heads.spec: two classes by softmax, four by arg-max of much larger scores, one sigmoid.
write_heads(
    "heads-5-12-2-4-1",
    [1, 10, 100, 1000, 10000],
    [2, 20, 200, 2000, 20000],
    12,
    [
        ("kind", 2, "Softmax", 1.0, [0.3, -0.3]),
        ("family", 4, "ArgMax", 40.0, [0.1, 0.2, 0.0, 0.1]),
        ("burst", 1, "Sigmoid", 1.0, [0.2]),
    ],
    11,
)
# labels.spec: four sigmoids over one layer, a model of several labels.
write("labels-5-10-4", [1, 10, 100, 1000, 10000], [2, 20, 200, 2000, 20000], [10, 4], "Sigmoid", 12)
# headers.spec: every field of the headers.
write(
    "headers-34-16-2",
    [65, 2048, 0, 1, 0, 500, 20, 60, 4, 10, 5, 1, 1, 9000, 90, 1, 1000, 500, 480, 20, 600, 20000, 3000, 16, 1, 0, 9000, 0, 8]
    + [40, 2, 1, 60, 0.7],
    [170, 9000, 1, 50, 3, 500, 10, 50, 1, 20, 20, 8, 3, 9000, 280, 2, 90000, 50000, 500, 10, 700, 20000, 9000, 20, 2, 1, 20000, 9]
    + [8, 300, 30, 2, 40, 0.5],
    [16, 2],
    "Softmax",
    11,
    0.3,
)


def write_forms(name, mean, scale, widths, forms, seed):
    """A scaler and dense layers with other forms between them: `forms` makes nodes from a layer's sums.

    Each form is a function of (input name, output name, constants) that returns nodes; the last one is the tail.
    """
    random = np.random.default_rng(seed)
    inputs = len(mean)
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"], "subtract_mean"),
        helper.make_node("Div", ["centred", "scale"], ["x0"], "divide_scale"),
    ]
    constants = {"mean": np.array(mean), "scale": np.array(scale)}
    sizes = [inputs, *widths]
    for layer, (columns, rows) in enumerate(zip(sizes, sizes[1:])):
        constants[f"w{layer}"] = random.normal(0, np.sqrt(2 / columns), (rows, columns))
        constants[f"b{layer}"] = random.normal(0, 0.3, rows)
        gemm = [f"x{layer}", f"w{layer}", f"b{layer}"]
        nodes.append(helper.make_node("Gemm", gemm, [f"z{layer}"], f"fc{layer}", transB=1))
        nodes += forms[layer](f"z{layer}", f"x{layer + 1}", constants)
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()]
    source = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs])]
    result = [helper.make_tensor_value_info(f"x{len(widths)}", TensorProto.FLOAT, ["batch", widths[-1]])]
    save(name, helper.make_graph(nodes, name, source, result, tensors))


def leaky(source, result, _):
    return [helper.make_node("LeakyRelu", [source], [result], alpha=0.1)]


def relu6(source, result, constants):
    constants["low"], constants["high"] = 0.0, 6.0
    return [helper.make_node("Clip", [source, "low", "high"], [result])]


def hard_sigmoid(source, result, _):
    return [helper.make_node("HardSigmoid", [source], [result], alpha=0.2, beta=0.5)]


def relu(source, result, _):
    return [helper.make_node("Relu", [source], [result])]


def residual(source, result, _):
    before = f"x{int(source[1:])}"
    return [
        helper.make_node("Relu", [source], [f"r_{result}"]),
        helper.make_node("Add", [f"r_{result}", before], [result]),
    ]


def softmax(source, result, _):
    return [helper.make_node("Softmax", [source], [result], axis=1)]


def each(source, result, _):
    """One logistic for each class, and their sum divided out: one-versus-rest."""
    return [
        helper.make_node("Sigmoid", [source], ["each"]),
        helper.make_node("LpNormalization", ["each"], [result], axis=1, p=1),
    ]


# Activations of straight pieces: two neurons for each.
write_forms("pieces-5-8-6-5-3", [1, 10, 100, 1000, 10000], [2, 20, 200, 2000, 20000], [8, 6, 5, 3], [leaky, relu6, hard_sigmoid, softmax], 16)
# Skip connections: the layer before is carried past an activation.
write_forms("residual-6-8-8-8-2", [0, 1, 2, 3, 4, 5], [1, 1e2, 1e3, 1e4, 1e5, 1e6], [8, 8, 8, 2], [relu, residual, residual, softmax], 17)
# A linear model of four classes, one versus the rest.
write_forms("rest-6-4", [8000, 6, 900, 20, 300, 120], [15000, 20, 8000, 80, 500, 250], [4], [each], 18)
# packet.spec: single packets.
write(
    "packet-12-12-2",
    [60, 400, 16, 0.1, 0.4, 6, 2, 5, 0.5, 45, 400, 0.1],
    [50, 500, 10, 0.3, 0.4, 4, 5, 20, 0.5, 15, 300, 0.3],
    [12, 2],
    "Softmax",
    17,
    0.2,
)
# bytes.spec: payload bytes of single packets.
write(
    "bytes-44-16-2",
    [90] * 37 + [30, 60, 20000, 0.1, 4, 30000, 0.1],
    [80] * 37 + [50, 80, 20000, 0.3, 3, 20000, 0.3],
    [16, 2],
    "Softmax",
    18,
    0.2,
)
# payload.spec: the same over flows. The committed capture has no payload; what is left decides both ways.
write(
    "payload-14-12-2",
    [60, 400, 2, 60, 0.5, 0.3, 90, 150, 20, 30, 500, 1.3e7, 30, 1e8],
    [80, 900, 4, 60, 2, 0.4, 90, 100, 10, 60, 300, 1e6, 80, 9e8],
    [12, 2],
    "Softmax",
    44,
    0.2,
)
# specs/header.spec.
write(
    "header-30-16-2",
    [500, 0.1, 4, 22, 2, 0.1, 480, 0.5, 0.1, 80, 10, 460, 22, 440, 20000, 20000]
    + [0.1, 0.1, 0.1, 0.3, 0.7, 0.1, 0.1, 0.1, 9000, 1, 4, 60, 1, 1],
    [500, 0.4, 1, 8, 8, 0.5, 500, 0.5, 0.2, 60, 8, 500, 8, 440, 20000, 20000]
    + [0.3, 0.3, 0.3, 0.5, 0.5, 0.2, 0.2, 0.2, 20000, 50, 8, 300, 3, 3],
    [16, 2],
    "Softmax",
    20,
    0.2,
)
# tree.spec: one decision tree of two classes.
write_trees("tree-6-2", [40, 100, 1500, 20000, 1e6, 1e6], 1, 7, 2, "probability", 5)
# boosted.spec: boosted trees of three classes, behind a scaler.
write_trees("boosted-5-3", [10, 100, 1500, 20000, 1e6], 30, 4, 3, "boosted", 3, [1, 10, 100, 1000, 10000])
# forest.spec: a random forest of three classes.
write_trees("forest-5-3", [10, 100, 1500, 20000, 1e6], 12, 5, 3, "shares", 3)


def tanh(source, result, _):
    return [helper.make_node("Tanh", [source], [result])]


def sigmoid(source, result, _):
    return [helper.make_node("Sigmoid", [source], [result])]


def beside(source, result, _):
    """What came in, plus the hyperbolic tangent of the layer."""
    before = f"x{int(source[1:])}"
    return [
        helper.make_node("Tanh", [source], [f"t_{result}"]),
        helper.make_node("Add", [f"t_{result}", before], [result]),
    ]


def identity(source, result, _):
    return [helper.make_node("Identity", [source], [result])]


def write_quantised(name, mean, scale, widths, behind, seed):
    """A scaler and an MLP of eight-bit integers, as QuantizeLinear and DequantizeLinear show them.

    All scales are powers of two, with one for each row of weights, so that sums lie on halves of levels. `behind`
    has what follows each layer: functions by their operators, and quantisations as (exponent, zero point).
    """
    random = np.random.default_rng(seed)
    inputs = len(mean)
    constants = {"mean": np.array(mean, np.float32), "scale": np.array(scale, np.float32)}
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"], "subtract_mean"),
        helper.make_node("Div", ["centred", "scale"], ["scaled"], "divide_scale"),
    ]

    def quantised(source, exponent, zero):
        """The value that was quantised, again as a real number."""
        constants[f"{source}_unit"] = np.array(2.0**exponent, np.float32)
        constants[f"{source}_zero"] = np.array(zero, np.int8)
        by = [f"{source}_unit", f"{source}_zero"]
        nodes.append(helper.make_node("QuantizeLinear", [source, *by], [f"{source}_q"], f"{source}_quantise"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{source}_q", *by], [f"{source}_d"], f"{source}_dequantise"))
        return f"{source}_d"

    exponent, source = -4, quantised("scaled", -4, -1)
    for layer, (columns, rows) in enumerate(zip([inputs, *widths], widths)):
        exponents = np.array([-5.0 - row % 3 for row in range(rows)])
        weights = random.normal(0, np.sqrt(2 / columns), (rows, columns)) / 2.0 ** exponents[:, None]
        bias = random.normal(0, 0.1, rows) / 2.0 ** (exponents + exponent)
        constants[f"w{layer}_q"] = np.clip(np.rint(weights), -127, 127).astype(np.int8)
        constants[f"b{layer}_q"] = np.rint(bias).astype(np.int32)
        constants[f"w{layer}_unit"] = (2.0**exponents).astype(np.float32)
        constants[f"b{layer}_unit"] = (2.0 ** (exponents + exponent)).astype(np.float32)
        for part in (f"w{layer}", f"b{layer}"):
            nodes.append(helper.make_node("DequantizeLinear", [f"{part}_q", f"{part}_unit"], [part], part, axis=0))
        gemm = [source, f"w{layer}", f"b{layer}"]
        source = f"z{layer}"
        nodes.append(helper.make_node("Gemm", gemm, [source], f"fc{layer}", transB=1))
        for number, step in enumerate(behind[layer]):
            if isinstance(step, str):
                attributes = {"axis": 1} if step == "Softmax" else {}
                result = f"y{layer}_{number}"
                nodes.append(helper.make_node(step, [source], [result], f"{step.lower()}{layer}", **attributes))
                source = result
            else:
                exponent, source = step[0], quantised(source, *step)
    tensors = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    ends = [
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", inputs])],
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["batch", widths[-1]])],
    ]
    save(name, helper.make_graph(nodes, name, *ends, tensors))


# lanes.spec: lanes of different widths, and four of the same; the oracles give them.
write("lanes-5-10-8-2", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [10, 8, 2], "Softmax", 35)
# A retrained one, and one with another hidden layer.
write("lanes-5-10-8-2/retrained", [9, 380, 62, 1, 25], [22, 850, 40, 2, 35], [10, 8, 2], "Softmax", 45)
write("lanes-5-10-8-2/other", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [10, 9, 2], "Softmax", 35)
# tanh.spec: curved activations in both hidden layers, as tables.
write_forms("tanh-5-8-6-2", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [8, 6, 2], [tanh, sigmoid, softmax], 13)
# A retrained one, and one with a table less.
write_forms("tanh-5-8-6-2/retrained", [9, 380, 62, 1, 25], [22, 850, 40, 2, 35], [8, 6, 2], [tanh, sigmoid, softmax], 23)
write_forms("tanh-5-8-6-2/other", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [8, 6, 2], [tanh, relu, softmax], 23)
def hard_swish(source, result, _):
    return [helper.make_node("HardSwish", [source], [result])]


def past_hard_swish(source, result, constants):
    """What came in, plus the hard swish of the layer, written as exporters of older operator sets do."""
    constants["three"], constants["zero"], constants["six"] = 3.0, 0.0, 6.0
    return [
        helper.make_node("Add", [source, "three"], [f"a_{result}"]),
        helper.make_node("Clip", [f"a_{result}", "zero", "six"], [f"c_{result}"]),
        helper.make_node("Mul", [source, f"c_{result}"], [f"m_{result}"]),
        helper.make_node("Div", [f"m_{result}", "six"], [f"h_{result}"]),
        helper.make_node("Add", [f"h_{result}", f"x{int(source[1:])}"], [result]),
    ]


# swish.spec: hard swishes, and a layer that is carried past one.
write_forms("swish-5-6-6-2", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [6, 6, 2], [hard_swish, past_hard_swish, softmax], 12)
# A retrained one, and one with another function in its first layer.
write_forms("swish-5-6-6-2/retrained", [9, 380, 62, 1, 25], [22, 850, 40, 2, 35], [6, 6, 2], [hard_swish, past_hard_swish, softmax], 23)
write_forms("swish-5-6-6-2/other", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [6, 6, 2], [tanh, past_hard_swish, softmax], 22)


def write_imputed(name, value, by, mean, scale, widths, seed):
    """An imputer of a number, a scaler and an MLP."""
    random = np.random.default_rng(seed)
    constants = {}
    nodes = [
        helper.make_node(
            "Imputer", ["input"], ["imputed"], "imputer", domain="ai.onnx.ml",
            imputed_value_floats=[float(number) for number in by], replaced_value_float=float(value),
        ),
        helper.make_node(
            "Scaler", ["imputed"], ["x0"], "scaler", domain="ai.onnx.ml",
            offset=[float(number) for number in mean], scale=[1 / number for number in scale],
        ),
    ]
    sizes = [len(mean), *widths]
    for layer, (columns, rows) in enumerate(zip(sizes, widths)):
        constants[f"w{layer}"] = random.normal(0, np.sqrt(2 / columns), (rows, columns))
        constants[f"b{layer}"] = random.normal(0, 0.3, rows)
        nodes.append(helper.make_node("Gemm", [f"x{layer}", f"w{layer}", f"b{layer}"], [f"z{layer}"], f"fc{layer}", transB=1))
        tail = helper.make_node("Softmax", [f"z{layer}"], [f"x{layer + 1}"], axis=1)
        nodes.append(relu(f"z{layer}", f"x{layer + 1}", None)[0] if layer + 1 < len(widths) else tail)
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants.items()]
    source = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", len(mean)])]
    result = [helper.make_tensor_value_info(f"x{len(widths)}", TensorProto.FLOAT, ["batch", widths[-1]])]
    save(name, helper.make_graph(nodes, name, source, result, tensors), [helper.make_opsetid("ai.onnx.ml", 3)])


# imputed.spec: zeros are replaced, by whole numbers and by others.
write_imputed("imputed-5-8-2", 0, [5, 64, 64, 0.4, 33.7], [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [8, 2], 12)
# A retrained one, whose imputer puts other numbers in place, and one without.
write_imputed("imputed-5-8-2/retrained", 0, [7, 60, 60, 0.7, 41.3], [9, 380, 62, 1, 25], [22, 850, 40, 2, 35], [8, 2], 27)
write_forms("imputed-5-8-2/other", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [8, 2], [relu, softmax], 22)


# beside.spec: a layer is carried past a curved activation.
write_forms("beside-5-6-6-2", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [6, 6, 2], [tanh, beside, softmax], 12)
# autoencoder.spec: the inputs again, judged by the error.
write_forms("autoencoder-5-3-5", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [3, 5], [tanh, identity], 13)
# A retrained one, and one with another hidden layer.
write_forms("autoencoder-5-3-5/retrained", [9, 380, 62, 1, 25], [22, 850, 40, 2, 35], [3, 5], [tanh, identity], 23)
write_forms("autoencoder-5-3-5/other", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [4, 5], [tanh, identity], 23)
# autorelu.spec: the same with ReLU, by the square of the error.
write_forms("autorelu-5-3-5", [8, 400, 60, 1, 20], [20, 900, 40, 2, 30], [3, 5], [relu, identity], 14)
# qdq.spec: integers of the model's author, up to the scores.
write_quantised(
    "qdq-5-8-6-2",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [8, 6, 2],
    [["Relu", (-4, -128)], ["Relu", (-4, -128)], [(-4, 0), "Softmax"]],
    11,
)
# A retrained one, and one that rounds what its first layer gives a second time.
write_quantised(
    "qdq-5-8-6-2/retrained",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [8, 6, 2],
    [["Relu", (-4, -128)], ["Relu", (-4, -128)], [(-4, 0), "Softmax"]],
    21,
)
write_quantised(
    "qdq-5-8-6-2/other",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [8, 6, 2],
    [["Relu", (-4, -128), (-3, -128)], ["Relu", (-4, -128)], [(-4, 0), "Softmax"]],
    21,
)
# One that leaves the values behind its first layer unrounded.
write_quantised(
    "qdq-5-8-6-2/partly",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [8, 6, 2],
    [["Relu"], ["Relu", (-4, -128)], [(-4, 0), "Softmax"]],
    21,
)
# qtanh.spec: a function between two quantisations is a table over levels; the last one changes no decision.
write_quantised(
    "qtanh-5-6-1",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [6, 1],
    [[(-5, -3), "Tanh", (-7, 0)], [(-4, 0), "Sigmoid", (-8, -128)]],
    12,
)
# A retrained one, and one with fewer levels in front of the table.
write_quantised(
    "qtanh-5-6-1/retrained",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [6, 1],
    [[(-5, -3), "Tanh", (-7, 0)], [(-4, 0), "Sigmoid", (-8, -128)]],
    22,
)
write_quantised(
    "qtanh-5-6-1/other",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [6, 1],
    [[(-1, -3), "Tanh", (-7, 0)], [(-4, 0), "Sigmoid", (-8, -128)]],
    12,
)
# qscore.spec: the last operation is a table, whose levels are the score; negative ones are cut off.
write_quantised(
    "qscore-5-6-1",
    [8, 400, 60, 1, 20],
    [16, 1024, 32, 2, 32],
    [6, 1],
    [["Relu", (-4, -128)], [(-4, 3), "Tanh", (-7, -128)]],
    12,
)
# qcoarse.spec: features that step over levels of the author's, so that a clamp stands behind the first quantiser.
write_quantised(
    "qcoarse-5-6-2",
    [8, 400, 60, 1, 20],
    [2.3, 300, 8.2, 1.3, 7.1],
    [6, 2],
    [["Relu", (-4, -128)], [(-4, 0), "Softmax"]],
    15,
)
