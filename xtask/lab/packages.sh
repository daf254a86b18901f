#!/bin/sh
# Installs the servers, clients and attack tools of the lab with apt.
# No service is started: a policy-rc.d forbids it during the installation, and the machine's own is put back.
set -eu

packages="nginx-light openssl procps openssh-server openssh-client dnsmasq-base bind9-dnsutils iperf3 wrk curl vsftpd
    python3 python3-aiosmtpd swaks sshpass dnsperf
    nmap hping3 hydra slowhttptest
    tcpdump ethtool iproute2 util-linux"

missing=
for package in $packages; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
        missing="$missing $package"
    fi
done
[ -n "$missing" ] || exit 0

policy=/usr/sbin/policy-rc.d
saved=$(mktemp -d)
restore() {
    if [ -e "$saved/policy-rc.d" ]; then
        cp -p "$saved/policy-rc.d" "$policy"
    else
        rm -f "$policy"
    fi
    rm -rf "$saved"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM
if [ -e "$policy" ]; then
    cp -p "$policy" "$saved/policy-rc.d"
fi
printf '#!/bin/sh\nexit 101\n' > "$policy"
chmod 755 "$policy"

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# The list is split into words on purpose.
# shellcheck disable=SC2086
apt-get install -y -q --no-install-recommends $missing
