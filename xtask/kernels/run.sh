#!/usr/bin/env bash
# Boots Debian kernels under software emulation, loads objects there and compares verdicts with those of the virtual
# machine; prints a table. Work and downloads are in target/kernels; an image that is there is not looked for again.
# usage: make kernels, or xtask/kernels/run.sh [VERSION…] after a release build; NNBPF_BIN=DIR names another folder of
# binaries, MIRROR another mirror than that of apt's sources, BYTES how much of the capture is judged, LIMIT how many
# seconds a kernel may take, CASES another list of cases
set -euo pipefail
cd "$(dirname "$0")/../.."

here=xtask/kernels
work=target/kernels
nnbpfc=$(realpath "${NNBPF_BIN:-target/release}/nnbpfc")
suites="5.10=bullseye-security 6.1=bookworm-security 6.12=trixie-security 7=trixie-backports"
# Seconds that one kernel may take.
limit=${LIMIT:-1800}
skipped=0
failed=0
declare -A without=()

skip() { # skip WHAT WHY
	echo "SKIP $1: $2"
	skipped=$((skipped + 1))
}

if [ "$(uname -m)" != x86_64 ]; then
	skip kernels "the kernels are those of x86-64, this is $(uname -m)"
	exit 0
fi
mkdir -p "$work"
root=$work/root
rm -rf "$root" "$work/results"
mkdir -p "$root/bin" "$root/objects" "$root/inputs" "$root/proc" "$root/sys" "$root/dev" "$work/results"

install -m 755 $here/guest.sh "$root/init"
strip -o "$root/bin/nnbpfc" "$nnbpfc"
cp "$(command -v busybox)" "$root/bin/"
cp "$(command -v bpftool || echo /usr/sbin/bpftool)" "$root/bin/bpftool"
# A static one has none.
libraries=$({ ldd "$root"/bin/* 2>/dev/null || true; } | grep -o '/[^ :]*\.so[^ ]*' | sort -u)
for library in $libraries; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done

# The first whole packets of the shipped capture: a header of 24 bytes, then 16 bytes in front of each packet.
python3 -c '
import struct, sys
capture, end = open(sys.argv[1], "rb").read(), 24
while end < min(int(sys.argv[3]), len(capture)):
    end += 16 + struct.unpack_from("<I", capture, end + 8)[0]
open(sys.argv[2], "wb").write(capture[:end])
' testdata/ids/capture.pcap "$root/inputs/capture.pcap" "${BYTES:-200000}"

rows() { # rows COLUMNS: sixteen rows of numbers below 1,000, always the same
	awk -v columns="$1" 'BEGIN {
		for (row = -1; row < 16; row++)
			for (column = 0; column < columns; column++)
				printf "%s%s", row < 0 ? "x" column : (column * 7919 + row * 104729 + column * row * 31) % 1000,
					column + 1 < columns ? "," : "\n"
	}'
}

# Writes objects, expectations and the list of jobs for a target; names what the compiler refuses.
prepare() { # prepare TARGET FLAGS…
	local target=$1 name model spec builds oldest build flags arguments what code
	shift
	: >"$work/jobs-$target"
	while read -r name model spec builds oldest; do
		case "$name" in '#'* | '') continue ;; esac
		if [ "$spec" = - ]; then
			[ -e "$root/inputs/$name.onnx" ] || { made "$name" "$model" || continue; }
			model=$name.onnx arguments="eval inputs/$model --features inputs/$name.csv --calibrate inputs/$name.csv --max-flips 100%"
		else
			[ -e "$root/inputs/$name.onnx" ] || cp "$model" "$root/inputs/$name.onnx"
			cp "$spec" "$root/inputs/"
			arguments="replay inputs/$name.onnx inputs/${spec##*/} inputs/capture.pcap"
		fi
		for build in ${builds//,/ }; do
			case "$build" in
			whole) flags= ;;
			split) flags='--split layer' ;;
			const) flags='--weights const' ;;
			both) flags='--split layer --weights const' ;;
			esac
			what=$name-$build
			# shellcheck disable=SC2086
			if ! (cd "$root" && "$nnbpfc" $arguments $flags "$@" --engine vm \
				-o "inputs/$what-$target.csv" 2>log); then
				# Refused as it should be for a kernel that is too old, or by mistake.
				code=$(grep -o -m1 'E[0-9]\{4\}' "$root/log" || echo "without a code")
				[ "$target" = old ] && [ "$oldest" != 5.10 ] || code="refused, $code"
				echo "@ judge|$what|$code|$(grep -m1 '^error' "$root/log" || tail -n 1 "$root/log")" \
					>>"$work/refused-$target"
				continue
			fi
			# shellcheck disable=SC2086
			if [ "$spec" != - ]; then
				"$nnbpfc" "$model" "$spec" $flags "$@" -o "$root/objects/$what-$target.o" 2>/dev/null
				echo "load|$what|objects/$what-$target.o" >>"$work/jobs-$target"
			fi
			echo "judge|$what|inputs/$what-$target.csv $arguments $flags $*" >>"$work/jobs-$target"
		done
	done <"${CASES:-$here/cases}"
	rm -f "$root/log"
}

made() { # made NAME SHAPE: writes a network of that shape and its rows
	local place=$root/inputs/$1
	if [ ! -e bench/harness/models.py ]; then
		# Asked for once for each target, counted once.
		[ -n "${without[$1]:-}" ] || skip "$1" "bench/harness/models.py is not there"
		without[$1]=yes
		return 1
	fi
	PYTHONPATH=bench PYTHONDONTWRITEBYTECODE=1 python3 -c '
import sys
from pathlib import Path
from harness import models
models.write_network(Path(sys.argv[1]), models.network([int(width) for width in sys.argv[2].split("-")]))
' "$place.onnx" "$2"
	rows "${2%%-*}" >"$place.csv"
}

boot() { # boot VERSION IMAGE JOBS
	cp "$3" "$root/jobs"
	(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initramfs"
	# A busy machine can starve the emulated timer, so the kernel is told not to check it.
	timeout $limit nice -n 10 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 3072 -smp 2 \
		-kernel "$2" -initrd "$work/initramfs" -append "console=ttyS0 panic=-1 quiet no_timer_check" \
		-display none -monitor none -serial stdio -no-reboot -nic none </dev/null >"$work/console-$1" || true
	tr -d '\r' <"$work/console-$1" | grep -a -o '@ [a-z]*|.*' >>"$work/results/$1" || true
	# Whatever the kernel did not get to.
	while IFS='|' read -r kind name _; do
		grep -q -F "@ $kind|$name|" "$work/results/$1" || echo "@ $kind|$name|no result|see console-$1" >>"$work/results/$1"
	done <"$3"
}

rm -f "$work"/refused-* "$work"/jobs-*
versions=()
for pair in $suites; do
	version=${pair%%=*} suite=${pair#*=}
	[ $# -eq 0 ] || [[ " $* " == *" $version "* ]] || continue
	if ! image=$($here/fetch.sh "$suite" "$version" "$work" 2>"$work/why"); then
		skip "Linux $version" "$(tail -n 1 "$work/why")"
		continue
	fi
	# What is built by default is for 6.1.
	target=default flags=()
	[ "$version" != 5.10 ] || target=old flags=(--kernel "$version")
	[ -e "$work/jobs-$target" ] || prepare "$target" "${flags[@]}"
	versions+=("$version")
	[ ! -e "$work/refused-$target" ] || cp "$work/refused-$target" "$work/results/$version"
	echo "Linux $version: $(grep -c . "$work/jobs-$target") jobs"
	boot "$version" "$image" "$work/jobs-$target"
done
[ ${#versions[@]} -gt 0 ] || { echo "no kernel could be run, $skipped skipped"; exit 0; }

$here/table.sh "$work/results" "${versions[@]}" || failed=1
echo "$skipped skipped"
exit $failed
