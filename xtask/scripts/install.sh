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

if ! command -v cargo >/dev/null 2>&1; then
	if [ "$(id -u)" -eq 0 ] && apt-get install -y -qq rustup >/dev/null 2>&1; then
		rustup default stable
	else
		echo "missing: cargo; install Rust 1.95 or later with rustup, then run this again" >&2
		exit 1
	fi
fi
