"""The lab's network: namespaces, veth pairs, bridges, addresses, link speeds.

    clients c1..c8 --- bridge ---+
                                 router --- bridge --- server (three addresses, one silent one)
    attackers a1..a5 - bridge ---+

Every interface is created inside a namespace; the machine's own interfaces are never touched.
Not here: who talks to whom (clients.py, attacks.py).
"""

import random

from shell import inside, run

CLIENTS = 8
ATTACKERS = 5
NETWORKS = {"c": 1, "a": 2, "s": 3}


class Lab:
    """Names and addresses of one run. The seed chooses the host numbers, so that runs share no host."""

    def __init__(self, seed):
        self.prefix = f"nnlab-{seed}-"
        self.octet = 10 + seed % 6 * 40
        self.router = self.prefix + "router"
        self.server = self.prefix + "server"
        self.clients = [f"c{n}" for n in range(1, CLIENTS + 1)]
        self.attackers = [f"a{n}" for n in range(1, ATTACKERS + 1)]
        draw = random.Random(seed)
        # Delay in ms, jitter in ms, loss in percent; half of the clients sit on a perfect link.
        self.links = {}
        for host in self.clients[4:] + self.attackers[3:]:
            self.links[host] = (draw.uniform(4, 60), draw.uniform(0.2, 6), draw.choice([0, 0.3, 1.0, 2.0]))
        self.rates = {host: draw.choice([2, 4, 8]) for host in self.clients}

    def namespace(self, host):
        return self.prefix + host

    def number(self, host):
        return self.octet + int(host[1:])

    def address(self, host, version=4):
        return self._address(NETWORKS[host[0]], self.number(host), version)

    def servers(self, version=4):
        """The addresses that answer."""
        return [self._address(3, self.octet + n, version) for n in range(3)]

    def silent(self, version=4):
        """An address that is routed to the server and never answers."""
        return self._address(3, self.octet + 9, version)

    def spoofed(self, n):
        """Addresses of the attackers' network that no host has."""
        return self._address(2, self.octet + 20 + n, 4)

    @staticmethod
    def _address(network, number, version):
        return f"10.77.{network}.{number}" if version == 4 else f"fd77:0:0:{network}::{number:x}"


def build(lab):
    """Creates everything; `remove` undoes it."""
    names = [lab.router, lab.server] + [lab.namespace(h) for h in lab.clients + lab.attackers]
    for name in names:
        run("ip", "netns", "add", name)
        for key in ("all", "default"):
            run(*inside(name, "sysctl", "-qw", f"net.ipv6.conf.{key}.accept_dad=0", f"net.ipv6.conf.{key}.accept_ra=0"))
        run(*inside(name, "ip", "link", "set", "lo", "up"))
    run(*inside(lab.router, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"))
    # Closed UDP ports answer every probe; the scan would otherwise wait for the kernel's rate limit.
    run(*inside(lab.server, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0",
                "net.ipv4.tcp_synack_retries=2", "net.ipv4.icmp_msgs_per_sec=100000"))
    for letter, network in NETWORKS.items():
        bridge = f"br-{letter}"
        run(*inside(lab.router, "ip", "link", "add", bridge, "type", "bridge"))
        run(*inside(lab.router, "ip", "link", "set", bridge, "up"))
        run(*inside(lab.router, "ip", "address", "add", f"10.77.{network}.1/24", "dev", bridge))
        run(*inside(lab.router, "ip", "address", "add", f"fd77:0:0:{network}::1/64", "dev", bridge, "nodad"))
    for host in lab.clients + lab.attackers:
        _wire(lab, host, lab.namespace(host), [lab.number(host)])
    _wire(lab, "s0", lab.server, [lab.octet + n for n in range(3)])
    mac = run(*inside(lab.server, "cat", "/sys/class/net/eth0/address")).stdout.strip()
    for version in (4, 6):
        run(*inside(lab.router, "ip", "neigh", "replace", lab.silent(version), "lladdr", mac, "dev", "br-s"))
    for host, rate in lab.rates.items():
        for where, interface in ((lab.namespace(host), "eth0"), (lab.router, host)):
            run(*inside(where, "tc", "qdisc", "add", "dev", interface, "root", "tbf",
                        "rate", f"{rate}mbit", "burst", "20kb", "latency", "80ms"))


def _wire(lab, host, namespace, numbers):
    """One veth pair from a host to its bridge, by way of the relay when the link is an imperfect one."""
    network, bridge = NETWORKS[host[0]], f"br-{host[0]}"
    run("ip", "link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", host, "netns", lab.router)
    ends = [(namespace, "eth0"), (lab.router, host)]
    port = host
    if host in lab.links:
        near, port = f"{host}-near", f"{host}-far"
        run("ip", "link", "add", near, "netns", lab.router, "type", "veth", "peer", "name", port, "netns", lab.router)
        ends += [(lab.router, near), (lab.router, port)]
    for where, interface in ends:
        # Frames must look as an XDP program sees them: no larger than the link's MTU, checksums complete.
        run(*inside(where, "ethtool", "-K", interface, "gro", "off", "gso", "off", "tso", "off", "tx", "off", "rx", "off"))
        run(*inside(where, "ip", "link", "set", interface, "up"))
    run(*inside(lab.router, "ip", "link", "set", port, "master", bridge))
    for number in numbers:
        run(*inside(namespace, "ip", "address", "add", f"10.77.{network}.{number}/24", "dev", "eth0"))
        run(*inside(namespace, "ip", "address", "add", f"fd77:0:0:{network}::{number:x}/64", "dev", "eth0", "nodad"))
    run(*inside(namespace, "ip", "route", "add", "default", "via", f"10.77.{network}.1"))
    run(*inside(namespace, "ip", "-6", "route", "add", "default", "via", f"fd77:0:0:{network}::1"))


def remove(lab):
    """Deletes the namespaces of this run; their interfaces go with them."""
    listed = run("ip", "netns", "list", check=False).stdout.split("\n")
    for name in (line.split(" ")[0] for line in listed):
        if name.startswith(lab.prefix):
            run("ip", "netns", "delete", name, check=False)
