"""Runs SQL with psql and measures it with pgbench, on the server that the environment names."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager

# bench.sh keeps the server on the first core, and clients run there too. A client waits while its server works, and
# vice versa. On two cores each would wake the other from sleep for every query, which takes longer than most queries
# and varies more than policies cost.
WITH_THE_SERVER = ["taskset", "--cpu-list", "0"]


class Session:
    """The role and the settings with which a client connects."""

    def __init__(self, role, database=None, **settings):
        self.environment = dict(os.environ, PGUSER=role, PGDATABASE=database or os.environ["PGDATABASE"])
        if settings:
            # A double underscore replaces the dot in a setting's name.
            options = (f"-c {name.replace('__', '.')}={value}" for name, value in settings.items())
            self.environment["PGOPTIONS"] = " ".join(options)

    def query(self, sql):
        """Returns the result as unaligned text. Raises RuntimeError with the server's message if the statement fails."""
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql],
                              env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def time(self, script, protocol, transactions):
        """Returns the microseconds from the end of one transaction to the end of the next, on one new connection. The
        first transaction, which fills caches, is not included. (pgbench's own latency is not used, because it is 0 if
        the result arrives before the client looks for it.)"""
        with self.pgbench(script, protocol, f"--transactions={transactions + 1}") as run:
            return run.times()

    @contextmanager
    def pgbench(self, script, protocol, length):
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/script", "w") as file:
                file.write(script)
            command = [*WITH_THE_SERVER, "pgbench", "--no-vacuum", f"--protocol={protocol}", length,
                       "--random-seed=1", "--log", f"--log-prefix={folder}/log", f"--file={folder}/script"]
            process = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            try:
                yield Run(process, folder)
            finally:
                process.kill()
                process.wait()
                process.stderr.close()


class Run:
    """A running pgbench, which can be stopped and continued."""

    def __init__(self, process, folder):
        self.process, self.folder = process, folder

    def hold(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def has_ended(self):
        return self.process.poll() is not None

    def times(self):
        """Waits for the end, and returns the times."""
        error = self.process.stderr.read()
        logs = [name for name in os.listdir(self.folder) if name.startswith("log")]
        if self.process.wait() != 0 or not logs:
            raise RuntimeError(error.strip())
        with open(f"{self.folder}/{logs[0]}") as log:
            ends = [int(seconds) * 1_000_000 + int(rest) for *_, seconds, rest in map(str.split, log)]
        return [end - start for start, end in zip(ends, ends[1:])]


def take_turns(one, other, protocol, seconds, turn):
    """Returns the times of a transaction of two (session, script), each on its own connection. For `turn` seconds one
    runs and the other is stopped, in turns, for `seconds` in all, so that whatever slows down the machine slows down
    both. Transactions that were stopped are outliers."""
    length = f"--time={seconds}"
    with one[0].pgbench(one[1], protocol, length) as first, other[0].pgbench(other[1], protocol, length) as second:
        # Leave time to connect.
        time.sleep(0.1)
        runs = [first, second]
        for run in runs:
            run.hold()
        while not all(run.has_ended() for run in runs):
            for run in runs:
                run.go_on()
                time.sleep(turn)
                run.hold()
            runs.reverse()
        return steady_mean(first.times()), steady_mean(second.times())


def run_file(path, **variables):
    """Runs a psql script as superuser."""
    arguments = [f"--set={name}={value}" for name, value in variables.items()]
    subprocess.run(["psql", "-X", "-q", f"--file={path}", *arguments], check=True, stdout=subprocess.DEVNULL)


def steady_mean(times):
    """Returns the mean of the middle half, without the first fifth, during which plans and caches are still being
    filled. So time that other processes take from some transactions does not count. A mean is finer than a median,
    because the log has whole microseconds."""
    times = sorted(times[len(times) // 5:])
    quarter = len(times) // 4
    middle = times[quarter:len(times) - quarter]
    return sum(middle) / len(middle)
