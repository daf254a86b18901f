#!/usr/bin/env bash
# Runs the benchmark, prints its tables and writes them to target/bench; see bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
	echo "SKIP bench: needs root for BPF; run: sudo -E env PATH=\"\$PATH\" make bench"
	exit 0
fi
export PYTHONDONTWRITEBYTECODE=1
exec python3 bench/run.py "$@"
