"""Runs commands as processes, and measures the time that they take together and the memory of a backend."""

import os
import subprocess
import tempfile
import threading
import time

from pgbench import Session


class Command:
    """A program with its arguments, and additions to the environment."""

    def __init__(self, *arguments, **environment):
        self.arguments = [str(argument) for argument in arguments]
        self.environment = {**os.environ, **environment}

    def start(self, errors):
        return subprocess.Popen(self.arguments, env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=errors)


def psql(database, *arguments):
    return Command("psql", "-X", "-q", "--set=ON_ERROR_STOP=1", f"--dbname={database}", *arguments,
                   PGOPTIONS="-c client_min_messages=warning")


def wall_time(commands):
    """Starts all commands at once, and returns the seconds until all have ended."""
    with tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        running = [command.start(errors) for command in commands]
        codes = [process.wait() for process in running]
        took = time.perf_counter() - started
        if any(codes):
            errors.seek(0)
            raise RuntimeError(f"{commands[0].arguments}: {errors.read()[-2000:]}")
    return took


class Watch(threading.Thread):
    """Samples the private memory of one backend of a database, from when it first appears until the watch is left."""

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
        """Returns the megabytes halfway through the run and at its end."""
        return self.samples[len(self.samples) // 2], self.samples[-1]


def private_memory(pid):
    """Returns the megabytes of private memory of the process, without shared buffers; None if it has ended."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) / 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None
