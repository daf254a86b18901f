#!/bin/sh
# Builds the traffic lab in network namespaces, runs it once, and leaves the machine as it was.
# What happens inside is in lab.py; this file checks the ground, installs the tools and calls it.
#
#   xtask/lab/run.sh [--seed N] [--part train|test] [--seconds N] [--out DIR] [--no-install]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
install=yes
for argument in "$@"; do
    case $argument in
        --no-install) install=no ;;
        -h | --help)
            sed -n '2,5s/^# \{0,1\}//p' "$0"
            exec /usr/bin/python3 "$here/lab.py" --help
            ;;
    esac
done

if [ "$(id -u)" != 0 ]; then
    echo "run.sh: network namespaces need root; run it with sudo" >&2
    exit 1
fi
if [ "$install" = yes ]; then
    sh "$here/packages.sh"
fi
# lab.py removes the option that only this file knows.
exec /usr/bin/python3 -B "$here/lab.py" "$@"
