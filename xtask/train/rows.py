"""Feature rows of `nnbpfc extract`, joined with the ground truth of the lab.

Not here: models (network.py) and numbers about them (evaluate.py).
"""

import csv
import gzip
import io
from dataclasses import dataclass

import numpy as np

SECOND = 10**9
# Columns of `nnbpfc extract` before the features.
META = ("first_ns", "last_ns", "src", "dst", "sport", "dport", "proto", "trigger")
# Columns that labelling adds after the features.
ADDED = ("kind", "held_out", "run")
BENIGN = "benign"


def open_text(path, mode="rt"):
    """Plain or gzip, by the name; gzip without a time stamp, so that equal rows give equal bytes."""
    if not path.endswith(".gz"):
        return open(path, mode, encoding="utf-8", newline="")
    if "w" in mode:
        return io.TextIOWrapper(gzip.GzipFile(path, "wb", 9, mtime=0), encoding="utf-8", newline="")
    return gzip.open(path, mode, encoding="utf-8", newline="")


@dataclass
class Rows:
    """Labelled rows: `x` is (rows, features) float64, the other arrays have one entry per row."""

    names: list
    x: np.ndarray
    kind: np.ndarray
    held_out: np.ndarray
    run: np.ndarray
    port: np.ndarray
    trigger: np.ndarray
    flow: np.ndarray

    @property
    def attack(self):
        return (self.kind != BENIGN).astype(np.int64)

    @property
    def live(self):
        """Verdicts that a running program gives; `eof` rows exist in captures only."""
        return self.trigger != "eof"

    def pick(self, mask):
        return Rows(self.names, self.x[mask], self.kind[mask], self.held_out[mask], self.run[mask], self.port[mask],
                    self.trigger[mask], self.flow[mask])


def windows(path):
    """Attack windows per source host."""
    found = {}
    with open_text(path) as file:
        for row in csv.DictReader(file):
            found.setdefault(row["source"], []).append((int(row["start_ns"]), int(row["end_ns"]), row["kind"], row["held_out"]))
    return found


def truth(row, found):
    """Kind of a flow: it is an attack's when an attacking host is one of its ends and it began in that host's window."""
    for host in (row["src"], row["dst"]):
        for start, end, kind, held_out in found.get(host, ()):
            if start - SECOND <= int(row["first_ns"]) <= end + 2 * SECOND:
                return kind, held_out
        if host in found:
            # Late packets of an attacking host outside of every window are neither one thing nor the other.
            return None
    return BENIGN, "0"


def label(features, labels, run):
    """The rows of one run as dictionaries with their ground truth, and how many were left out."""
    found = windows(labels)
    labelled, left_out = [], 0
    with open_text(features) as file:
        for row in csv.DictReader(file):
            known = truth(row, found)
            if known is None:
                left_out += 1
            else:
                labelled.append({**row, "kind": known[0], "held_out": known[1], "run": run})
    return labelled, left_out


def write(path, labelled):
    """Writes labelled rows."""
    with open_text(path, "wt") as file:
        writer = csv.DictWriter(file, labelled[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(labelled)


def load(path):
    """Reads a labelled file."""
    with open_text(path) as file:
        reader = csv.DictReader(file)
        names = [name for name in reader.fieldnames if name not in META + ADDED]
        rows = list(reader)
    column = lambda name, kind: np.array([kind(row[name]) for row in rows])
    return Rows(
        names,
        np.array([[float(row[name]) for name in names] for row in rows]),
        column("kind", str), column("held_out", int), column("run", str),
        np.array([[int(row["dport"]), int(row["proto"])] for row in rows], dtype=np.float64),
        column("trigger", str),
        np.array(["|".join(row[name] for name in ("run", "first_ns", "src", "dst", "sport", "dport", "proto")) for row in rows]),
    )
