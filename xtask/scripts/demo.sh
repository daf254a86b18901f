#!/usr/bin/env bash
# The shipped model judges the committed capture in the kernel, on a veth pair of its own; then hosts are blocked.
# Everything that is made here (namespaces, pins, files) is removed at the end, also of an interrupted run.
# usage: make demo, or xtask/scripts/demo.sh after a release build; NNBPF_BIN=DIR names another folder of binaries
set -euo pipefail
cd "$(dirname "$0")/../.."

ids=testdata/ids
spec=specs/ids.spec
bin=${NNBPF_BIN:-target/release}
nnbpfc=$bin/nnbpfc
nnbpf=$bin/nnbpf
xtask=$bin/xtask

work=$(mktemp -d)
inside=nnbpf-demo-$$-in
outside=nnbpf-demo-$$-out
pins=/sys/fs/bpf/nnbpf-demo-$$
mounted=
reader=

cleanup() {
	[ -z "$reader" ] || kill "$reader" 2>/dev/null || true
	[ ! -e "$pins" ] || "$nnbpf" unload --pin "$pins" >/dev/null 2>&1 || true
	for namespace in "$inside" "$outside"; do
		[ ! -e "/run/netns/$namespace" ] || ip netns delete "$namespace" || true
	done
	[ -z "$mounted" ] || umount /sys/fs/bpf || true
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() { # shows a command, then runs it
	printf '  $ %s\n' "$(sed -e "s|^within [^ ]* ||; s|$work/||g; s|$bin/||g; s|$pins|PINS|g" <<<"$*")"
	"$@"
}
within() { # within NAMESPACE COMMAND…; unlike `ip netns exec` this keeps /sys and so bpffs
	nsenter --net="/run/netns/$1" "${@:2}"
}
counters() { # prints the named counters of the installed program
	within "$inside" "$nnbpf" status --pin "$pins" |
		awk -v names=" $* " 'NF == 2 && $2 ~ /^[0-9]+$/ && index(names, " " $1 " ") { printf "  %-14s %8d\n", $1, $2 }'
}

step "1. Compile the model"
run "$nnbpfc" $ids/ids.onnx $spec --calibrate $ids/calibration.csv -o "$work/ids.o"
echo "  $(wc -c <"$work/ids.o") bytes: packet parser, flow table, features, network, rules"

"$nnbpfc" extract $spec $ids/capture.pcap -o "$work/flows.csv"

# What the kernel is to be compared with: the reference interpreter on the same capture.
replay() { # replay ENGINE
	"$nnbpfc" replay $ids/ids.onnx $spec $ids/capture.pcap --calibrate $ids/calibration.csv \
		--engine "$1" -o "$work/$1.csv"
}
table() { # table REPORTS…
	"$xtask" verdicts --flows "$work/flows.csv" --labels $ids/labels.csv --class attack --reports "$@"
}

# Is BPF permitted here, with network namespaces and bpffs?
why=
if ! "$nnbpf" status >/dev/null 2>"$work/why"; then
	why=$(head -n 1 "$work/why")
elif ! mountpoint -q /sys/fs/bpf; then
	if mount -t bpf bpf /sys/fs/bpf 2>"$work/why"; then mounted=yes; else why=$(head -n 1 "$work/why"); fi
fi
if [ -z "$why" ] && ! { ip netns add "$inside" && ip netns add "$outside"; } 2>"$work/why"; then
	why=$(head -n 1 "$work/why")
fi
if [ -n "$why" ]; then
	step "2. BPF cannot be used here, so the program runs in the virtual machine, outside of the kernel"
	echo "  the reason: $why"
	replay vm
	table "$work/vm.csv" --verdicts "$work/vm.csv"
	echo "  For the kernel, run this as root on a machine or in a container that permits BPF: sudo make demo"
	exit 0
fi

ip link add demo0 netns "$inside" type veth peer name demo1 netns "$outside"
for end in "$inside demo0" "$outside demo1"; do
	read -r namespace interface <<<"$end"
	# Nothing but the capture is to pass here.
	within "$namespace" sh -c 'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
	ip -n "$namespace" link set "$interface" arp off up
done

step "2. Replay a capture over a veth pair; the kernel judges"
cat <<-END
	  The capture is the part of the lab's traffic that the model never saw: other hosts, and attacks of five
	  kinds that it was not trained on. It lasts minutes and is sent in seconds, so the program is the build for
	  replays (--clock replay): it reads each packet's time from the capture, not from the kernel's clock.
	  Gaps and durations are those of the recorded traffic; nothing else differs from the shipped build.
END
"$nnbpfc" $ids/ids.onnx $spec --calibrate $ids/calibration.csv --clock replay -o "$work/replay.o"
run within "$inside" "$nnbpf" load "$work/replay.o" --iface demo0 --pin "$pins"
"$nnbpf" events --json --pin "$pins" >"$work/events.json" &
reader=$!
run within "$outside" "$xtask" send demo1 $ids/capture.pcap --lockstep "$pins"
# Whatever the reader has not taken yet.
sleep 0.2
kill "$reader" && wait "$reader" 2>/dev/null || true
reader=
"$nnbpf" events --json --for 0s --pin "$pins" >>"$work/events.json"
counters parsed created verdicts would_drop events_lost

step "3. What the kernel found, by kind of attack"
replay ir
table "$work/events.json" --verdicts "$work/ir.csv" --expect "$work/ir.csv" | sed "s|$work/ir.csv|the reference interpreter's verdicts, one by one|"
cat <<-END
	  "judged": the flow ended, or passed 64 packets. The rest is still open at the end of the capture: scans that
	  nobody answered and floods of one packet per flow are judged when their records expire.
	  "attack": the more likely class. "reported": by the rule of $spec, which asks for p >= 0.95.
END
run "$nnbpf" unload --pin "$pins"

step "4. The same in enforce mode: attackers are blocked by the kernel"
run within "$inside" "$nnbpf" load "$work/replay.o" --iface demo0 --enforce --pin "$pins"
within "$outside" "$xtask" send demo1 $ids/capture.pcap --lockstep "$pins" | sed 's/^/  /'
echo "  the first events:"
run "$nnbpf" events --count 3 --pin "$pins" | sed 's/^20/    20/'
counters parsed blocked dropped hosts_blocked
within "$inside" "$nnbpf" status --json --pin "$pins" >"$work/status.json"
table "$work/events.json" --blocked "$work/status.json"
"$nnbpf" unload --pin "$pins" >/dev/null

step "5. The shipped build on live traffic: block a host by hand"
for end in "$inside demo0 1" "$outside demo1 2"; do
	read -r namespace interface host <<<"$end"
	within "$namespace" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6'
	ip -n "$namespace" link set "$interface" arp on
	ip -n "$namespace" addr add "10.66.0.$host/24" dev "$interface"
	ip -n "$namespace" addr add "fd66::$host/64" dev "$interface" nodad
done
run within "$inside" "$nnbpf" load "$work/ids.o" --iface demo0 --enforce --pin "$pins"
knock() { # tries a TCP connection; nothing listens, so an answer is a refusal and a dropped packet is silence
	local started=$SECONDS status=0
	within "$outside" timeout 2 bash -c "exec 3<>/dev/tcp/$1/80" 2>/dev/null || status=$?
	if [ "$status" -eq 124 ]; then echo "  $1: no answer, the packets were dropped"; else
		echo "  $1: answered ($((SECONDS - started)) s)"; fi
}
knock 10.66.0.1
knock fd66::1
run "$nnbpf" block 10.66.0.2 --for 10min --pin "$pins"
run "$nnbpf" block fd66::2 --for 10min --pin "$pins"
knock 10.66.0.1
knock fd66::1
run "$nnbpf" unblock 10.66.0.2 --pin "$pins"
run "$nnbpf" allow fd66::/64 --pin "$pins"
knock 10.66.0.1
knock fd66::1
counters parsed blocked
run "$nnbpf" unload --pin "$pins"

cleanup
trap - EXIT
[ ! -e "$pins" ] && [ ! -e "/run/netns/$inside" ] && [ ! -e "/run/netns/$outside" ]
step "Done; nothing is left behind."
