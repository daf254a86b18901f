"""The network: its layers, how it is trained, how it is exported.

Not here: rows (rows.py), choice of the operating point and numbers (evaluate.py).
"""

import numpy as np
import torch
from torch import nn

# Long flows give a row at every N-th packet; rows of one flow share this much weight.
ROWS_PER_FLOW = 3.0


class Ids(nn.Module):
    """Scaler, hidden layers, two scores, probabilities. The scaler's numbers are constants of the exported graph."""

    def __init__(self, mean, scale, hidden):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        sizes = [len(mean), *hidden]
        layers = []
        for inputs, outputs in zip(sizes, sizes[1:]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))

    def scores(self, x):
        return self.layers((x - self.mean) / self.scale)

    def forward(self, x):
        return torch.softmax(self.scores(x), dim=1)


def weights(rows):
    """Row weights: flows alike whatever their length, kinds of attack nearer to each other than their counts are."""
    _, flow, rows_of = np.unique(rows.flow, return_inverse=True, return_counts=True)
    each = np.minimum(1.0, ROWS_PER_FLOW / rows_of[flow])
    total = {kind: each[rows.kind == kind].sum() for kind in np.unique(rows.kind)}
    attacks = {kind: amount for kind, amount in total.items() if kind != "benign"}
    root = sum(amount**0.5 for amount in attacks.values())
    for kind, amount in attacks.items():
        # The attacks together weigh as much as the ordinary flows.
        each[rows.kind == kind] *= (amount**0.5 / root) * total["benign"] / amount
    return each / each.mean()


def train(rows, hidden, seed, epochs=150, decay=2e-3, noise=0.03, rate=3e-3, outliers=0.1):
    """Trains on labelled rows; the same rows and seed give the same network."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    scale = rows.x.std(axis=0)
    model = Ids(rows.x.mean(axis=0), np.where(scale > 0, scale, 1.0), hidden)
    x = torch.tensor(rows.x, dtype=torch.float32)
    y = torch.tensor(rows.attack)
    weight = torch.tensor(weights(rows), dtype=torch.float32)
    if outliers:
        draw = np.random.default_rng(seed)
        shuffled = np.stack([draw.permutation(rows.x[:, column]) for column in range(rows.x.shape[1])], axis=1)
        x = torch.cat([x, torch.tensor(shuffled, dtype=torch.float32)])
        y = torch.cat([y, torch.ones(len(shuffled), dtype=y.dtype)])
        weight = torch.cat([weight, torch.full((len(shuffled),), outliers)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    batch = 256
    steps = epochs * -(-len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=order).split(batch):
            inputs = x[part] + noise * model.scale * torch.randn(len(part), x.shape[1], generator=order)
            loss = (nn.functional.cross_entropy(model.scores(inputs), y[part], reduction="none", label_smoothing=0.02) * weight[part]).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def margin(model, x):
    """Score of attack less score of benign, per row."""
    with torch.no_grad():
        scores = model.scores(torch.tensor(x, dtype=torch.float32)).numpy()
    return scores[:, 1] - scores[:, 0]


def shift(model, threshold):
    """Moves the operating point into the last bias: afterwards attack has the larger score where the margin was above `threshold`."""
    with torch.no_grad():
        model.layers[-1].bias += torch.tensor([threshold / 2, -threshold / 2], dtype=torch.float32)


def export(model, path, names):
    """Writes a plain graph: Sub, Div, Gemm, Relu, …, Softmax; the batch is free."""
    torch.onnx.export(
        model, (torch.zeros(1, len(names)),), path, dynamo=False, opset_version=17, input_names=["features"],
        output_names=["probabilities"], dynamic_axes={"features": {0: "batch"}, "probabilities": {0: "batch"}},
    )
