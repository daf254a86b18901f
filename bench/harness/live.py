"""Live XDP frames on one processor: an empty drop program, inference alone, and every packet judged and dropped."""
from pathlib import Path

from .common import BENCH, Notebook, Spread, Table, less, ratios
from .kernel import Kernel, Subject, interleave
from .subjects import ACK, Inference, Published, calibration, compile_object, empty, frame, packets, spec


def measure(book: Notebook, tool: Path) -> None:
    directory = book.directory
    with Kernel(tool) as kernel:
        empty(kernel, directory)
        model, segment = BENCH / "models" / "dsn24.onnx", frame(directory, ACK)
        rows = calibration("dsn24", directory)
        calibrate = ["--calibrate", rows, "--max-flips", "0"] if rows else []
        inference = Inference(kernel, directory, "live-inference", model, spec("dsn24"), *calibrate)
        # Both specifications name their features alike.
        compile_object(model, spec("live"), directory / "live.o", *calibrate)
        packets(kernel, "live", directory / "live.o", enforce=True)
        subjects = {"empty": Subject("empty", "drop", segment), "inference": inference.subject,
                    "judged": Subject("live", "nn_entry", segment)}
        published = Published(kernel, directory, drop=True)
        subjects |= {"a judged": published.judged, "a ordinary": published.ordinary}
        verdict = kernel.ask("run", "live", "nn_entry", segment, 1000)["returned"]
        if verdict != 1:
            raise RuntimeError(f"the packet is not dropped: the program returns {verdict}")
        samples = interleave(kernel, subjects, book.rounds, "live")
    book.raw["live"] = samples
    out = Table("Live XDP frames, one processor", ["every packet", "million packets/s", "ns per packet", "of the empty program"])
    share = {name: ratios(samples["empty"], values) for name, values in samples.items()}
    for what, name in (("dropped by an empty program", "empty"), ("through the inference alone, 6-32-32-2", "inference"),
                       ("judged and dropped, flow state included", "judged"),
                       ("judged and dropped by (a)", "a judged"), ("counted and dropped by (a)", "a ordinary")):
        rate = Spread.of([1000 / value for value in samples[name]])
        out.rows.append([what, rate.text(2), Spread.of(samples[name]).text(1), share[name].text(3)])
    out.notes.append("All frames belong to one flow; time is the processor's, the kernel's own work for a frame included. "
                     "(a) is built to drop what it would pass.")
    book.tables.append(out)
    rate = Spread.of([1000 / value for value in samples["judged"]])
    extra = Spread.of(less(samples["judged"], samples["empty"]))
    book.target("every packet judged and dropped, flow state included, 6-32-32-2, one core, live XDP frames",
                "at least 3.5 million packets/s or 0.2 of the empty program",
                f"{rate.text(2)} million/s, {share['judged'].text(3)} of it, {extra.text()} ns more per packet",
                rate.median >= 3.5 or share["judged"].median >= 0.2)
