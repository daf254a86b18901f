#!/usr/bin/env python3
"""Measures this compiler against the published DSN 2024 design, in one run, as ratios.

usage: run.py [--markdown FILE]

Baseline (a) is bench/baseline/dsn24.c. It counts as a fair stand-in only if it loads as seven programs of 3,000
to 4,500 instructions in total and its judged packet takes 35 to 50 times the empty program; the run says so.
Times are medians of the kernel's own test run, less the empty program of the same round.
The calibration rows come from ../shared/data/flows; without them nothing is measured.
"""
import csv
import gzip
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOWS = ROOT.parent / "shared" / "data" / "flows"
NNBPFC = ROOT / "target" / "release" / "nnbpfc"
PINS = Path(f"/sys/fs/bpf/nnbpf-bench-{os.getpid()}")
STAGES = ["scale", "layer_1", "relu_1", "layer_2", "relu_2", "layer_3"]
ROUNDS, REPEAT = 9, 100_000
SETS = {
    "dsn24": ("dsn24_nn_ebpf.csv.gz", {}),
    "cic6": (
        "cicids2017_improved_train.csv.gz",
        {
            "Dst Port": "dst_port",
            "Total Fwd Packet": "fwd_packets",
            "Total Length of Fwd Packet": "fwd_bytes",
            "Fwd Packet Length Min": "fwd_len_min",
            "Fwd Packet Length Max": "fwd_len_max",
            "Fwd Packet Length Std": "fwd_len_std",
        },
    ),
}


def run(*command):
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def calibration(name, directory):
    """The rows under the names of the specification's features."""
    source, columns = SETS[name]
    with gzip.open(FLOWS / source, "rt") as file:
        rows = list(csv.DictReader(file))
    columns = columns or {key: key for key in list(rows[0])[:6]}
    path = directory / f"{name}.csv"
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns.values())
        writer.writerows([row[column] for column in columns] for row in rows)
    return path


def frame(flags):
    """A TCP segment with 60 bytes of payload, the same as `nnbpfc bench` uses."""
    tcp = struct.pack(">HHIIBBHHH", 40000, 22, 1, 1, 0x50, flags, 1024, 0, 0)
    ip = struct.pack(">BBHHHBBH4B4B", 0x45, 0, 100, 1, 0x4000, 64, 6, 0, 192, 0, 2, 1, 192, 0, 2, 2)
    return bytes([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]) + ip + tcp + bytes(60)


class Baseline:
    """The C program in the kernel, pinned for the time of the run."""

    def __init__(self, directory):
        source = ROOT / "bench" / "baseline" / "dsn24.c"
        self.object = directory / "dsn24-baseline.o"
        include = f"-I/usr/include/{os.uname().machine}-linux-gnu"
        run("clang", "-g", "-O3", "-target", "bpf", "-mcpu=v3", include, "-c", source, "-o", self.object)
        PINS.mkdir()
        run("bpftool", "prog", "loadall", self.object, PINS / "programs", "pinmaps", PINS / "maps")
        for index, stage in enumerate(STAGES):
            key = ["key", "hex", f"{index:02x}", "00", "00", "00"]
            run("bpftool", "map", "update", "pinned", PINS / "maps" / "stages", *key,
                "value", "pinned", PINS / "programs" / stage)
        # Divisors must not be 0, which division treats apart; the rest may be anything.
        network = struct.pack("<12q", *[1 << 20] * 12) + struct.pack("<1280i", *range(-640, 640))
        self.write("networks", network)
        self.frames = {}
        for name, flags in (("ordinary", 0x10), ("judged", 0x11)):
            self.frames[name] = directory / name
            self.frames[name].write_bytes(frame(flags))

    def write(self, name, value):
        text = [f"{byte:02x}" for byte in value]
        for key in ("00", "01"):
            run("bpftool", "map", "update", "pinned", PINS / "maps" / name,
                "key", "hex", key, "00", "00", "00", "value", "hex", *text)

    def instructions(self):
        total = 0
        for program in ["packet", *STAGES]:
            shown = run("bpftool", "prog", "show", "pinned", PINS / "programs" / program)
            total += int(re.search(r"xlated (\d+)B", shown).group(1)) // 8
        return total

    def sample(self, program, which):
        shown = run("bpftool", "prog", "run", "pinned", PINS / "programs" / program, "data_in",
                    self.frames[which], "data_out", "/dev/null", "repeat", REPEAT)
        return int(re.search(r"duration \(average\): (\d+)ns", shown).group(1))

    def measure(self):
        rounds = {"empty": [], "ordinary": [], "judged": []}
        for _ in range(ROUNDS):
            rounds["empty"].append(self.sample("empty", "ordinary"))
            rounds["ordinary"].append(self.sample("packet", "ordinary"))
            rounds["judged"].append(self.sample("packet", "judged"))
        return {name: statistics.median(values) for name, values in rounds.items()}


def ours(name, rows, flips):
    """`nnbpfc bench` of a committed model, and the time of compiling it."""
    model, spec = ROOT / "bench" / "models" / f"{name}.onnx", ROOT / "specs" / f"{name}.spec"
    measured = json.loads(run(NNBPFC, "bench", model, spec, "--calibrate", rows, "--max-flips", flips, "--json"))
    return {key: value["median"] if isinstance(value, dict) else value for key, value in measured.items()}


def seconds(*command):
    start = time.monotonic()
    run(*command)
    return time.monotonic() - start


def load(model, name, rows, out):
    """Median seconds of loading all programs and maps of an object."""
    run(NNBPFC, model, ROOT / "specs" / f"{name}.spec", "--calibrate", rows, "-o", out)
    times = []
    for _ in range(ROUNDS):
        pins = PINS / "loaded"
        pins.mkdir()
        times.append(seconds("bpftool", "prog", "loadall", out, pins / "programs", "pinmaps", pins / "maps"))
        shutil.rmtree(pins)
    return statistics.median(times)


def main():
    if not FLOWS.is_dir():
        sys.exit("SKIP bench: ../shared/data/flows is missing, and with it the calibration rows")
    directory = Path(tempfile.mkdtemp(prefix="nnbpf-bench-"))
    try:
        lines = report(directory)
    finally:
        shutil.rmtree(directory)
        shutil.rmtree(PINS, ignore_errors=True)
    print("\n".join(lines))
    if len(sys.argv) == 3 and sys.argv[1] == "--markdown":
        Path(sys.argv[2]).write_text("\n".join(lines) + "\n")


def report(directory):
    baseline = Baseline(directory)
    instructions = baseline.instructions()
    a = baseline.measure()
    ratio = a["judged"] / a["empty"]
    fair = 3000 <= instructions <= 4500 and 35 <= ratio <= 50
    judged, ordinary = a["judged"] - a["empty"], a["ordinary"] - a["empty"]
    rows = {name: calibration(name, directory) for name in SETS}
    strict, cic, cic_strict = ours("dsn24", rows["dsn24"], "0"), ours("cic6", rows["cic6"], "0.1%"), ours("cic6", rows["cic6"], "0")
    out = directory / "out.o"
    model, spec = ROOT / "bench" / "models" / "cic6.onnx", ROOT / "specs" / "cic6.spec"
    plain = min(seconds(NNBPFC, model, spec, "-o", out) for _ in range(3))
    full = min(seconds(NNBPFC, model, spec, "--calibrate", rows["cic6"], "-o", out) for _ in range(3))
    loads = {name: load(ROOT / "bench" / "models" / f"{name}.onnx", name, rows[name], out) for name in SETS}
    again = baseline.measure()
    return [
        f"Baseline (a): 7 programs, {instructions} instructions, a judged packet {ratio:.1f} times the empty"
        f" program: {'a fair' if fair else 'NOT A FAIR'} stand-in.",
        f"Its judged packet took {judged:.0f} ns before and {again['judged'] - again['empty']:.0f} ns after the"
        " measurements in between.",
        "",
        "| measured, less the empty program | ns | flips | limit | (a) / this |",
        "|---|---:|---:|---|---:|",
        f"| (a): judged packet | {judged:.0f} | | | 1.0 |",
        f"| (a): ordinary packet | {ordinary:.0f} | | | 1.0 |",
        f"| 6-32-32-2 on DSN 2024, inference | {strict['inference_ns']} | {strict['flips']} of {strict['rows']} |"
        f" 130 ns, 7 times | {judged / strict['inference_ns']:.1f} |",
        f"| 6-32-32-2 on DSN 2024, judged packet | {strict['verdict_ns']} | {strict['flips']} |"
        f" | {judged / strict['verdict_ns']:.1f} |",
        f"| 6-32-32-2 on CIC-IDS2017, 0.1 % flips, inference | {cic['inference_ns']} | {cic['flips']} of"
        f" {cic['rows']} | 200 ns | {judged / cic['inference_ns']:.1f} |",
        f"| 6-32-32-2 on CIC-IDS2017, no flips, inference | {cic_strict['inference_ns']} |"
        f" {cic_strict['flips']} of {cic_strict['rows']} | 400 ns | {judged / cic_strict['inference_ns']:.1f} |",
        f"| ordinary packet of a known flow, dsn24 | {strict['packet_ns']} | | 0.8 of (a) |"
        f" {ordinary / strict['packet_ns']:.2f} |",
        "",
        f"Compiling 6-32-32-2 takes {plain * 1000:.0f} ms without calibration rows and {full * 1000:.0f} ms with"
        f" {cic['rows']} (limits 100 ms and 1 s), reading and writing files included.",
        f"Loading the object with `bpftool prog loadall` takes {loads['dsn24'] * 1000:.0f} ms (dsn24) and"
        f" {loads['cic6'] * 1000:.0f} ms (cic6), limit 20 ms.",
    ]


if __name__ == "__main__":
    main()
