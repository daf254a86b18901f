#!/usr/bin/env python3
"""Measures this compiler beside four baselines; writes a table and plots to target/bench.

usage: run.py [--quick] [--only SECTION[,SECTION...]]

Sections: published, shapes, live, user, experiment. `bench/README.md` says what each measures.
"""
import argparse
import importlib
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from harness import kernel, write
from harness.common import ROOT, Notebook, Skip

SECTIONS = ["published", "shapes", "live", "user", "experiment"]
ROUNDS, QUICK_ROUNDS = 9, 3


def processor() -> str:
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} processors ({names[0] if names else platform.machine()}), Linux {platform.release()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shapes and flows")
    parser.add_argument("--only", default="", help="sections, separated by commas")
    options = parser.parse_args()
    chosen = options.only.split(",") if options.only else SECTIONS
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    out = ROOT / "target" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="nnbpf-bench-"))
    book = Notebook(directory, QUICK_ROUNDS if options.quick else ROUNDS, options.quick)
    failed = False
    # Whoever ends this run ends it through the clean-up below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        tool = kernel.build(directory)
        for section in chosen:
            begin = time.monotonic()
            try:
                importlib.import_module(f"harness.{section}").measure(book, tool)
            except Skip as reason:
                book.skip(section, str(reason))
            except Exception as error:  # One section that fails leaves the results of the others.
                traceback.print_exc()
                book.notes.append(f"FAILED {section}: {error}")
                failed = True
            print(f"{section}: {time.monotonic() - begin:.0f} s", flush=True)
    finally:
        shutil.rmtree(directory)
    busy = os.getloadavg()[0]
    if busy > 1.5:
        book.notes.append(f"The load average was {busy:.1f} in the end: other work may have slowed what was measured.")
    print(write.results(book, processor(), out))
    print(f"written to {out.relative_to(ROOT)}: results.md, results.json" + "".join(f", {plot}" for plot in book.plots))
    print(f"{sum(t.met for t in book.targets)} of {len(book.targets)} targets met, {len(book.skips)} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
