#!/usr/bin/env bash
# Runs the workspace's tests and closes with totals: passed, failed, and each skip with its reason.
# Arguments go to cargo, for example `-p nnbpf-compiler`.
set -uo pipefail
cd "$(dirname "$0")/../.."

# What `install.sh test` has fetched.
if [ -z "${NNBPF_ONNX_NODE_TESTS:-}" ] && [ -e target/onnx-node-tests/complete ]; then
	export NNBPF_ONNX_NODE_TESTS=$PWD/target/onnx-node-tests
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ "$(id -u)" -ne 0 ]; then
	echo "not root: kernel tests will be skipped; to run them: sudo -E env PATH=\"\$PATH\" make test"
fi
[ "$#" -gt 0 ] || set -- --workspace

# `--nocapture` keeps the SKIP lines of passing tests.
cargo test --no-fail-fast "$@" -- --nocapture 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

count() { # count FIELD: sums a column of cargo's result lines, which may follow the output of a test
	grep -ao 'test result: .*' "$log" | awk -v field="$1" '{ sum += $field } END { print sum + 0 }'
}
passed=$(count 4)
failed=$(count 6)
skips=$(grep -ao 'SKIP [^:]*: .*' "$log" | sort -u)
skipped=$(printf '%s' "$skips" | grep -c . || true)
echo
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	printf '%s\n' "$skips" | sed 's/^/  /'
fi
# A build that fails, or a process that dies, has no result line.
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
