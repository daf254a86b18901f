"""The results as Markdown and JSON."""
import dataclasses
import json
from pathlib import Path

from .common import Notebook, Table


def lines(table: Table) -> list[str]:
    out = [f"## {table.title}", "", "| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    out += ["| " + " | ".join(row) + " |" for row in table.rows]
    return out + [""] + [f"- {note}" for note in table.notes] + ([""] if table.notes else [])


def markdown(book: Notebook, machine: str) -> str:
    met = sum(target.met for target in book.targets)
    out = ["# Benchmark", "", f"{machine}; {book.rounds} interleaved rounds; median (minimum to maximum).", ""]
    out += [f"- {note}" for note in book.notes] + [""]
    targets = Table(f"Targets: {met} of {len(book.targets)} met", ["what", "target", "measured", "", "stretch"])
    targets.rows = [[t.what, t.limit, t.measured, "met" if t.met else "MISSED", t.stretch] for t in book.targets]
    for table in [targets, *book.tables]:
        out += lines(table)
    out += [f"![{Path(plot).stem}]({plot})" for plot in book.plots]
    out += ["", f"Skipped: {len(book.skips)}", ""] + [f"- {skip}" for skip in book.skips]
    return "\n".join(out) + "\n"


def results(book: Notebook, machine: str, out: Path) -> str:
    text = markdown(book, machine)
    (out / "results.md").write_text(text)
    content = {key: value for key, value in dataclasses.asdict(book).items() if key != "directory"}
    (out / "results.json").write_text(json.dumps({"machine": machine, **content}, indent=1) + "\n")
    return text
