#!/usr/bin/env python3
"""Trains the two 6-32-32-2 networks of the benchmark and writes them with their calibration rows.

usage: train.py SHARED_FLOWS_DIR OUT_DIR

dsn24.onnx: the six features of the DSN 2024 design on its published flows.
cic6.onnx:  six features of the corrected CIC-IDS2017 training part.
Both are standardised inside the graph (Sub, Div) and exported as plain Gemm/Relu.
The calibration rows go to OUT_DIR too; they are other people's data and stay out of the repository.
"""
import csv
import gzip
import sys
from pathlib import Path

import numpy
import torch

from harness.columns import CIC6, DSN24


class Classifier(torch.nn.Module):
    def __init__(self, mean, deviation):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
        )

    def forward(self, x):
        return self.layers((x - self.mean) / self.deviation)


def train(rows, labels, epochs):
    torch.manual_seed(1)
    x = torch.tensor(rows, dtype=torch.float64)
    mean, deviation = x.mean(0), x.std(0).clamp_min(1e-9)
    x = ((x - mean) / deviation).float()
    y = torch.tensor(labels)
    model = Classifier(mean.float(), deviation.float())
    optimiser = torch.optim.Adam(model.layers.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        for start in range(0, len(x), 256):
            batch = order[start : start + 256]
            loss = torch.nn.functional.cross_entropy(model.layers(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    with torch.no_grad():
        accuracy = (model.layers(x).argmax(1) == y).double().mean().item()
    print(f"accuracy on its own rows: {accuracy:.4f}")
    return model.eval()


def export(model, path):
    torch.onnx.export(
        model, torch.zeros(1, 6), path, dynamo=False, opset_version=17, input_names=["features"],
        output_names=["logits"], dynamic_axes={"features": {0: "batch"}, "logits": {0: "batch"}},
    )


def write(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read(flows, source):
    """All rows, the features of each, and the features' names."""
    path, columns = source
    with gzip.open(flows / path, "rt") as file:
        table = list(csv.DictReader(file))
    return table, [[row[name] for name in columns] for row in table], columns.values()


def main():
    flows, out = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(2)
    table, text, names = read(flows, DSN24)
    model = train(numpy.array(text, dtype=float), [int(row["label"]) for row in table], 30)
    export(model, out / "dsn24.onnx")
    write(out / "dsn24.csv", names, text)

    table, text, names = read(flows, CIC6)
    model = train(numpy.array(text, dtype=float), [int(row["Label"] != "BENIGN") for row in table], 40)
    export(model, out / "cic6.onnx")
    write(out / "cic6.csv", names, text)


if __name__ == "__main__":
    main()
