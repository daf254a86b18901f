"""Models of the benchmark: networks with He initialisation and trees, from fixed seeds."""
import math
import random
from array import array
from dataclasses import dataclass
from pathlib import Path

from . import onnx_file as onnx


@dataclass(frozen=True)
class Layer:
    """A dense layer: `rows` outputs of `columns` inputs each, weights row by row."""

    rows: int
    columns: int
    weights: array
    bias: array


@dataclass(frozen=True)
class Forest:
    """Complete trees: node `n` has the children `2 n + 1`, where the feature is at most the limit, and `2 n + 2`."""

    inputs: int
    depth: int
    features: list[list[int]]
    limits: list[list[int]]
    # The share of class 1 in each leaf, in 1/65536.
    votes: list[list[int]]

    def compares(self) -> int:
        return len(self.features) * self.depth


def macs(shape: list[int]) -> int:
    return sum(left * right for left, right in zip(shape, shape[1:]))


def network(shape: list[int]) -> list[Layer]:
    """Weights with a deviation of sqrt(2 / inputs), biases near zero."""
    draw = random.Random(str(shape))
    layers = []
    for columns, rows in zip(shape, shape[1:]):
        deviation = math.sqrt(2 / columns)
        weights = array("f", (draw.gauss(0, deviation) for _ in range(rows * columns)))
        layers.append(Layer(rows, columns, weights, array("f", (draw.gauss(0, 0.05) for _ in range(rows)))))
    return layers


def write_network(path: Path, layers: list[Layer]) -> None:
    """Gemm and ReLU; the inputs are standardised by a scaler of the graph."""
    inputs = layers[0].columns
    draw = random.Random(inputs)
    mean = array("f", (float(draw.randrange(100, 1000)) for _ in range(inputs)))
    deviation = array("f", (float(draw.randrange(50, 500)) for _ in range(inputs)))
    tensors = [onnx.tensor("mean", [inputs], mean), onnx.tensor("deviation", [inputs], deviation)]
    nodes = [onnx.node("Sub", ["x", "mean"], ["centred"]), onnx.node("Div", ["centred", "deviation"], ["scaled"])]
    value = "scaled"
    for index, layer in enumerate(layers):
        tensors.append(onnx.tensor(f"w{index}", [layer.rows, layer.columns], layer.weights))
        tensors.append(onnx.tensor(f"b{index}", [layer.rows], layer.bias))
        last = index == len(layers) - 1
        out = "logits" if last else f"sum{index}"
        nodes.append(onnx.node("Gemm", [value, f"w{index}", f"b{index}"], [out], [onnx.integer("transB", 1)]))
        if not last:
            nodes.append(onnx.node("Relu", [out], [f"h{index}"]))
        value = f"h{index}"
    info = [onnx.value_info("x", onnx.FLOAT, inputs)], [onnx.value_info("logits", onnx.FLOAT, layers[-1].rows)]
    path.write_bytes(onnx.model(nodes, tensors, *info, ml=False))


def read_network(path: Path, shape: list[int]) -> list[Layer]:
    """The dense layers of a file that holds tensors of these sizes, told apart by name and order."""
    found = list(onnx.initializers(path).items())
    layers = []
    for columns, rows in zip(shape, shape[1:]):
        at = next(index for index, (_, (dims, _)) in enumerate(found) if dims == [rows, columns])
        name, (_, weights) = found.pop(at)
        bias = next(values for other, (_, values) in found if other == name.replace("weight", "bias"))
        layers.append(Layer(rows, columns, weights, bias))
    return layers


def forest(inputs: int, trees: int, depth: int) -> Forest:
    draw = random.Random(trees * 100 + depth)
    inner = (1 << depth) - 1

    def each(most: int, count: int) -> list[list[int]]:
        return [[draw.randrange(most) for _ in range(count)] for _ in range(trees)]

    return Forest(inputs, depth, each(inputs, inner), each(1000, inner), each(1 << 16, inner + 1))


def write_forest(path: Path, trees: Forest) -> None:
    """A classifier of two classes that adds up the leaves' shares."""
    nodes: dict[str, list] = {key: [] for key in (
        "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    leaves: dict[str, list] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    for tree, (features, limits, votes) in enumerate(zip(trees.features, trees.limits, trees.votes)):
        for place, (feature, limit) in enumerate(zip(features, limits)):
            row = [tree, place, feature, float(limit), "BRANCH_LEQ", 2 * place + 1, 2 * place + 2]
            for key, value in zip(nodes, row):
                nodes[key].append(value)
        for leaf, vote in enumerate(votes):
            place, share = len(features) + leaf, vote / (1 << 16)
            for key, value in zip(nodes, [tree, place, 0, 0.0, "LEAF", 0, 0]):
                nodes[key].append(value)
            for label, weight in ((0, 1 - share), (1, share)):
                for key, value in zip(leaves, [tree, place, label, weight / len(trees.votes)]):
                    leaves[key].append(value)
    attributes = [onnx.ints(f"nodes_{key}", nodes[key]) for key in nodes if key not in ("values", "modes")]
    attributes += [onnx.floats("nodes_values", nodes["values"]), onnx.strings("nodes_modes", nodes["modes"])]
    attributes += [onnx.ints(f"class_{key}", leaves[key]) for key in ("treeids", "nodeids", "ids")]
    attributes += [onnx.floats("class_weights", leaves["weights"]), onnx.ints("classlabels_int64s", [0, 1]),
                   onnx.string("post_transform", "NONE")]
    node = onnx.node("TreeEnsembleClassifier", ["x"], ["label", "scores"], attributes, "ai.onnx.ml")
    outputs = [onnx.value_info("label", onnx.INT64, 0), onnx.value_info("scores", onnx.FLOAT, 2)]
    path.write_bytes(onnx.model([node], [], [onnx.value_info("x", onnx.FLOAT, trees.inputs)], outputs, ml=True))
