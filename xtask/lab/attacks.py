"""The attacks: real tools at bounded rates and counts, each from one host in one time window.

Every attack is a function that returns the command line; the plan says who does what and when.
A host makes one attack at a time and nothing else, so that host and window are the ground truth.
Not here: what ordinary hosts do (clients.py).
"""

import random
import time

from servers import USER
from shell import Stopped, inside

# Kinds that appear in no training run. Chosen before any model was trained.
HELD_OUT = ("null-scan", "xmas-scan", "udp-flood", "slow-body", "ftp-brute")


def _nmap(*words):
    return ("nmap", "-n", "-Pn", "--max-retries", "1", "--host-timeout", "45s", *words)


def _six(target):
    return ("-6",) if ":" in target else ()


def _bracket(target):
    return f"[{target}]" if ":" in target else target


def _ports(draw, count):
    """Some of the served ports and many others."""
    return ",".join(map(str, sorted(draw.sample([21, 22, 25, 53, 80, 5201, 7007, 8080], 4) + draw.sample(range(100, 9900), count))))


def syn_scan(draw, target, folder):
    return _nmap(*_six(target), "-sS", "--max-rate", str(draw.choice([60, 150])), "-p", _ports(draw, 90), target)


def connect_scan(draw, target, folder):
    return _nmap(*_six(target), "-sT", "--max-rate", str(draw.choice([50, 120])), "-p", _ports(draw, 90), target)


def fin_scan(draw, target, folder):
    return _nmap(*_six(target), "-sF", "--max-rate", "100", "-p", _ports(draw, 80), target)


def null_scan(draw, target, folder):
    return _nmap(*_six(target), "-sN", "--max-rate", "100", "-p", _ports(draw, 80), target)


def xmas_scan(draw, target, folder):
    return _nmap(*_six(target), "-sX", "--max-rate", "100", "-p", _ports(draw, 80), target)


def udp_scan(draw, target, folder):
    ports = ",".join(map(str, draw.sample(range(100, 9900), 70)))
    payload = draw.choice([(), ("--data-length", "24"), ("--data-length", "180")])
    return _nmap(*_six(target), "-sU", *payload, "--max-rate", "80", "-p", "53,1123,5140," + ports, target)


def version_scan(draw, target, folder):
    return _nmap(*_six(target), "-sV", "--version-intensity", str(draw.choice([3, 5])), "-p", "21,22,25,53,80,5201,7007,8080", target)


def syn_flood(draw, target, folder):
    return ("hping3", "-q", "-S", "-p", str(draw.choice([80, 22, 8080])), "-i", f"u{draw.choice([4000, 8000])}", "-c", "350", target)


def spoofed_flood(draw, target, folder, source):
    return ("hping3", "-q", "-S", "-a", source, "-p", str(draw.choice([80, 25])), "-i", "u6000", "-c", "300", target)


def ack_flood(draw, target, folder):
    return ("hping3", "-q", "-A", "-p", str(draw.choice([80, 22])), "-i", "u6000", "-c", "300", target)


def udp_flood(draw, target, folder):
    keep = ("-k", "-s", "4444") if draw.random() < 0.3 else ()
    return ("hping3", "-q", "--udp", *keep, "-d", str(draw.choice([0, 64, 400])), "-p", str(draw.choice([53, 123, 7, 5140])), "-i", "u6000",
            "-c", "300", target)


def _slow(draw, target, *words):
    return ("slowhttptest", *words, "-r", str(draw.choice([10, 25])), "-c", "40", "-p", "3", "-l", str(draw.choice([14, 22])))


def slow_headers(draw, target, folder):
    return _slow(draw, target, "-H", "-i", str(draw.choice([2, 4, 7])), "-x", "24", "-u", f"http://{_bracket(target)}/page")


def slow_body(draw, target, folder):
    return _slow(draw, target, "-B", "-i", str(draw.choice([2, 4, 7])), "-s", "4096", "-x", "10", "-u", f"http://{_bracket(target)}/upload")


def slow_read(draw, target, folder):
    return _slow(draw, target, "-X", "-w", "128", "-y", "512", "-n", str(draw.choice([2, 4])), "-z", "16", "-k", "3",
                 "-u", f"http://{_bracket(target)}/big")


def _hydra(target, tasks, words, service):
    return ("hydra", "-I", *_six(target), "-l", USER, "-P", words, "-t", str(tasks), "-W", "3", "-u", *service)


def _words(draw, folder, count):
    path = f"{folder}/words-{draw.randrange(10**9)}"
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"guess{draw.randrange(10**6)}\n" for _ in range(count))
    return path


def ssh_brute(draw, target, folder):
    return _hydra(target, draw.choice([6, 9]), _words(draw, folder, 120), (f"ssh://{_bracket(target)}",))


def ftp_brute(draw, target, folder):
    return _hydra(target, draw.choice([6, 9]), _words(draw, folder, 90), (f"ftp://{_bracket(target)}",))


def http_brute(draw, target, folder):
    return _hydra(target, 6, _words(draw, folder, 90), (f"http-get://{_bracket(target)}/private/page",))


KINDS = {
    "syn-scan": syn_scan, "connect-scan": connect_scan, "version-scan": version_scan, "fin-scan": fin_scan, "null-scan": null_scan,
    "xmas-scan": xmas_scan, "udp-scan": udp_scan, "syn-flood": syn_flood, "ack-flood": ack_flood, "udp-flood": udp_flood,
    "slow-headers": slow_headers, "slow-body": slow_body, "slow-read": slow_read, "ssh-brute": ssh_brute, "ftp-brute": ftp_brute,
    "http-brute": http_brute,
}
# hping3 speaks IPv4 only.
FOUR_ONLY = ("syn-flood", "ack-flood", "udp-flood")


def plan(lab, part, seed):
    """For each attacking host, the kinds it makes, in order."""
    draw = random.Random(f"plan-{seed}")
    kinds = [kind for kind in KINDS if part == "test" or kind not in HELD_OUT]
    turns = kinds + [kind for kind in kinds if not kind.endswith("-flood") and kind not in HELD_OUT]
    draw.shuffle(turns)
    # The long ones first, so that the deadline cuts short ones only and every kind comes at least once.
    turns.sort(key=lambda kind: not kind.endswith("-brute"))
    return {host: turns[number :: len(lab.attackers)] for number, host in enumerate(lab.attackers)}


def attack(lab, host, kinds, seed, folder, processes, deadline, record):
    """Makes one host's attacks one after the other; `record` gets a ground-truth row for each."""
    draw = random.Random(f"attack-{seed}-{host}")
    time.sleep(draw.uniform(1, 6))
    for number, kind in enumerate(kinds):
        if time.time() + 10 > deadline:
            break
        version = 4 if kind in FOUR_ONLY or draw.random() < 0.6 else 6
        target = draw.choice(lab.servers(version))
        if kind.endswith("-scan") and kind != "version-scan" and draw.random() < 0.25:
            target = lab.silent(version)
        if processes.stopped:
            return
        words = KINDS[kind](draw, target, folder)
        source = lab.address(host, version)
        if kind == "syn-flood" and draw.random() < 0.5:
            source = lab.spoofed(int(host[1:]) * 4 + number)
            words = spoofed_flood(draw, target, folder, source)
        start = time.time_ns()
        try:
            process = processes.start(f"{host}-{number}-{kind}", *inside(lab.namespace(host), *words), cwd=folder)
        except Stopped:
            return
        while process.poll() is None and time.time() < min(deadline, start / 1e9 + 60):
            time.sleep(0.2)
        processes.end(process)
        record(start, time.time_ns(), source, target, kind, kind in HELD_OUT, " ".join(words).replace(folder + "/", ""))
        # Late answers of the server belong to the attack: the pause keeps them out of the next window.
        time.sleep(draw.uniform(2, 5))
