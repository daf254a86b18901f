"""What ordinary people and machines do: one process per client host, inside its namespace.

Each host has a character that says how often it does what; all draws come from the host's seed.
Everything is bounded: one activity at a time and two at most, each with a time limit, until the deadline.
Not here: attacks (attacks.py).
"""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

SIZES = ["tiny", "small", "page", "image", "photo", "doc", "big"]
# Weights of the activities per character. Every character fails sometimes: so do real ones.
CHARACTERS = {
    "reader": {"browse": 8, "get": 6, "dns": 6, "slow_page": 2, "drip": 1, "refused": 0.25, "silent": 0.2},
    "builder": {"ssh_commands": 3, "copy": 3, "get": 3, "dns": 3, "upload": 2, "ftp": 2, "refused": 0.2},
    "typist": {"ssh_typing": 6, "dns": 3, "wrong_then_right": 1, "get": 1, "chat": 2},
    "sender": {"mail": 5, "dns": 5, "ftp": 3, "wrong_then_right": 0.7, "get": 1, "silent": 0.2},
    "sensor": {"chat": 4, "log": 4, "clock": 5, "health": 2, "dns": 2, "upload": 1},
    "streamer": {"stream": 3, "drip": 2, "get": 2, "burst": 0.5, "dns": 1},
    "monitor": {"health": 5, "clock": 4, "dns_load": 1, "head": 5, "wrong_password": 1, "refused": 0.3},
    "mixed": {"browse": 3, "ssh_typing": 1, "copy": 1, "dns": 4, "chat": 1, "mail": 1, "keep": 2, "log": 1, "unusual": 2},
}


class Client:
    def __init__(self, settings):
        self.settings = settings
        self.draw = random.Random(settings["seed"])
        self.folder = settings["folder"]
        self.deadline = settings["deadline"]
        self.name = settings["host"]

    def host(self):
        """One of the server's addresses; a third of the connections use IPv6."""
        return self.draw.choice(self.settings["servers6" if self.draw.random() < 0.35 else "servers4"])

    def url(self, path, host=None, port=None, scheme="http"):
        host = host or self.host()
        port = port or self.draw.choice([80, 80, 80, 8080])
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{path}"

    def command(self, *words, limit=40, text=None):
        """Runs one tool; it never outlives the limit or the run."""
        limit = max(1.0, min(limit, self.deadline - time.time() + 8))
        try:
            return subprocess.run(words, input=text, capture_output=True, timeout=limit, check=False).returncode
        except subprocess.TimeoutExpired:
            return None

    def curl(self, *words, limit=40):
        return self.command("curl", "-s", "-S", "-g", "-o", "/dev/null", "--max-time", str(limit), *words, limit=limit + 2)

    def name_of_size(self, most=5):
        return SIZES[min(most, int(self.draw.expovariate(0.45)))]

    # Web

    def get(self):
        self.curl(self.url(self.name_of_size(6)))

    def head(self):
        self.curl("-I", self.url(self.draw.choice(["tiny", "missing", "page"])))

    def browse(self):
        """A page and what belongs to it: parallel connections, several requests on each."""
        host = self.host()
        urls = []
        for _ in range(self.draw.randrange(2, 9)):
            urls += ["-o", "/dev/null", self.url(self.draw.choice([self.name_of_size(4), "missing"]), host, 80)]
        words = ["curl", "-s", "-g", "--max-time", "30"]
        if self.draw.random() < 0.6:
            words += ["--parallel", "--parallel-max", str(self.draw.randrange(2, 5))]
        self.command(*words, *urls)

    def slow_page(self):
        self.curl(self.url("report", port=8088), limit=20)

    def drip(self):
        if self.draw.random() < 0.5:
            self.curl(self.url("drip/" + self.draw.choice(["image", "photo"])), limit=25)
        else:
            self.curl("--limit-rate", self.draw.choice(["4k", "9k", "20k"]), self.url(self.draw.choice(["image", "photo"])), limit=25)

    def upload(self):
        source = f"{self.folder}/www/{self.draw.choice(SIZES[1:6])}"
        extra = ["--limit-rate", self.draw.choice(["5k", "30k"])] if self.draw.random() < 0.3 else []
        if self.draw.random() < 0.5:
            self.curl(*extra, "--data-binary", f"@{source}", self.url("upload"), limit=25)
        else:
            self.curl(*extra, "-T", source, self.url(f"put/{self.name}-{self.draw.randrange(9)}"), limit=25)

    def burst(self):
        """A short load test on keep-alive connections, held down by the link's rate."""
        self.command("wrk", "-t1", f"-c{self.draw.randrange(1, 5)}", "-d1s", "--timeout", "2s", self.url("page"), limit=8)

    def wrong_password(self):
        self.curl("-u", f"{self.settings['user']}:{self.draw.choice(['old', 'typo'])}", self.url("private/page"))

    def keep(self):
        """A connection that stays open and asks again now and then."""
        host = self.host()
        try:
            with socket.create_connection((host, 80), timeout=10) as web:
                for _ in range(self.draw.randrange(2, 7)):
                    web.sendall(f"GET /{self.name_of_size(2)} HTTP/1.1\r\nHost: lab\r\n\r\n".encode())
                    web.recv(65536)
                    time.sleep(self.draw.uniform(0.3, 6))
        except OSError:
            pass

    # Shell, copies, files, mail

    def ssh_options(self):
        return ["-F", "none", "-i", f"{self.folder}/client_key", "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10",
                "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]

    def ssh_commands(self):
        size = self.draw.choice([20, 200, 4000, 60000])
        self.command("ssh", *self.ssh_options(), "-o", "BatchMode=yes", f"{self.settings['user']}@{self.host()}",
                     f"head -c {size} /dev/zero; sleep {self.draw.choice([0, 0, 0.5, 3])}")

    def ssh_typing(self):
        """A person at a terminal: key strokes, pauses, now and then a long answer."""
        words = ["ssh", "-tt", *self.ssh_options(), f"{self.settings['user']}@{self.host()}"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as shell:
            try:
                end = min(self.deadline, time.time() + self.draw.uniform(4, 30))
                while time.time() < end:
                    for letter in self.draw.choice(["ls -l /usr\n", "id\n", "cat /etc/services | head -50\n", "uptime\n"]):
                        shell.stdin.write(letter.encode())
                        shell.stdin.flush()
                        time.sleep(self.draw.uniform(0.03, 0.4))
                    time.sleep(self.draw.expovariate(0.6))
                shell.stdin.write(b"exit\n")
                shell.stdin.flush()
                shell.wait(5)
            except (OSError, subprocess.TimeoutExpired):
                pass
            shell.kill()

    def wrong_then_right(self):
        """People mistype their password once."""
        host = self.host()
        options = ["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
                   "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1"]
        for secret in (["typo"] if self.draw.random() < 0.5 else []) + [self.settings["password"]]:
            self.command("sshpass", "-p", secret, "ssh", *options, f"{self.settings['user']}@{host}", "uptime; sleep 1", limit=15)

    def copy(self):
        host, size = self.host(), self.draw.choice(SIZES[1:5] * 2 + SIZES[5:6])
        far = f"{self.settings['user']}@{f'[{host}]' if ':' in host else host}:{size}"
        extra = ["-l", str(self.draw.choice([200, 800]))] if self.draw.random() < 0.3 else []
        if self.draw.random() < 0.5:
            self.command("scp", "-q", *extra, *self.ssh_options(), far, "/dev/null", limit=25)
        else:
            self.command("scp", "-q", *extra, *self.ssh_options(), f"{self.folder}/www/{size}", far + f".{self.name}", limit=25)

    def ftp(self):
        login = ["-u", f"{self.settings['user']}:{self.settings['password']}"]
        if self.draw.random() < 0.7:
            self.curl(*login, self.url(self.name_of_size(5), port=21, scheme="ftp"), limit=20)
        else:
            self.curl(*login, "-T", f"{self.folder}/www/{self.name_of_size(4)}", self.url(f"up-{self.name}", port=21, scheme="ftp"), limit=20)

    def mail(self):
        body = "word " * int(self.draw.expovariate(1 / 900))
        extra = ["--attach", f"@{self.folder}/www/{self.draw.choice(SIZES[1:5])}"] if self.draw.random() < 0.4 else []
        self.command("swaks", "--silent", "3", "--server", self.host(), "--to", "b@lab.test", "--from", "a@lab.test", "--body", body, *extra,
                     limit=15)

    # Names, datagrams, small talk

    def dns(self):
        for _ in range(self.draw.randrange(1, 4)):
            name, kind = self.draw.choice([("web.lab.test", "A"), ("web.lab.test", "AAAA"), ("long.lab.test", "TXT"), ("lab.test", "MX"),
                                           (f"no{self.draw.randrange(999)}.lab.test", "A")])
            extra = ["+tcp"] if self.draw.random() < 0.15 else []
            self.command("dig", "+tries=2", "+time=2", *extra, f"@{self.host()}", name, kind, limit=8)

    def dns_load(self):
        lines = "".join(f"n{n}.lab.test A\n" for n in range(30)) + "web.lab.test A\n" * 20
        self.command("dnsperf", "-s", self.host(), "-Q", "60", "-l", "2", "-c", "2", limit=6, text=lines.encode())

    def datagrams(self, port, count, answered, pause):
        host = self.host()
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.settimeout(1.0)
            end.connect((host, port))
            for _ in range(count):
                try:
                    end.send(os.urandom(self.draw.randrange(30, 400)) if not answered else bytes(48))
                    if answered:
                        end.recv(500)
                except OSError:
                    pass
                time.sleep(pause())

    def log(self):
        """Log lines to a collector: one way, bursts and pauses."""
        self.datagrams(5140, self.draw.randrange(1, 25), False, lambda: self.draw.choice([0.001, 0.02, 0.3, 1.0]))

    def clock(self):
        self.datagrams(1123, self.draw.choice([1, 1, 4]), True, lambda: self.draw.uniform(0, 1.0))

    def chat(self):
        """Small messages both ways with pauses, as telemetry and message brokers have."""
        try:
            with socket.create_connection((self.host(), 7007), timeout=10) as line:
                for _ in range(self.draw.randrange(2, 15)):
                    line.sendall(b"m" * self.draw.randrange(5, 300) + b"\n")
                    if self.draw.random() < 0.9:
                        line.recv(1000)
                    time.sleep(self.draw.uniform(0.1, 3.0))
        except OSError:
            pass

    def health(self):
        """A load balancer's check: connect, sometimes say something, close."""
        try:
            with socket.create_connection((self.host(), self.draw.choice([80, 8080, 22, 25])), timeout=5) as check:
                if self.draw.random() < 0.5:
                    check.settimeout(2)
                    check.sendall(b"HEAD /tiny HTTP/1.0\r\n\r\n")
                    check.recv(500)
        except OSError:
            pass

    def stream(self):
        # Each address has a server of its own: datagrams must be answered from the address that was asked.
        number = self.draw.randrange(3)
        host = self.settings["servers6" if self.draw.random() < 0.35 else "servers4"][number]
        port = str(5201 + number)
        kind = self.draw.choice([["-n", "300K"], ["-n", "500K", "-R"], ["-u", "-b", "400k", "-t", "3"], ["-u", "-b", "600k", "-t", "2", "-R"],
                                 ["-b", "300k", "-t", "5"], ["-n", "400K", "-P", "2"]])
        self.command("iperf3", "-c", host, "-p", port, *kind, limit=12)

    # Mishaps

    def refused(self):
        """A service that is not there."""
        self.curl(self.url("", port=self.draw.choice([81, 443, 3000, 5432, 8443])), limit=5)

    def silent(self):
        """A host that does not answer."""
        host = self.settings["silent6" if self.draw.random() < 0.3 else "silent4"]
        self.curl("--connect-timeout", "4", self.url("", host=host), limit=5)

    def unusual(self):
        """Ordinary, but seldom: a request byte by byte, or a connection given up half-way."""
        try:
            with socket.create_connection((self.host(), 80), timeout=5) as web:
                for letter in b"GET /page HTTP/1.0\r\n\r\n":
                    web.sendall(bytes([letter]))
                    time.sleep(self.draw.uniform(0.01, 0.2))
                if self.draw.random() < 0.7:
                    web.recv(20000)
        except OSError:
            pass

    def work(self):
        weights = CHARACTERS[self.settings["character"]]
        names = sorted(weights)
        while time.time() < self.deadline:
            getattr(self, self.draw.choices(names, [weights[name] for name in names])[0])()
            time.sleep(min(3.0, self.draw.expovariate(1 / self.settings["pause"])))


def main():
    settings = json.loads(sys.argv[1])
    workers = []
    for number in range(2):
        worker = threading.Thread(target=Client({**settings, "seed": f"{settings['seed']}-{number}"}).work, daemon=True)
        worker.start()
        workers.append(worker)
    for worker in workers:
        worker.join(max(1.0, settings["deadline"] + 12 - time.time()))


main()
