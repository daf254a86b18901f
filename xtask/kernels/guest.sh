#!/bin/busybox sh
# First process of a kernel under test: runs the list of jobs and prints a line for each, then powers off.
# Lines are `@ KIND|NAME|RESULT|REASON`; the console may put others between them.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
# Before 5.11 maps count towards this limit.
ulimit -l unlimited

pins=/sys/fs/bpf/pins
load() { # load OBJECT: with bpftool, as it is shipped
	mkdir "$pins"
	if bpftool prog loadall "$1" "$pins/programs" pinmaps "$pins/maps" >/dev/null 2>&1; then
		result=loaded reason=
	else
		# Once more, now with the verifier's log: what stands in front of its statistics is why.
		bpftool --debug prog loadall "$1" "$pins/again" >log 2>&1
		result=refused
		reason=$(grep -a -v '^verification time\|^stack depth\|^func#' log | grep -a -m1 -B1 '^processed ' | head -n 1)
		[ -n "$reason" ] || reason=$(grep -a '^libbpf: .*fail\|^Error' log | tail -n 1)
	fi
	rm -rf "$pins"
}
judge() { # judge EXPECTED ARGUMENTS…: in this kernel, against what the virtual machine said
	expected=$1
	shift
	if ! nnbpfc "$@" --engine kernel -o judged >log 2>&1; then
		result=refused reason=$(grep -a -m1 '^error' log)
	elif cmp -s judged "$expected"; then
		result=equal reason=
	else
		result=differs reason="$(wc -l <judged) lines, $(wc -l <"$expected") expected"
	fi
}

echo "@ kernel|$(uname -r)||"
while IFS='|' read -r kind name arguments; do
	# Words of the list are words of the command.
	# shellcheck disable=SC2086
	"$kind" $arguments </dev/null
	echo "@ $kind|$name|$result|$reason"
done <jobs
poweroff -f
