"""Two network namespaces joined by a veth pair, and processes in them; all of it goes away."""
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from .common import BENCH, Skip, run

SENDER, RECEIVER = "192.0.2.1", "192.0.2.2"
OUT, IN = "nnbench0", "nnbench1"


def sweep() -> None:
    """Removes the namespaces of runs that were killed."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        parts = name.split("-")
        if parts[0] == "nnbench" and len(parts) == 3 and not Path(f"/proc/{parts[1]}").exists():
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Lab:
    """`a` sends on one end of the pair, `b` receives on the other; segments go over it one by one, as on a wire."""

    def __init__(self) -> None:
        self.a, self.b = (f"nnbench-{os.getpid()}-{side}" for side in "ab")
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Lab":
        try:
            sweep()
            for side in (self.a, self.b):
                run("ip", "netns", "add", side)
            run("ip", "link", "add", OUT, "netns", self.a, "type", "veth", "peer", "name", IN, "netns", self.b)
            for side, name, address in ((self.a, OUT, SENDER), (self.b, IN, RECEIVER)):
                run("ip", "-n", side, "addr", "add", f"{address}/24", "dev", name)
                run("ip", "-n", side, "link", "set", "lo", "up")
                run("ip", "-n", side, "link", "set", name, "up")
                run("ip", "netns", "exec", side, "ethtool", "-K", name, "tso", "off", "gso", "off", "gro", "off")
        except (RuntimeError, OSError) as error:
            self.__exit__()
            raise Skip(f"no namespaces with a veth pair: {error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for side in (self.a, self.b):
            subprocess.run(["ip", "netns", "del", side], capture_output=True)

    def start(self, side: str, *command: object, ready: str = "ready") -> subprocess.Popen[str]:
        """A process in a namespace; waits for its line `ready` on standard output."""
        words = ["ip", "netns", "exec", side, *(str(part) for part in command)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.started.append(process)
        assert process.stdout and process.stderr
        if ready and process.stdout.readline().strip() != ready:
            raise RuntimeError(f"{Path(str(command[0])).name}: {process.stderr.read().strip()}")
        return process

    def ask(self, side: str, *command: object) -> Any:
        return json.loads(run("ip", "netns", "exec", side, *command))

    def received(self) -> int:
        """Packets at the receiving end."""
        return int(run("ip", "netns", "exec", self.b, "cat", f"/sys/class/net/{IN}/statistics/rx_packets"))


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends a process that waits for SIGTERM; what it has printed as results and as messages."""
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=30)
    if process.returncode > 0:
        raise RuntimeError(errors.strip())
    return out, errors


def build_traffic(directory: Path) -> Path:
    out = directory / "traffic"
    run("cc", "-O2", "-o", out, BENCH / "tools" / "traffic.c")
    return out


def build_userspace(directory: Path, pcap: bool) -> Path:
    """Baseline (c)."""
    out = directory / ("userspace-pcap" if pcap else "userspace")
    options = ["-DPCAP"] if pcap else []
    run("cc", "-O3", *options, "-o", out, BENCH / "baseline" / "userspace.c", "-ldl", *(["-lpcap"] if pcap else []))
    return out
