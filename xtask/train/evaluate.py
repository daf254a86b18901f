"""Numbers about a classifier on rows it never saw, and the two simple models it must beat.

Not here: training the network (network.py).
"""

import numpy as np
from sklearn.tree import DecisionTreeClassifier

# Operating points are chosen on validation rows at half of the false-positive rate that is allowed.
VALIDATION_FALSE_POSITIVES = 0.01


def operating_point(rows, score, most=VALIDATION_FALSE_POSITIVES):
    """The most sensitive threshold whose false-positive rates stay within `most`: of rows, of flows, and of the flows judged live."""
    benign = rows.attack == 0
    return max(_bound(score[benign], most), _bound(_worst(rows, score, benign), most), _bound(_worst(rows, score, benign & rows.live), most))


def _worst(rows, score, mask):
    """The highest score of each flow."""
    _, flow = np.unique(rows.flow[mask], return_inverse=True)
    worst = np.full(flow.max() + 1, -np.inf)
    np.maximum.at(worst, flow, score[mask])
    return worst


def _bound(scores, most):
    """The threshold that at most this share of the scores lies above."""
    return float(np.sort(scores)[::-1][int(most * len(scores))])


def measure(rows, said):
    """Accuracy, F1 and the rest, from the rows said to be attacks."""
    said = said.astype(bool)
    attack = rows.attack.astype(bool)
    hit, false = (said & attack).sum(), (said & ~attack).sum()
    benign_flows = np.unique(rows.flow[~attack])
    accused = np.unique(rows.flow[said & ~attack])
    recall = {}
    for kind in np.unique(rows.kind[attack]):
        of = rows.kind == kind
        recall[str(kind)] = {"recall": float(said[of].mean()), "rows": int(of.sum()), "held_out": bool(rows.held_out[of][0])}
    return {
        "accuracy": float((said == attack).mean()),
        "f1": float(2 * hit / max(1, said.sum() + attack.sum())),
        "precision": float(hit / max(1, said.sum())),
        "recall": float(hit / max(1, attack.sum())),
        "mean_recall_of_kinds": float(np.mean([one["recall"] for one in recall.values()])) if recall else 0.0,
        "false_positive_rate": float(false / max(1, (~attack).sum())),
        "false_positive_rate_flows": float(len(accused) / max(1, len(benign_flows))),
        "rows": int(len(said)), "benign_rows": int((~attack).sum()), "attack_rows": int(attack.sum()),
        "benign_flows": int(len(benign_flows)),
        "kinds": recall,
    }


def tree(train, validation, test, columns, depth, seed):
    """A decision tree in two ways: as it comes, and at an operating point chosen like the network's."""
    model = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(columns(train), train.attack)
    score = lambda rows: model.predict_proba(columns(rows))[:, 1]
    threshold = operating_point(validation, score(validation))
    return measure(test, score(test) > 0.5), measure(test, score(test) > threshold)


def table(results):
    """A Markdown table, one column per model."""
    names = list(results)
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for key, title in (("accuracy", "accuracy"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall"),
                       ("mean_recall_of_kinds", "mean recall of the kinds"), ("false_positive_rate", "false-positive rate, verdicts"),
                       ("false_positive_rate_flows", "false-positive rate, flows")):
        lines.append(f"| {title} | " + " | ".join(f"{100 * results[name][key]:.2f} %" for name in names) + " |")
    for kind, one in next(iter(results.values()))["kinds"].items():
        mark = " (held out)" if one["held_out"] else ""
        lines.append(f"| recall of {kind}{mark}, {one['rows']} rows | "
                     + " | ".join(f"{100 * results[name]['kinds'][kind]['recall']:.1f} %" for name in names) + " |")
    return "\n".join(lines) + "\n"
