"""Models of many shapes: ns per inference and per packet, packets per second, and what the kernel says of each.

A second table and a plot show how the cost grows with the number of multiply-accumulates.
"""
import math
from dataclasses import dataclass, field
from pathlib import Path

from . import models, plot
from .common import Notebook, Spread, Table, less, ratios
from .kernel import Kernel, Loaded, Subject, interleave
from .subjects import ACK, Handwritten, Inference, compile_object, empty, frame, packets, spec

DENSE = [[6, 2], [6, 8, 2], [6, 32, 32, 2], [12, 64, 64, 4], [64, 64, 64, 10], [784, 128, 64, 10]]
QUICK = [[6, 2], [6, 8, 2], [6, 32, 32, 2], [784, 128, 64, 10]]
TREES = [(1, 6), (10, 5), (100, 5)]  # trees, depth
# Hidden layers of so many neurons, 64 inputs: from 64x64 to a million weights.
GROWTH = [64, 128, 256, 512, 724, 1000]
# Our reading of linear: no size costs more per multiply-accumulate than this many times what the smallest does.
LINEAR = 1.1
PACKET_INPUTS = 6
KIB = 1024


@dataclass
class Case:
    """A model, and what of it is measured."""

    name: str
    macs: int
    inference: Inference
    handwritten: Handwritten
    constant: Inference | None = None
    shipped: Loaded | None = None
    notes: list[str] = field(default_factory=list)


def measure(book: Notebook, tool: Path) -> None:
    with Kernel(tool) as kernel:
        many(book, kernel)
    with Kernel(tool) as kernel:
        growth(book, kernel)


def prepare(book: Notebook, kernel: Kernel, name: str, path: Path, count: int,
            model: list[models.Layer] | models.Forest) -> Case:
    case = Case(name, count, Inference(kernel, book.directory, name, path), Handwritten(kernel, book.directory, name, model))
    case.notes = [f"(b) {name}, {form}: refused, {why}" for form, why in case.handwritten.refused.items()]
    if not isinstance(model, models.Forest):
        case.constant = Inference(kernel, book.directory, f"{name}-const", path, "--weights", "const")
    if isinstance(model, models.Forest) or model[0].columns == PACKET_INPUTS:
        out = book.directory / f"{name}-live.o"
        compile_object(path, spec("live"), out)
        case.shipped = packets(kernel, f"live-{name}", out, enforce=True)
    return case


def many(book: Notebook, kernel: Kernel) -> None:
    directory = book.directory
    cases = []
    for shape in QUICK if book.quick else DENSE:
        name = "-".join(map(str, shape))
        layers = models.network(shape)
        models.write_network(directory / f"{name}.onnx", layers)
        cases.append(prepare(book, kernel, name, directory / f"{name}.onnx", models.macs(shape), layers))
    for trees, depth in TREES[:2] if book.quick else TREES:
        name = f"{trees}-trees-of-depth-{depth}"
        forest = models.forest(PACKET_INPUTS, trees, depth)
        models.write_forest(directory / f"{name}.onnx", forest)
        cases.append(prepare(book, kernel, name, directory / f"{name}.onnx", forest.compares(), forest))

    nothing = empty(kernel, directory)
    subjects, live = {"empty": nothing}, {"drop": Subject("empty", "drop", nothing.frame)}
    for case in cases:
        subjects[case.name] = case.inference.subject
        if case.constant:
            subjects[f"{case.name} const"] = case.constant.subject
        subjects |= {f"{case.name} (b) {form}": subject for form, subject in case.handwritten.subjects.items()}
        if case.shipped:
            judged = Subject(f"live-{case.name}", "nn_entry", frame(directory, ACK))
            subjects[f"{case.name} packet"] = live[case.name] = judged
    samples = interleave(kernel, subjects, book.rounds)
    frames = interleave(kernel, live, book.rounds, "live")
    book.raw["shapes"], book.raw["shapes live"] = samples, frames
    net = {key: less(values, samples["empty"]) for key, values in samples.items()}
    write(book, cases, net, frames)


def write(book: Notebook, cases: list[Case], net: dict[str, list[float]], frames: dict[str, list[float]]) -> None:
    out = Table("Shapes: networks, a linear model, trees",
                ["model", "multiply-accumulates or comparisons", "flips", "inference, ns", "per ns", "constant weights, ns",
                 "best (b) / this", "judged packet, ns", "live, million packets/s", "instructions", "verifier, ms", "locked, KiB"])
    for case in cases:
        time = Spread.of(net[case.name])
        against = constant = packet = rate = ""
        locked = case.inference.locked()
        if case.constant:
            constant = Spread.of(net[f"{case.name} const"]).text()
        if case.handwritten.subjects:
            rivals = {form: net[f"{case.name} (b) {form}"] for form in case.handwritten.subjects}
            form, values = case.handwritten.best(rivals)
            against = f"{ratios(values, net[case.name]).text(1)}, {form}"
        if case.shipped:
            packet = Spread.of(net[f"{case.name} packet"]).text()
            rate = Spread.of([1000 / ns for ns in frames[case.name]]).text(2)
            locked = case.shipped.locked()
        # Below the clock's resolution of a nanosecond nothing is said.
        each = f"{case.macs / time.median:.1f}" if time.median >= 5 else ""
        out.rows.append([case.name, f"{case.macs:,}", case.inference.told(), time.text(), each, constant, against, packet, rate,
                         f"{case.inference.instructions():,}", f"{case.inference.verifier_us() / 1000:.1f}", f"{locked / KIB:,.0f}"])
        out.notes += case.notes
    out.notes.append("Without calibration rows the ranges that the specification declares count, so packets may be judged by a wider and slower "
                     "plan than rows are.")
    out.notes.append("Locked memory is that of the whole object where packets are measured (8,192 flows, lists, event buffer), "
                     "else of the model alone; instructions and verifier time are the model's.")
    book.tables.append(out)
    big = "784-128-64-10"
    case = next(case for case in cases if case.name == big)
    time = Spread.of(net[big])
    book.target(big, "at most 6 µs", f"{time.text()} ns, {case.inference.told()} flips", time.median <= 6000)
    book.target(f"{big}, multiply-accumulates per ns", "at least 20", f"{case.macs / time.median:.1f}", case.macs / time.median >= 20)
    parts = sum(program["name"] not in ("nn_entry", "nn_bench") for program in case.inference.loaded.programs)
    book.target(f"{big}, programs", "one", f"{parts + 1}", parts == 0)


def growth(book: Notebook, kernel: Kernel) -> None:
    directory = book.directory
    subjects = {"empty": empty(kernel, directory)}
    sizes, facts = {}, {}
    for width in GROWTH[::2] + GROWTH[-1:] if book.quick else GROWTH:
        shape = [64, width, width, 2]
        name = "-".join(map(str, shape))
        models.write_network(directory / f"{name}.onnx", models.network(shape))
        one = Inference(kernel, directory, f"growth-{name}", directory / f"{name}.onnx")
        subjects[name], sizes[name], facts[name] = one.subject, models.macs(shape), one
    samples = interleave(kernel, subjects, book.rounds)
    book.raw["growth"] = samples
    net = {key: less(values, samples["empty"]) for key, values in samples.items()}
    out = Table("Growth", ["model", "multiply-accumulates", "flips", "inference, ns", "per ns", "instructions", "verifier, ms"])
    each, points = [], []
    for name, count in sizes.items():
        time = Spread.of(net[name])
        each.append(count / time.median)
        points.append((count, time))
        one = facts[name]
        out.rows.append([name, f"{count:,}", one.told(), time.text(), f"{each[-1]:.1f}", f"{one.instructions():,}",
                         f"{one.verifier_us() / 1000:.1f}"])
    book.tables.append(out)
    worst = each[0] / min(each)
    exponent = math.log(points[-1][1].median / points[0][1].median) / math.log(points[-1][0] / points[0][0])
    book.target("cost grows linearly from 64x64 to a million weights",
                f"at no size more than {LINEAR} times the cost per multiply-accumulate at 64x64",
                f"{worst:.2f} times; {each[0]:.1f} multiply-accumulates per ns at 64x64, {each[-1]:.1f} at a million; time grows with "
                f"the power {exponent:.2f} of their number", worst <= LINEAR)
    book.plots.append(plot.growth(points))
