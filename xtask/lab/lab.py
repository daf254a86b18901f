"""One run of the traffic lab: network, servers, capture, clients, attacks, ground truth, and the way back.

Called by run.sh. Writes `<out>/capture.raw.pcap`, `<out>/capture.pcap` (headers only) and `<out>/labels.csv`.
"""

import argparse
import csv
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

import attacks
import headers
import servers
import topology
from shell import Processes, inside

HERE = os.path.dirname(os.path.abspath(__file__))
CHARACTERS = ["reader", "builder", "typist", "sensor", "sender", "streamer", "monitor", "mixed"]


def arguments():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=4, help="hosts, sizes, pauses, order of the attacks (default 4)")
    parser.add_argument("--part", choices=("train", "test"), default="test", help="train leaves the held-out attack kinds out")
    parser.add_argument("--seconds", type=int, default=200, help="length of the traffic, at most 420 (default 200)")
    parser.add_argument("--out", default="lab-out", help="folder for the results (default lab-out)")
    parser.add_argument("--no-install", action="store_true", help="trust that the packages are there")
    chosen = parser.parse_args()
    if not 20 <= chosen.seconds <= 420:
        parser.error("--seconds must lie between 20 and 420")
    return chosen


def relay(lab, processes):
    links = [f"{host},{host}-near,{delay:.1f},{jitter:.1f},{loss}" for host, (delay, jitter, loss) in lab.links.items()]
    processes.start("relay", *inside(lab.router, "/usr/bin/python3", f"{HERE}/relay.py", lab.prefix, *links))


def clients(lab, processes, folder, seed, deadline):
    for number, host in enumerate(lab.clients):
        settings = {
            "host": host, "seed": f"client-{seed}-{host}", "folder": folder, "deadline": deadline, "user": servers.USER,
            "password": servers.PASSWORD, "character": CHARACTERS[(number + seed) % len(CHARACTERS)], "pause": 0.9,
            "servers4": lab.servers(4), "servers6": lab.servers(6), "silent4": lab.silent(4), "silent6": lab.silent(6),
        }
        processes.start(f"client-{host}", *inside(lab.namespace(host), "/usr/bin/python3", f"{HERE}/clients.py", json.dumps(settings)))


class GroundTruth:
    """The labels, written while the attacks run."""

    COLUMNS = ("start_ns", "end_ns", "source", "target", "kind", "held_out", "command")

    def __init__(self, path):
        self.file = open(path, "w", encoding="utf-8", newline="")
        self.writer = csv.writer(self.file, lineterminator="\n")
        self.writer.writerow(self.COLUMNS)
        self.lock = threading.Lock()

    def record(self, start, end, source, target, kind, held_out, command):
        with self.lock:
            if self.file.closed:
                # The run was interrupted.
                return
            self.writer.writerow((start, end, source, target, kind, int(held_out), command))
            self.file.flush()
            print(f"  {kind:14} {source} -> {target}  {(end - start) / 1e9:.1f} s", flush=True)

    def close(self):
        with self.lock:
            self.file.close()


def traffic(lab, chosen, processes, folder, truth):
    servers.start(lab, processes, folder)
    relay(lab, processes)
    time.sleep(3)
    print(servers.listening(lab), flush=True)
    raw = os.path.join(chosen.out, "capture.raw.pcap")
    capture = processes.start("tcpdump", *inside(lab.server, "tcpdump", "-i", "eth0", "-s", "128", "-Z", "root", "-B", "16384", "-w", raw,
                                                 "ip or ip6"))
    time.sleep(1.5)
    deadline = time.time() + chosen.seconds
    clients(lab, processes, folder, chosen.seed, deadline)
    hosts = attacks.plan(lab, chosen.part, chosen.seed)
    threads = [
        threading.Thread(target=attacks.attack, daemon=True,
                         args=(lab, host, kinds, chosen.seed, folder, processes, deadline, truth.record))
        for host, kinds in hosts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(deadline + 15 - time.time())
    while time.time() < deadline + 4:
        time.sleep(0.5)
    capture.send_signal(signal.SIGINT)
    processes.end(capture)
    return raw


def main():
    chosen = arguments()
    chosen.out = os.path.abspath(chosen.out)
    os.makedirs(chosen.out, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="nnlab-")
    processes = Processes(folder)
    lab = topology.Lab(chosen.seed)
    truth = GroundTruth(os.path.join(chosen.out, "labels.csv"))

    def stop(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGHUP, stop)
    try:
        topology.remove(lab)
        servers.prepare(folder)
        topology.build(lab)
        raw = traffic(lab, chosen, processes, folder, truth)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A second signal must not interrupt the way back.
            signal.signal(number, signal.SIG_IGN)
        processes.end_all()
        topology.remove(lab)
        truth.close()
        if os.environ.get("NNLAB_KEEP_LOGS"):
            shutil.copytree(folder, os.path.join(chosen.out, "logs"), dirs_exist_ok=True,
                            ignore=lambda _, names: [name for name in names if not name.endswith(".log")])
        shutil.rmtree(folder, ignore_errors=True)
    packets = headers.trim(raw, os.path.join(chosen.out, "capture.pcap"))
    print(f"{packets} packets in {chosen.out}/capture.pcap")
    return 0


if __name__ == "__main__":
    sys.exit(main())
