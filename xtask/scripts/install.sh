#!/usr/bin/env bash
# Installs what the build, the tests, the benchmark or `make kernels` need on Debian; says what it does, and does nothing
# twice.
# usage: install.sh build|test|kernels|bench
set -euo pipefail

want=${1:-build}
packages=()

need() { # need COMMAND PACKAGE
	command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || packages+=("$2")
}

need cc gcc
need ip iproute2
need bpftool bpftool
case "$want" in
build) ;;
test)
	need llvm-mc llvm     # an independent disassembler
	need strace strace    # kills the loader at every step
	need tshark tshark    # an independent dissector
	need python3 python3  # fetches the official ONNX node tests
	python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
	;;
kernels)
	need qemu-system-x86_64 qemu-system-x86
	need busybox busybox-static
	need cpio cpio
	need curl curl
	need xz xz-utils
	need strip binutils
	need python3 python3
	;;
bench)
	need python3 python3
	need clang clang # for the baseline, which is written in C
	[ -e /usr/include/bpf/bpf_helpers.h ] || packages+=(libbpf-dev)
	need tcpdump tcpdump # baselines in user space, of which the last is onnxruntime, fetched by pip
	[ -e /usr/include/pcap/pcap.h ] || packages+=(libpcap-dev)
	python3 -m pip --version >/dev/null 2>&1 || packages+=(python3-pip)
	need ethtool ethtool # segments go over the veth pair one by one
	;;
*)
	echo "usage: install.sh build|test|kernels|bench" >&2
	exit 2
	;;
esac

if [ ${#packages[@]} -gt 0 ]; then
	if [ "$(id -u)" -ne 0 ]; then
		echo "missing: ${packages[*]}; run: sudo apt-get install ${packages[*]}" >&2
		exit 1
	fi
	echo "installing: ${packages[*]}"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

# The node tests that come with the package `onnx`: only they are kept, and a test that misses them says so.
node_tests() {
	local folder=target/onnx-node-tests
	[ ! -e "$folder/complete" ] || return 0
	if ! python3 -m pip --version >/dev/null 2>&1; then
		echo "no pip: the official ONNX node tests will be skipped" >&2
		return 0
	fi
	local wheels
	wheels=$(mktemp -d)
	echo "fetching: onnx 1.22.0 from the package index, for its node tests"
	if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--dest "$wheels" onnx==1.22.0 && python3 - "$wheels" "$folder" <<-'EOF'
			import pathlib, shutil, sys, zipfile
			[wheel] = pathlib.Path(sys.argv[1]).glob("*.whl")
			folder = pathlib.Path(sys.argv[2])
			shutil.rmtree(folder, ignore_errors=True)
			part = "onnx/backend/test/data/node/"
			with zipfile.ZipFile(wheel) as archive:
			    names = [name for name in archive.namelist() if name.startswith(part) and not name.endswith("/")]
			    for name in names:
			        path = folder / name.removeprefix(part)
			        path.parent.mkdir(parents=True, exist_ok=True)
			        path.write_bytes(archive.read(name))
			(folder / "complete").touch()
		EOF
	then
		:
	else
		echo "onnx 1.22.0 cannot be fetched: its node tests will be skipped" >&2
	fi
	rm -rf "$wheels"
}
if [ "$want" = test ]; then
	cd "$(dirname "$0")/../.."
	node_tests
fi

if ! command -v cargo >/dev/null 2>&1; then
	if [ "$(id -u)" -eq 0 ] && apt-get install -y -qq rustup >/dev/null 2>&1; then
		rustup default stable
	else
		echo "missing: cargo; install Rust 1.95 or later with rustup, then run this again" >&2
		exit 1
	fi
fi
