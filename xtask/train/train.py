"""Trains the intrusion-detection network of `specs/ids.spec` and measures it on a lab run that it never saw.

    python3 train.py --train train.csv.gz --test test.csv.gz --out testdata/ids

The training file holds several lab runs; the run named by `--validation` chooses the operating point and nothing else.
The test file is another run: other hosts, and kinds of attack that occur in no training run.
"""

import argparse
import csv
import json
import os

import numpy as np
import onnxruntime
import torch

import evaluate
import network
import rows as data

CALIBRATION_ROWS = 3000
# `on attack when p >= 0.95` in specs/ids.spec.
RULE = 0.95


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--train", required=True, help="labelled rows of the training runs (label.py)")
    parser.add_argument("--validation", default="run-3", help="name of the validation run in that file")
    parser.add_argument("--test", required=True, help="labelled rows of the run that is judged")
    parser.add_argument("--out", required=True, help="folder for ids.onnx, calibration.csv, metrics.json, metrics.md")
    parser.add_argument("--hidden", default="32,16", help="widths of the hidden layers")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=150)
    return parser.parse_args()


def no_leak(train, test):
    """Held-out kinds and the test's hosts must not occur in training."""
    hosts = lambda rows: {end for flow in rows.flow for end in flow.split("|")[2:4]}
    if train.held_out.any():
        raise SystemExit("a training run holds kinds that are to be held out")
    if shared := hosts(train) & hosts(test):
        raise SystemExit(f"hosts occur in training and test: {sorted(shared)[:5]}")


def calibration(path, train, seed):
    """A sample of the training rows: every kind in it, and the rows that hold a feature's least or greatest value."""
    draw = np.random.default_rng(seed)
    chosen = {int(row) for row in (*train.x.argmin(axis=0), *train.x.argmax(axis=0))}
    for kind in np.unique(train.kind):
        of = np.flatnonzero(train.kind == kind)
        share = max(50, round(CALIBRATION_ROWS * len(of) / len(train.kind)))
        chosen.update(draw.permutation(of)[:share].tolist())
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(train.names)
        for row in sorted(chosen):
            writer.writerow([repr(value).removesuffix(".0") for value in train.x[row].tolist()])


def main():
    chosen = arguments()
    torch.set_num_threads(1)
    everything, test = data.load(chosen.train), data.load(chosen.test)
    if everything.names != test.names:
        raise SystemExit(f"features differ: {everything.names} and {test.names}")
    train = everything.pick(everything.run != chosen.validation)
    validation = everything.pick(everything.run == chosen.validation)
    no_leak(everything, test)

    model = network.train(train, [int(width) for width in chosen.hidden.split(",")], chosen.seed, chosen.epochs)
    network.shift(model, evaluate.operating_point(validation, network.margin(model, validation.x)))
    os.makedirs(chosen.out, exist_ok=True)
    target = os.path.join(chosen.out, "ids.onnx")
    network.export(model, target, train.names)
    session = onnxruntime.InferenceSession(target)
    probability = session.run(None, {"features": test.x.astype(np.float32)})[0]
    said = probability.argmax(axis=1) == 1
    calibration(os.path.join(chosen.out, "calibration.csv"), train, chosen.seed)

    tree, tuned_tree = evaluate.tree(train, validation, test, lambda rows: rows.x, 4, chosen.seed)
    port, tuned_port = evaluate.tree(train, validation, test, lambda rows: rows.port, None, chosen.seed)
    results = {"network": evaluate.measure(test, said), "depth-4 tree": tree, "depth-4 tree, tuned": tuned_tree,
               "port only": port, "port only, tuned": tuned_port}
    parts = {
        "validation": evaluate.measure(validation, network.margin(model, validation.x) > 0),
        "threshold_of_the_rule": evaluate.measure(test, probability[:, 1] >= RULE),
        "live_verdicts": evaluate.measure(test.pick(test.live), said[test.live]),
        "known_kinds": evaluate.measure(test.pick(test.held_out == 0), said[test.held_out == 0]),
        "held_out_kinds": evaluate.measure(test.pick((test.held_out == 1) | (test.kind == "benign")),
                                           said[(test.held_out == 1) | (test.kind == "benign")]),
    }
    with open(os.path.join(chosen.out, "metrics.json"), "w", encoding="utf-8") as file:
        json.dump({"features": train.names, "hidden": chosen.hidden, "seed": chosen.seed, "train_rows": len(train.kind),
                   "validation_rows": len(validation.kind), "test": results, "network_on": parts}, file, indent=1)
        file.write("\n")
    text = evaluate.table(results)
    with open(os.path.join(chosen.out, "metrics.md"), "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    for name, part in parts.items():
        print(f"{name}: F1 {part['f1']:.4f}, recall {part['recall']:.4f}, false positives {part['false_positive_rate']:.4f} of verdicts, "
              f"{part['false_positive_rate_flows']:.4f} of flows")


if __name__ == "__main__":
    main()
