"""The published experiment: 1, 8, 32, 128 TCP flows at full rate over a veth pair, watched by nobody, by the detector in
the kernel, by tcpdump, and by a detector on libpcap."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

from . import net, onnxruntime, plot
from .common import BENCH, Notebook, Skip, Spread, Table, ratios
from .kernel import Kernel
from .subjects import calibration, compile_object, packets, spec

FLOWS, QUICK_FLOWS = [1, 8, 32, 128], [1, 32]
MILLISECONDS, BYTES, PORT = 1000, 4 << 20, 5001
MODEL = BENCH / "models" / "dsn24.onnx"
NOBODY, DETECTOR, TCPDUMP, LIBPCAP = "nobody", "detector", "tcpdump", "libpcap"


def measure(book: Notebook, tool: Path) -> None:
    directory = book.directory
    traffic = net.build_traffic(directory)
    rows = calibration("dsn24", directory)
    compile_object(MODEL, spec("dsn24"), directory / "experiment.o", *(["--calibrate", rows] if rows else []))
    watchers, library = [NOBODY, DETECTOR], "-"
    if shutil.which("tcpdump"):
        watchers.append(TCPDUMP)
    else:
        book.skip("experiment: tcpdump", "it is not installed")
    if Path("/usr/include/pcap/pcap.h").is_file():
        net.build_userspace(directory, pcap=True)
        watchers.append(LIBPCAP)
        try:
            library = str(onnxruntime.library())
        except Skip as reason:
            book.skip("experiment: inference in user space", str(reason))
    else:
        book.skip("experiment: libpcap", "its header is missing: install libpcap-dev")
    flows = QUICK_FLOWS if book.quick else FLOWS
    points: dict[tuple[int, str], list[dict[str, float]]] = {(count, who): [] for count in flows for who in watchers}
    for _ in range(book.rounds):
        for count, who in points:
            with net.Lab() as lab:
                points[count, who].append(point(lab, tool, directory, traffic, library, who, count))
    book.raw["experiment"] = {f"{count} {who}": runs for (count, who), runs in points.items()}
    write(book, flows, watchers, points)


def busy() -> tuple[float, int]:
    """Seconds that all processors together have worked, and context switches, since boot."""
    lines = Path("/proc/stat").read_text().splitlines()
    user, nice, system, _, _, irq, softirq = (int(word) for word in lines[0].split()[1:8])
    switches = next(int(line.split()[1]) for line in lines if line.startswith("ctxt"))
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK"), switches


def process_share(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Nanoseconds on a processor and context switches of a process."""
    folder = Path(f"/proc/{process.pid}")
    spent = int((folder / "schedstat").read_text().split()[0])
    lines = [line.split() for line in (folder / "status").read_text().splitlines()]
    return spent, sum(int(line[1]) for line in lines if line[0].endswith("ctxt_switches:"))


def dropped(process: subprocess.Popen[str]) -> int:
    """Ends a watcher; the packets that it says it has lost."""
    out, words = net.finish(process)
    if out.strip():
        return json.loads(out)["lost"]
    found = re.search(r"(\d+) packets? dropped by kernel", words)
    return int(found[1]) if found else 0


def point(lab: net.Lab, tool: Path, directory: Path, traffic: Path, library: str, who: str, flows: int) -> dict[str, float]:
    """One second of traffic."""
    lab.start(lab.b, traffic, "serve", PORT)
    kernel, process = None, None
    try:
        if who == DETECTOR:
            kernel = Kernel(tool, lab.b, cpu=None)
            packets(kernel, "detector", directory / "experiment.o")
            kernel.ask("attach", "detector", "nn_entry", net.IN)
            kernel.ask("stats", "on")
        elif who == TCPDUMP:
            process = lab.start(lab.b, "tcpdump", "-n", "-i", net.IN, "-w", "/dev/null", ready="")
            # Its first words tell that it captures.
            assert process.stderr
            process.stderr.readline()
        elif who == LIBPCAP:
            process = lab.start(lab.b, directory / "userspace-pcap", net.IN, MODEL, library, 6, 2)

        def own() -> tuple[float, float, float]:
            """Nanoseconds, context switches, packets."""
            if kernel:
                spent = kernel.ask("spent", "detector", "nn_entry")
                return spent["ns"], 0, spent["runs"]
            return (*process_share(process), 0) if process else (0, 0, 0)

        before, own_before, seen = busy(), own(), lab.received()
        begin = time.monotonic()
        sent = lab.ask(lab.a, traffic, "load", net.RECEIVER, PORT, flows, MILLISECONDS, BYTES)
        seconds = time.monotonic() - begin
        after, own_after, count = busy(), own(), lab.received() - seen
        lost = max(count - (own_after[2] - own_before[2]), 0) if kernel else dropped(process) if process else 0
    finally:
        if kernel:
            kernel.close()
    return {
        "gbit": sent["bytes"] * 8 / seconds / 1e9, "packets": count / seconds,
        "share": (own_after[0] - own_before[0]) / seconds / 1e7, "own_ns": (own_after[0] - own_before[0]) / max(count, 1),
        "own_switches": (own_after[1] - own_before[1]) / seconds,
        "lost": 100 * lost / max(count, 1), "switches": (after[1] - before[1]) / seconds, "busy_ns": (after[0] - before[0]) * 1e9 / max(count, 1),
    }


def write(book: Notebook, flows: list[int], watchers: list[str], points: dict[tuple[int, str], list[dict[str, Any]]]) -> None:
    out = Table("The published experiment: TCP flows at full rate over a veth pair",
                ["flows", "watched by", "thousand packets/s", "of unwatched", "its share of one processor, %", "its ns per packet",
                 "packets that it lost, %", "its context switches/s", "all context switches/s", "all processor time per packet, of unwatched"])
    for count in flows:
        for who in watchers:
            runs, alone = points[count, who], points[count, NOBODY]

            def of(key: str, by: list[dict[str, Any]] = runs) -> list[float]:
                return [one[key] for one in by]

            out.rows.append([
                str(count), who, Spread.of([value / 1000 for value in of("packets")]).text(), ratios(of("packets"), of("packets", alone)).text(2),
                Spread.of(of("share")).text(2), Spread.of(of("own_ns")).text(), Spread.of(of("lost")).text(2), Spread.of(of("own_switches")).text(),
                Spread.of(of("switches")).text(), ratios(of("busy_ns"), of("busy_ns", alone)).text(2),
            ])
    out.notes = [
        "Segments are as on a wire (no TSO, GSO or GRO). The detector's time is the kernel's run time accounting of its program, "
        "that of the others is their processes' and leaves out what the kernel does to hand them packets.",
        "XDP on a veth pair makes the driver copy packets of TCP, which counts as all processor time and not as the detector's.",
    ]
    book.tables.append(out)
    watching = [who for who in watchers if who != NOBODY]
    for key, title, unit in (("share", "Share of one processor", "%"), ("own_switches", "Context switches of the watcher", "per s")):
        series = {who: [Spread.of([run[key] for run in points[count, who]]) for count in flows] for who in watching}
        book.plots.append(plot.bars(f"experiment-{key.replace('_', '-')}.svg", title, unit, [f"{count} flows" for count in flows], series))
