"""What is measured, loaded into the kernel: our objects, baseline (a), the forms of baseline (b), and (d)."""
import csv
import gzip
import re
import struct
from pathlib import Path

from . import c_trees, int8
from .columns import SETS
from .common import BENCH, FLOWS, NNBPFC, ROOT, run
from .kernel import Kernel, Loaded, Subject
from .models import Forest, Layer

STAGES = ["scale", "layer_1", "relu_1", "layer_2", "relu_2", "layer_3"]
ACK, FIN_ACK = 0x10, 0x11

# Why a form of (b) does not exist, by the words of clang and libbpf.
REFUSALS = {
    "stack limit": "clang: the activations outgrow the stack",
    "Argument list too long": "the verifier: too many paths or instructions",
    "Invalid argument": "the verifier or clang's calls: not a program that the kernel takes",
}


def frame(directory: Path, flags: int) -> Path:
    """A TCP segment with 60 bytes of payload, the same as `nnbpfc bench` uses."""
    tcp = struct.pack(">HHIIBBHHH", 40000, 22, 1, 1, 0x50, flags, 1024, 0, 0)
    ip = struct.pack(">BBHHHBBH4B4B", 0x45, 0, 100, 1, 0x4000, 64, 6, 0, 192, 0, 2, 1, 192, 0, 2, 2)
    path = directory / f"frame-{flags:02x}"
    path.write_bytes(bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]) + ip + tcp + bytes(60))
    return path


def calibration(name: str, directory: Path) -> Path | None:
    """The training rows under the names of the specification's features, where they are at hand."""
    source, columns = SETS[name]
    if not (FLOWS / source).is_file():
        return None
    with gzip.open(FLOWS / source, "rt") as file:
        rows = list(csv.DictReader(file))
    path = directory / f"{name}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.values())
        writer.writerows([row[column] for column in columns] for row in rows)
    return path


def empty(kernel: Kernel, directory: Path) -> Subject:
    """Baseline (d)."""
    int8.clang(BENCH / "baseline" / "empty.c", directory / "empty.o")
    kernel.load("empty", directory / "empty.o")
    return Subject("empty", "pass", frame(directory, ACK))


class Published:
    """Baseline (a), which passes packets, or drops them for live frames."""

    def __init__(self, kernel: Kernel, directory: Path, drop: bool = False):
        out = directory / "dsn24-baseline.o"
        int8.clang(BENCH / "baseline" / "dsn24.c", out, *(["-DANSWER=XDP_DROP"] if drop else []))
        self.loaded = kernel.load("a", out)
        for index, stage in enumerate(STAGES):
            kernel.ask("tail", "a", "stages", index, stage)
        # Divisors must not be 0, which division treats apart; the rest may be anything.
        network = struct.pack("<12q", *[1 << 20] * 12) + struct.pack("<1280i", *range(-640, 640))
        (directory / "network.bin").write_bytes(network)
        for key in ("00000000", "01000000"):
            kernel.ask("file", "a", "networks", key, directory / "network.bin")
        self.ordinary = Subject("a", "packet", frame(directory, ACK))
        self.judged = Subject("a", "packet", frame(directory, FIN_ACK))
        kernel.ask("run", "a", "packet", self.ordinary.frame, 1)

    def instructions(self) -> int:
        return sum(program["instructions"] for program in self.loaded.programs)

    def flow_bytes(self) -> float:
        records = self.loaded.map("records")
        return records["memlock"] / records["max_entries"]


class Handwritten:
    """Baseline (b): every form that clang compiles and the verifier takes."""

    def __init__(self, kernel: Kernel, directory: Path, name: str, model: list[Layer] | Forest):
        self.subjects: dict[str, Subject] = {}
        self.loaded: dict[str, Loaded] = {}
        self.refused: dict[str, str] = {}
        for form, constant, unrolled in int8.forms():
            key = f"b-{name}-{form}".replace(" ", "-")
            try:
                if isinstance(model, Forest):
                    c_trees.compile_form(model, constant, unrolled, directory / f"{key}.o")
                else:
                    int8.compile_form(model, constant, unrolled, directory / f"{key}.o")
                self.loaded[form] = kernel.load(key, directory / f"{key}.o")
            except RuntimeError as error:
                known = (why for sign, why in REFUSALS.items() if sign in str(error))
                self.refused[form] = next(known, str(error))
                continue
            if not constant:
                values = directory / f"{key}.bin"
                values.write_bytes(c_trees.parameters(model) if isinstance(model, Forest) else int8.parameters(model))
                kernel.ask("file", key, "nets", "00000000", values)
            self.subjects[form] = Subject(key, "infer", frame(directory, ACK))

    def best(self, samples: dict[str, list[float]], constant: bool | None = None) -> tuple[str, list[float]]:
        """The form with the lowest median among those with constant weights, with a map, or all."""
        kind = {True: "const", False: "map", None: ""}[constant]
        forms = [form for form in self.subjects if form.startswith(kind)]
        form = min(forms, key=lambda form: sorted(samples[form])[len(samples[form]) // 2])
        return form, samples[form]


class Inference:
    """Our model alone."""

    def __init__(self, kernel: Kernel, directory: Path, name: str, model: Path, *options: object):
        folder = directory / f"objects-{name}"
        folder.mkdir()
        said = run(NNBPFC, "bench", model, *options, "--objects", folder)
        found = re.match(r"(\d+) of (\d+)", said)
        assert found
        self.flips, self.rows = int(found[1]), int(found[2])
        self.loaded = kernel.load(name, folder / "inference.o")
        kernel.ask("file", name, "nn_scratch", "00000000", folder / "scratch.bin")
        self.program = self.loaded.program("nn_bench")
        self.subject = Subject(name, "nn_bench", folder / "frame.bin")
        self.folder = folder

    def told(self) -> str:
        return f"{self.flips} of {self.rows:,}"

    def instructions(self) -> int:
        return sum(p["instructions"] for p in self.loaded.programs if p["name"] != "nn_entry")

    def verifier_us(self) -> int:
        return sum(p["verifier_us"] for p in self.loaded.programs if p["name"] != "nn_entry")

    def locked(self) -> int:
        """Without the program and the maps that judge rows of a file."""
        rows = ("nn_entry", "nn_inputs", "nn_outputs", ".data.nn_row")
        return sum(max(p["memlock"], 0) for p in [*self.loaded.programs, *self.loaded.maps] if p["name"] not in rows)


def compile_object(model: Path, spec: Path, out: Path, *options: object) -> None:
    run(NNBPFC, model, spec, *options, "-o", out)


def packets(kernel: Kernel, name: str, path: Path, enforce: bool = False) -> Loaded:
    """A shipped object with a blocked host and an allowed prefix in its lists."""
    loaded = kernel.load(name, path)
    kernel.ask("set", name, "nn_blocked", "0" * 20 + "ffff" + "c6336407", "ff" * 8)
    kernel.ask("set", name, "nn_allowed", "78000000" + "0" * 20 + "ffff" + "cb007100", "01000000")
    if enforce:
        kernel.ask("set", name, ".data.nn_config", "00000000", "01" + "00" * 15)
    return loaded


def spec(name: str) -> Path:
    here = BENCH / "specs" / f"{name}.spec"
    return here if here.is_file() else ROOT / "specs" / f"{name}.spec"
