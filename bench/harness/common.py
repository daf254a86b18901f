"""Paths, commands and the notebook that sections of the benchmark write into."""
import math
import os
import statistics
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench"
FLOWS = ROOT.parent / "shared" / "data" / "flows"
RELEASE = Path(os.environ.get("NNBPF_BIN", ROOT / "target" / "release"))
NNBPFC = RELEASE / "nnbpfc"
CPU = 0


class Skip(Exception):
    """What this machine cannot run, with the reason."""


def run(*command: object) -> str:
    """Standard output of a command that must succeed; its errors otherwise."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"{Path(str(command[0])).name} failed: {' / '.join(words[:3])}")
    return done.stdout


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum of interleaved rounds."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(samples: list[float]) -> "Spread":
        return Spread(min(samples), statistics.median(samples), max(samples))

    def text(self, digits: int = 0) -> str:
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def ratios(over: list[float], under: list[float]) -> Spread:
    """Round by round, so that a machine which changes its speed changes both."""
    return Spread.of([a / b if b > 0 else math.inf for a, b in zip(over, under)])


def less(values: list[float], base: list[float]) -> list[float]:
    return [value - other for value, other in zip(values, base)]


@dataclass
class Target:
    what: str
    limit: str
    measured: str
    met: bool
    stretch: str = ""


@dataclass
class Table:
    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Notebook:
    """Everything that a run has found out."""

    directory: Path
    rounds: int
    quick: bool
    targets: list[Target] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    plots: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def target(self, what: str, limit: str, measured: str, met: bool, stretch: str = "") -> None:
        self.targets.append(Target(what, limit, measured, met, stretch))

    def skip(self, what: str, reason: str) -> None:
        print(f"SKIP {what}: {reason}", flush=True)
        self.skips.append(f"{what}: {reason}")
