"""Baseline (c), user space, beside the kernel: processor time per packet, and how late a verdict is."""
import json
import statistics
import time
from pathlib import Path
from typing import Any

from . import net, onnxruntime
from .common import BENCH, Notebook, Spread, Table, ratios
from .kernel import Kernel
from .subjects import compile_object, packets, spec

# Flows of ten packets: sent as fast as possible, and one packet every so many microseconds.
FLOOD, PACED, GAP_US = 10_000, 200, 200
MODEL = BENCH / "models" / "dsn24.onnx"
SIZES = (6, 2)


def measure(book: Notebook, tool: Path) -> None:
    library = onnxruntime.library()
    directory = book.directory
    traffic = net.build_traffic(directory)
    ways = {"packet socket and onnxruntime": net.build_userspace(directory, pcap=False)}
    if Path("/usr/include/pcap/pcap.h").is_file():
        ways["libpcap and onnxruntime"] = net.build_userspace(directory, pcap=True)
    else:
        book.skip("user: libpcap", "its header is missing: install libpcap-dev")
    compile_object(MODEL, spec("watch"), directory / "watch.o")
    rounds = book.rounds
    flood: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    paced: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    kernel: list[dict[str, float]] = []
    for _ in range(rounds):
        for way, program in ways.items():
            flood[way].append(userspace(program, library, traffic, FLOOD, 0))
            paced[way].append(userspace(program, library, traffic, PACED, GAP_US))
        kernel.append(in_kernel(tool, directory / "watch.o", traffic))
    book.raw["user"] = {"flood": flood, "paced": paced, "kernel": kernel}
    write(book, flood, paced, kernel)


def userspace(program: Path, library: Path, traffic: Path, flows: int, gap: int) -> dict[str, Any]:


    with net.Lab() as lab:
        watcher = lab.start(lab.b, program, net.IN, MODEL, library, *SIZES)
        lab.ask(lab.a, traffic, "frames", net.OUT, flows, gap)
        time.sleep(0.1)
        return json.loads(net.finish(watcher)[0])


def in_kernel(tool: Path, path: Path, traffic: Path) -> dict[str, float]:
    """Run time per packet under a flood, and how late the verdict and its event are."""
    with net.Lab() as lab, Kernel(tool, lab.b, cpu=None) as kernel:
        packets(kernel, "watch", path)
        kernel.ask("attach", "watch", "nn_entry", net.IN)
        kernel.ask("stats", "on")
        lab.ask(lab.a, traffic, "frames", net.OUT, FLOOD, 0)
        time.sleep(0.1)
        spent = kernel.ask("spent", "watch", "nn_entry")
        kernel.ask("stats", "off")
        kernel.ask("events", "watch", "nn_events", 50)
        kernel.send("events", "watch", "nn_events", 500 + PACED * 10 * GAP_US // 1000)
        sent = dict(lab.ask(lab.a, traffic, "frames", net.OUT, PACED, GAP_US))
        events = [event for event in kernel.receive("events") if event[1] in sent]
    verdicts = [seen - sent[port] for seen, port, _ in events]
    readers = [read - sent[port] for _, port, read in events]
    return {"cpu_ns": spent["ns"] / max(spent["runs"], 1), "packets": spent["runs"], "verdicts": len(events),
            "arrival_median": statistics.median(verdicts), "arrival_99": sorted(verdicts)[len(verdicts) * 99 // 100],
            "reader_median": statistics.median(readers), "reader_99": sorted(readers)[len(readers) * 99 // 100]}


def write(book: Notebook, flood: dict[str, list[dict[str, Any]]], paced: dict[str, list[dict[str, Any]]],
          kernel: list[dict[str, float]]) -> None:
    out = Table("User space and kernel: 6-32-32-2, a verdict every ten packets over a veth pair",
                ["detector", "processor time per packet, ns", "times the kernel's", "packets lost", "context switches per 1,000 packets", "one inference, ns",
                 "latency of a verdict, µs: median", "99 of 100"])

    def micro(values: list[float]) -> str:
        return Spread.of([value / 1000 for value in values]).text(1)

    base = [run["cpu_ns"] for run in kernel]
    for way, runs in flood.items():
        seen = [max(run["packets"], 1) for run in runs]
        each = [run["cpu_ns"] / count for run, count in zip(runs, seen)]
        out.rows.append([
            way, Spread.of(each).text(), ratios(each, base).text(1),
            Spread.of([run["lost"] for run in runs]).text(),
            Spread.of([run["switches"] * 1000 / count for run, count in zip(runs, seen)]).text(1),
            Spread.of([run["infer_ns"] for run in runs]).text(),
            micro([run["latency_median"] for run in paced[way]]), micro([run["latency_99"] for run in paced[way]]),
        ])
    cpu = Spread.of(base).text()
    out.rows.append(["this compiler's XDP program: the packet's arrival there", cpu, "1", "0", "0", "",
                     micro([run["arrival_median"] for run in kernel]), micro([run["arrival_99"] for run in kernel])])
    out.rows.append(["its event at a reader in user space", "", "", "", "", "", micro([run["reader_median"] for run in kernel]),
                     micro([run["reader_99"] for run in kernel])])
    out.notes = [
        f"Processor time under {FLOOD * 10:,} packets as fast as they come: of the process in user space, which leaves out the kernel's "
        "copy into the ring; of the program in the kernel, by its run time accounting, which costs time itself.",
        f"Latency with one packet every {GAP_US} µs, from before `send` to the verdict; in the kernel the program reads the clock when the "
        "packet arrives, and the verdict follows within the time of a judged packet.",
    ]
    book.tables.append(out)
