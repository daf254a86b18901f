"""Running commands in the lab's namespaces, and the record of what must be ended.

Not here: which commands are run (topology.py, servers.py, clients.py, attacks.py).
"""

import os
import signal
import subprocess
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


class Processes:
    """Every process that outlives one call, so that all of them are ended, by their own group only."""

    def __init__(self, folder):
        self.folder = folder
        self.started = []

    def start(self, name, *words, **keywords):
        """Starts a process in a group of its own, with its output in `<folder>/<name>.log`."""
        with open(os.path.join(self.folder, f"{name}.log"), "ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **keywords
            )
        self.started.append((name, process))
        return process

    def end(self, process, grace=3.0):
        """Asks a group to end, then insists."""
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
        for _, process in reversed(self.started):
            self.end(process)
        self.started.clear()
