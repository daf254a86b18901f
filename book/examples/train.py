"""Trains the book's network on labelled flows and exports it to ONNX.

    python3 train.py FLOWS.csv.gz MODEL.onnx [SEED]
"""

import csv
import gzip
import sys

import torch


class Classifier(torch.nn.Module):
    """Two hidden layers; the scaler is part of the model, so the kernel gets raw features."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(len(mean), 16),
            torch.nn.ReLU(),
            torch.nn.Linear(16, 8),
            torch.nn.ReLU(),
            torch.nn.Linear(8, 2),
        )

    def forward(self, x):
        return self.layers((x - self.mean) / self.std)


def read(path):
    """Features stand between the columns `trigger` and `kind`, in the order of the specification."""
    with gzip.open(path, "rt", newline="") as file:
        header, *rows = csv.reader(file)
    first, kind = header.index("trigger") + 1, header.index("kind")
    x = torch.tensor([[float(cell) for cell in row[first:kind]] for row in rows])
    y = torch.tensor([int(row[kind] != "benign") for row in rows])
    return x, y


def main(flows, model, seed=1):
    torch.manual_seed(int(seed))
    x, y = read(flows)
    network = Classifier(x.mean(0), x.std(0) + 1e-6)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(60):
        for batch in torch.randperm(len(x)).split(256):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
    right = (network(x).argmax(1) == y).float().mean().item()
    print(f"{len(x)} flows, {right:.1%} of them judged right")
    network.eval()
    torch.onnx.export(
        network,
        x[:1],
        model,
        input_names=["features"],
        output_names=["scores"],
        dynamic_axes={"features": {0: "flows"}},
        opset_version=17,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
