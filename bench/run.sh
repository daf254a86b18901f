#!/usr/bin/env bash
# Runs the benchmark and prints its table; see bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" -ne 0 ]; then
	echo "SKIP bench: needs root for BPF; run: sudo -E env PATH=\"\$PATH\" make bench"
	exit 0
fi
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
exec python3 bench/run.py "$@"
