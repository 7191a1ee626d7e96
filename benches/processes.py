"""Commands as processes: how long they take together, and what memory a backend takes meanwhile."""

import os
import subprocess
import tempfile
import threading
import time

from pgbench import Session


class Command:
    """A program with its arguments, and what its environment has besides ours."""

    def __init__(self, *arguments, **environment):
        self.arguments = [str(argument) for argument in arguments]
        self.environment = {**os.environ, **environment}

    def start(self, complaints):
        return subprocess.Popen(self.arguments, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=complaints)


def psql(database, *arguments):
    return Command("psql", "-X", "-q", "--set=ON_ERROR_STOP=1", f"--dbname={database}", *arguments,
                   PGOPTIONS="-c client_min_messages=warning")


def wall_time(commands):
    """Seconds until all have ended, started at the same time."""
    with tempfile.TemporaryFile("w+") as complaints:
        started = time.perf_counter()
        running = [command.start(complaints) for command in commands]
        codes = [process.wait() for process in running]
        took = time.perf_counter() - started
        if any(codes):
            complaints.seek(0)
            raise RuntimeError(f"{commands[0].arguments}: {complaints.read()[-2000:]}")
    return took


class Watch(threading.Thread):
    """The private memory of one backend of a database, from when it is first seen until the watch is left."""

    def __init__(self, database, backend_type):
        super().__init__(daemon=True)
        self.find = (f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND "
                     f"backend_type = '{backend_type}' LIMIT 1")
        self.left = threading.Event()
        self.samples = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.left.set()
        self.join()

    def run(self):
        pid = ""
        while not pid and not self.left.is_set():
            pid = Session("postgres").query(self.find)
        while not self.left.is_set():
            memory = private_memory(pid)
            if memory is None:
                return
            self.samples.append(memory)
            time.sleep(0.02)

    def growth(self):
        """Megabytes at the half and at the end of the run."""
        return self.samples[len(self.samples) // 2], self.samples[-1]


def private_memory(pid):
    """Megabytes that are the process' own; None if it is gone. Shared buffers are not among them."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None
