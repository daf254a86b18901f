#!/bin/sh
# Trains and measures the shipped model from the files in testdata/ids, in a Python environment of its own.
#
#   xtask/train/run.sh                   rows of the committed training file, committed capture as the test
#   xtask/train/run.sh --collect FOLDER  first makes the training file anew from lab runs in FOLDER/run-N
#
# Lab runs for --collect: for n in 0 1 2 3; do xtask/lab/run.sh --part train --seed $n --seconds 240 --out FOLDER/run-$n; done
# NNBPFC names the compiler to extract with (default: built with cargo); IDS_PYTHON a Python that has requirements.txt.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
data=$root/testdata/ids
work=$root/out/ids
mkdir -p "$work"

nnbpfc() {
    if [ -n "${NNBPFC:-}" ]; then
        "$NNBPFC" "$@"
    else
        cargo run --quiet --manifest-path "$root/Cargo.toml" --bin nnbpfc -- "$@"
    fi
}

if [ -z "${IDS_PYTHON:-}" ]; then
    if [ ! -x "$work/python/bin/python" ]; then
        python3 -m venv "$work/python"
        "$work/python/bin/pip" install --quiet -r "$here/requirements.txt"
    fi
    IDS_PYTHON=$work/python/bin/python
fi

if [ "${1:-}" = --collect ]; then
    runs=
    for folder in "$2"/run-*; do
        name=$(basename "$folder")
        nnbpfc extract "$root/specs/ids.spec" "$folder/capture.pcap" -o "$work/$name.csv"
        runs="$runs $name:$work/$name.csv:$folder/labels.csv"
    done
    # The list is split into words on purpose.
    # shellcheck disable=SC2086
    "$IDS_PYTHON" -B "$here/label.py" -o "$data/train.csv.gz" $runs
fi

nnbpfc extract "$root/specs/ids.spec" "$data/capture.pcap" -o "$work/flows.csv"
"$IDS_PYTHON" -B "$here/label.py" -o "$data/flows.csv.gz" "test:$work/flows.csv:$data/labels.csv"
"$IDS_PYTHON" -B "$here/train.py" --train "$data/train.csv.gz" --validation run-3 --test "$data/flows.csv.gz" --out "$data"
