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


def write_trees(path: Path, inputs: int, trees: int, depth: int) -> int:
    """A forest for two classes of complete trees; gives the number of its comparisons on one row."""
    draw = random.Random(trees * 100 + depth)
    columns: dict[str, list] = {key: [] for key in (
        "treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")}
    leaves: dict[str, list] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}
    first_leaf = (1 << depth) - 1
    for tree in range(trees):
        for place in range(2 * first_leaf + 1):
            leaf = place >= first_leaf
            row = [tree, place, 0 if leaf else draw.randrange(inputs), 0.0 if leaf else float(draw.randrange(1000)),
                   "LEAF" if leaf else "BRANCH_LEQ", 0 if leaf else 2 * place + 1, 0 if leaf else 2 * place + 2]
            for key, value in zip(columns, row):
                columns[key].append(value)
            if leaf:
                share = draw.random()
                for label, weight in ((0, share), (1, 1 - share)):
                    for key, value in zip(leaves, [tree, place, label, weight / trees]):
                        leaves[key].append(value)
    attributes = [onnx.ints(f"nodes_{key}", columns[key]) for key in columns if key not in ("values", "modes")]
    attributes += [onnx.floats("nodes_values", columns["values"]), onnx.strings("nodes_modes", columns["modes"])]
    attributes += [onnx.ints(f"class_{key}", leaves[key]) for key in ("treeids", "nodeids", "ids")]
    attributes += [onnx.floats("class_weights", leaves["weights"]), onnx.ints("classlabels_int64s", [0, 1]),
                   onnx.string("post_transform", "NONE")]
    forest = onnx.node("TreeEnsembleClassifier", ["x"], ["label", "scores"], attributes, "ai.onnx.ml")
    outputs = [onnx.value_info("label", onnx.INT64, 0), onnx.value_info("scores", onnx.FLOAT, 2)]
    path.write_bytes(onnx.model([forest], [], [onnx.value_info("x", onnx.FLOAT, inputs)], outputs, ml=True))
    return trees * depth
