"""Joins extracted flows with the ground truth of their lab runs.

    python3 label.py -o labelled.csv.gz RUN:flows.csv:labels.csv ...
"""

import argparse

import rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("runs", nargs="+", metavar="RUN:FLOWS:LABELS")
    chosen = parser.parse_args()
    together = []
    for run, features, labels in (argument.split(":") for argument in chosen.runs):
        labelled, left_out = rows.label(features, labels, run)
        print(f"{run}: {len(labelled)} rows, {left_out} left out because they began between an attacking host's windows")
        together += labelled
    rows.write(chosen.out, together)


if __name__ == "__main__":
    main()
