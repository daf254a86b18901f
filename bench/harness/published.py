"""The networks 6-32-32-2 of the published data sets beside all baselines: the targets in nanoseconds and bytes."""
import resource
import time
from pathlib import Path

from . import models, plot
from .common import BENCH, NNBPFC, Notebook, Spread, Table, less, ratios, run
from .kernel import Kernel, Loaded, Subject, interleave
from .subjects import ACK, Handwritten, Inference, Published, calibration, compile_object, empty, frame, packets, spec

SHAPE = [6, 32, 32, 2]
# Of about 109,000 weights, with six inputs, so that a specification goes with it.
LARGE = [6, 330, 323, 2]
# (a)'s bytes per flow, of the published program.
PUBLISHED_FLOW = 424


def measure(book: Notebook, tool: Path) -> None:
    with Kernel(tool) as kernel:
        speed(book, kernel)
    compile_times(book)


def speed(book: Notebook, kernel: Kernel) -> None:
    directory = book.directory
    rows = {name: calibration(name, directory) for name in ("dsn24", "cic6")}
    for name, path in rows.items():
        if path is None:
            book.skip(f"calibration rows of {name}", "../shared/data/flows is missing; flips are counted on drawn rows")
    files = {name: BENCH / "models" / f"{name}.onnx" for name in rows}

    def ours(name: str, flips: str, *options: str) -> Inference:
        calibrate = ["--calibrate", rows[name]] if rows[name] else []
        key = "-".join([name, flips.strip("%"), *options]).replace("--", "")
        return Inference(kernel, directory, key, files[name], spec(name), *calibrate, "--max-flips", flips, *options)

    published = Published(kernel, directory)
    handwritten = Handwritten(kernel, directory, "dsn24", models.read_network(files["dsn24"], SHAPE))
    inferences = {
        "dsn24": ours("dsn24", "0"), "dsn24 const": ours("dsn24", "0", "--weights", "const"),
        "cic6 0.1 %": ours("cic6", "0.1%"), "cic6 0.1 % const": ours("cic6", "0.1%", "--weights", "const"),
        "cic6": ours("cic6", "0"), "cic6 const": ours("cic6", "0", "--weights", "const"),
    }
    subjects = {"empty": empty(kernel, directory), "a ordinary": published.ordinary, "a judged": published.judged}
    subjects |= handwritten.subjects | {name: one.subject for name, one in inferences.items()}
    objects = {}
    for name in ("dsn24", "untimed"):
        out = directory / f"packets-{name}.o"
        calibrate = ["--calibrate", rows[name]] if rows.get(name) else []
        compile_object(files["dsn24"], spec(name), out, *calibrate)
        objects[name] = packets(kernel, f"packets-{name}", out)
        subjects[f"ordinary {name}"] = Subject(f"packets-{name}", "nn_entry", frame(directory, ACK))
    verdict = inferences["dsn24"].folder
    packets(kernel, "verdict", verdict / "verdict.o")
    subjects["judged dsn24"] = Subject("verdict", "nn_entry", frame(directory, ACK))

    samples = interleave(kernel, subjects, book.rounds)
    book.raw["published"] = samples
    net = {name: less(values, samples["empty"]) for name, values in samples.items()}
    # What a verdict adds to a packet: the published programs do not run without one.
    net["a inference"] = less(net["a judged"], net["a ordinary"])
    fairness(book, published, samples)
    table(book, net, inferences, published, handwritten, objects)
    targets(book, net, inferences, handwritten)
    sizes(book, objects["dsn24"], published)


def fairness(book: Notebook, published: Published, samples: dict[str, list[float]]) -> None:
    ratio, count = ratios(samples["a judged"], samples["empty"]), published.instructions()
    fair = 3000 <= count <= 4500 and 35 <= ratio.median <= 50
    book.notes.append(f"Baseline (a): 7 programs, {count:,} instructions, a judged packet {ratio.text(1)} times the empty program: "
                      f"{'a fair' if fair else 'NOT A FAIR'} stand-in (3,000 to 4,500 instructions, 35 to 50 times).")


def table(book: Notebook, net: dict[str, list[float]], inferences: dict[str, Inference], published: Published,
          handwritten: Handwritten, objects: dict[str, Loaded]) -> None:
    out = Table("6-32-32-2", ["less the empty program", "ns", "flips", "(a) / this", "best (b) / this", "instructions",
                              "verifier, ms", "locked, KiB"])
    best = handwritten.best(net)[1]

    def row(what: str, key: str, over: str, rival: bool, flips: str = "", facts: tuple[int, int, int] | None = None) -> None:
        against = ratios(best, net[key]).text(1) if rival else ""
        told = [f"{facts[0]:,}", f"{facts[1] / 1000:.1f}", f"{facts[2] / 1024:,.0f}"] if facts else ["", "", ""]
        out.rows.append([what, Spread.of(net[key]).text(), flips, ratios(net[over], net[key]).text(1), against, *told])

    def whole(loaded: Loaded) -> tuple[int, int, int]:
        return sum(p["instructions"] for p in loaded.programs), loaded.verifier_us(), loaded.locked()

    row("(a): what a verdict adds to a packet", "a inference", "a inference", True)
    row("(a): judged packet", "a judged", "a judged", False, "not counted", whole(published.loaded))
    row("(a): ordinary packet", "a ordinary", "a ordinary", False)
    for form, loaded in handwritten.loaded.items():
        row(f"(b): int8, {form}", form, "a inference", True, "not counted", whole(loaded))
    for name, one in inferences.items():
        row(f"inference, {name}", name, "a inference", True, one.told(), (one.instructions(), one.verifier_us(), one.locked()))
    row("judged packet, dsn24", "judged dsn24", "a judged", False, inferences["dsn24"].told())
    row("ordinary packet, dsn24", "ordinary dsn24", "a ordinary", False, "", whole(objects["dsn24"]))
    row("ordinary packet, without time features", "ordinary untimed", "a ordinary", False, "", whole(objects["untimed"]))
    out.notes = [f"(b), {form}: refused, {why}" for form, why in handwritten.refused.items()]
    out.notes.append("Rows of packets count the whole object: (a) with 8,192 flows; ours with 8,192 flows, lists of 65,536 blocked hosts "
                     "and 1,024 allowed prefixes, and an event buffer of 2 MiB. Weights of (b) are the model's in int8, its labels are not compared.")
    book.tables.append(out)
    groups = {"(a)": "a inference", **{f"(b) {'constant' if constant else 'map'}": handwritten.best(net, constant)[0] for constant in (True, False)},
              "ours, map": "dsn24", "ours, constant": "dsn24 const"}
    spreads = [Spread.of(net[key]) for key in groups.values()]
    book.plots.append(plot.bars("inference.svg", "One inference of 6-32-32-2, less the empty program", "ns", list(groups), {"ns": spreads}))


def targets(book: Notebook, net: dict[str, list[float]], inferences: dict[str, Inference],
            handwritten: Handwritten) -> None:
    dsn, flips = Spread.of(net["dsn24"]), inferences["dsn24"]
    told = f"{flips.flips} flips of {flips.rows:,}"
    book.target("6-32-32-2 on DSN 2024, 0 flips, updatable", "at most 115 ns", f"{dsn.text()} ns, {told}",
                dsn.median <= 115 and flips.flips == 0, f"100 ns: {'met' if dsn.median <= 100 else 'missed'}")
    over = ratios(net["a inference"], net["dsn24"])
    book.target("the same against (a), verdict against verdict", "at least 8.5 times faster", f"{over.text(1)} times",
                over.median >= 8.5, f"10 times: {'met' if over.median >= 10 else 'missed'}")
    form, values = handwritten.best(net)
    over = ratios(values, net["dsn24"])
    book.target("the same against the best of (b)", "at least 3 times faster", f"{over.text(1)} times ({form})", over.median >= 3)
    for name, limit, flip_limit, stretch in (("cic6 0.1 %", 150, 0.001, ""), ("cic6", 300, 0.0, "160 ns")):
        one, spread = inferences[name], Spread.of(net[name])
        met = spread.median <= limit and one.flips <= one.rows * flip_limit
        further = f"160 ns: {'met' if spread.median <= 160 and one.flips == 0 else 'missed'}" if stretch else ""
        book.target(f"6-32-32-2 on CIC, {'at most 0.1 %' if flip_limit else '0'} flips", f"at most {limit} ns",
                    f"{spread.text()} ns, {one.flips} flips of {one.rows:,}", met, further)
    for name in ("dsn24", "cic6 0.1 %", "cic6"):
        over = ratios(net[name], net[f"{name} const"])
        before, after = inferences[name].instructions(), inferences[f"{name} const"].instructions()
        book.target(f"{name} with constant weights", "at least as fast, fewer instructions",
                    f"{over.text(2)} times as fast, {after:,} instructions against {before:,}", over.median >= 1 and after < before)
    for name, share_limit in (("dsn24", 0.6), ("untimed", 0.4)):
        share = ratios(net[f"ordinary {name}"], net["a ordinary"])
        what = "six features with one gap, lists in use, IPv6 and VLAN" if name == "dsn24" else "the same without time features"
        book.target(f"ordinary packet, {what}", f"at most {share_limit} of (a)", share.text(2), share.median <= share_limit)


def sizes(book: Notebook, loaded: Loaded, published: Published) -> None:
    flows = loaded.map("nn_flows")
    here = flows["memlock"] / flows["max_entries"]
    book.target("bytes locked per flow, IPv6 keys included", f"at most 0.4 of (a)'s {PUBLISHED_FLOW}: {0.4 * PUBLISHED_FLOW:.1f}",
                f"{here:.1f}, {here / PUBLISHED_FLOW:.3f} of it ((a) measured here: {published.flow_bytes():.1f})",
                here <= 0.4 * PUBLISHED_FLOW)
    slot = loaded.map(".data.nn_params")["value_size"] / 2
    book.target("parameters per slot, 6-32-32-2", "at most 4.5 KiB", f"{slot:,.0f} bytes", slot <= 4.5 * 1024)


def children() -> float:
    """Seconds of processor time of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compile_times(book: Notebook) -> None:
    """Wall time of the command, reading and writing files included."""
    for shape, limit in ((SHAPE, 50), (LARGE, 1000)):
        name = "-".join(map(str, shape))
        model, out = book.directory / f"compile-{name}.onnx", book.directory / "compiled.o"
        models.write_network(model, models.network(shape))
        times, work = [], []
        for _ in range(book.rounds):
            begin, before = time.monotonic(), children()
            run(NNBPFC, model, spec("dsn24"), "-o", out)
            times.append((time.monotonic() - begin) * 1000)
            work.append((children() - before) * 1000)
        spread = Spread.of(times)
        book.target(f"compiling {name} ({models.macs(shape):,} weights) without calibration rows", f"at most {limit} ms",
                    f"{spread.text()} ms, of processors {Spread.of(work).text()} ms", spread.median <= limit)
