"""Running commands in the lab's namespaces, and the record of what must be ended.

Not here: which commands are run (topology.py, servers.py, clients.py, attacks.py).
"""

import os
import signal
import subprocess
import threading
import time


def run(*words, check=True, **keywords):
    """Runs a command to its end; a failure of a required one carries its standard error."""
    done = subprocess.run(words, capture_output=True, text=True, **keywords)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done


def inside(namespace, *words):
    """The command line that runs `words` in a namespace."""
    return ("ip", "netns", "exec", namespace, *words)


class Stopped(Exception):
    """The run is being taken down: nothing may start any more."""


class Processes:
    """Every process that outlives one call, so that all of them are ended, by their own group only."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []
        self.lock = threading.Lock()
        self.stopped = False

    def start(self, name, *words, **keywords):
        """Starts a process in a group of its own, with its output in `<folder>/<name>.log`."""
        with self.lock:
            if self.stopped:
                raise Stopped
            with open(os.path.join(self.folder, f"{name}.log"), "ab") as log:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **keywords
                )
            self.started.append(process)
        return process

    def end(self, process, grace=3.0):
        """Asks a group to end, then insists; once only, because its number may be another's later."""
        with self.lock:
            if process not in self.started:
                return
            self.started.remove(process)
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                continue
            time.sleep(0.05)
        process.poll()

    def end_all(self):
        with self.lock:
            self.stopped = True
            left = self.started[::-1]
        for process in left:
            self.end(process)
