"""The kernel as the harness sees it: the tool of `tools/kernel.c`, and samples of programs that take turns."""
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .common import BENCH, CPU, run

# Time of one sample, so that an interruption weighs little.
SAMPLE_NS = 10_000_000
# Frames of one live sample: setting it up takes as long as thousands of frames.
LIVE_FRAMES = 500_000


def build(directory: Path) -> Path:
    """Compiles the tool."""
    tool = directory / "kernel"
    run("cc", "-O2", "-o", tool, BENCH / "tools" / "kernel.c", "-lbpf")
    return tool


class Kernel:
    """One process that loads and runs programs; they are gone when it ends."""

    def __init__(self, tool: Path, namespace: str = "", cpu: int | None = CPU):
        inside = ["ip", "netns", "exec", namespace] if namespace else []
        self.process = subprocess.Popen([*inside, str(tool)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if cpu is not None:
            os.sched_setaffinity(self.process.pid, {cpu})

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def send(self, *words: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()

    def receive(self, what: str) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the tool has ended"}
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"{what}: {answer['error']}")
        return answer

    def ask(self, *words: object) -> Any:
        self.send(*words)
        return self.receive(" ".join(str(word) for word in words[:3]))

    def load(self, name: str, path: Path) -> "Loaded":
        return Loaded(**self.ask("load", name, path))


@dataclass(frozen=True)
class Loaded:
    """What the kernel says of an object."""

    load_ms: float
    programs: list[dict[str, Any]]
    maps: list[dict[str, Any]]

    def program(self, name: str) -> dict[str, Any]:
        return next(program for program in self.programs if program["name"] == name)

    def map(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self.maps if entry["name"] == name)

    def verifier_us(self) -> int:
        return sum(program["verifier_us"] for program in self.programs)

    def locked(self) -> int:
        """Bytes of all maps and programs."""
        return sum(max(part["memlock"], 0) for part in [*self.programs, *self.maps])


@dataclass(frozen=True)
class Subject:
    """A program of a loaded object and the frame that it is run on."""

    name: str
    program: str
    frame: Path


def sample(kernel: Kernel, subject: Subject, repeat: int, how: str = "run") -> float:
    return float(kernel.ask(how, subject.name, subject.program, subject.frame, repeat)["ns"])


def interleave(kernel: Kernel, subjects: dict[str, Subject], rounds: int, how: str = "run") -> dict[str, list[float]]:
    """Nanoseconds of every subject, one sample of each in every round."""
    repeats = {}
    for key, subject in subjects.items():
        if how == "live":
            repeats[key] = LIVE_FRAMES
            continue
        guess = sample(kernel, subject, 200, how)
        repeats[key] = max(100, min(200_000, int(SAMPLE_NS / max(guess, 20))))
    samples: dict[str, list[float]] = {key: [] for key in subjects}
    for _ in range(rounds):
        for key, subject in subjects.items():
            samples[key].append(sample(kernel, subject, repeats[key], how))
    return samples
