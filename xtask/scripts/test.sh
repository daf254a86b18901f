#!/usr/bin/env bash
# Runs the workspace's tests and closes with totals: passed, failed, and each skip with its reason.
set -uo pipefail
cd "$(dirname "$0")/../.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ "$(id -u)" -ne 0 ]; then
	echo "not root: kernel tests will be skipped; to run them: sudo -E env PATH=\"\$PATH\" make test"
fi

# `--nocapture` keeps the SKIP lines of passing tests.
cargo test --workspace --no-fail-fast -- --nocapture 2>&1 | tee "$log"
status=${PIPESTATUS[0]}

passed=$(awk '/^test result:/ { sum += $4 } END { print sum + 0 }' "$log")
failed=$(awk '/^test result:/ { sum += $6 } END { print sum + 0 }' "$log")
skips=$(grep -ao 'SKIP [^:]*: .*' "$log" | sort -u)
skipped=$(printf '%s' "$skips" | grep -c . || true)
echo
if [ "$skipped" -gt 0 ]; then
	echo "skipped:"
	printf '%s\n' "$skips" | sed 's/^/  /'
fi
[ "$status" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "$passed passed, $failed failed, $skipped skipped"
exit "$status"
