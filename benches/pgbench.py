"""Runs SQL with psql and measures it with pgbench, on the server that the environment names."""

import os
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager

# bench.sh keeps the server on the first core. A client waits while its server works, and the other way round; on two cores
# each would wake the other from sleep for every query, which takes longer than most queries and varies more than policies cost.
WITH_THE_SERVER = ["taskset", "--cpu-list", "0"]


class Session:
    """As whom and with which settings a client connects."""

    def __init__(self, role, database=None, **settings):
        self.environment = dict(os.environ, PGUSER=role, PGDATABASE=database or os.environ["PGDATABASE"])
        if settings:
            # A double underscore stands for the dot in a setting's name.
            options = (f"-c {name.replace('__', '.')}={value}" for name, value in settings.items())
            self.environment["PGOPTIONS"] = " ".join(options)

    def query(self, sql):
        """The answer as unaligned text; RuntimeError with the server's message if it is refused."""
        done = subprocess.run(["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql],
                              env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        return done.stdout.strip()

    def time(self, script, protocol, transactions):
        """The microseconds from the end of one transaction to that of the next, on one new connection; the first, which
        fills caches, is not among them. (Not pgbench's own latency, which is 0 where the answer comes before the client
        looks for it.)"""
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
    """A pgbench at work, which can be held and let go on."""

    def __init__(self, process, folder):
        self.process, self.folder = process, folder

    def hold(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def has_ended(self):
        return self.process.poll() is not None

    def times(self):
        """Waits for the end."""
        error = self.process.stderr.read()
        logs = [name for name in os.listdir(self.folder) if name.startswith("log")]
        if self.process.wait() != 0 or not logs:
            raise RuntimeError(error.strip())
        with open(f"{self.folder}/{logs[0]}") as log:
            ends = [int(seconds) * 1_000_000 + int(rest) for *_, seconds, rest in map(str.split, log)]
        return [end - start for start, end in zip(ends, ends[1:])]


def take_turns(one, other, protocol, seconds, turn):
    """What a transaction of two (session, script) takes, each on a connection of its own; for `turn` seconds one runs and the
    other is held, and so on for `seconds` in all: what slows the machine down slows both. Transactions that were held are
    outliers."""
    length = f"--time={seconds}"
    with one[0].pgbench(one[1], protocol, length) as first, other[0].pgbench(other[1], protocol, length) as second:
        # Time to connect.
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
    """A psql script, as superuser."""
    arguments = [f"--set={name}={value}" for name, value in variables.items()]
    subprocess.run(["psql", "-X", "-q", f"--file={path}", *arguments], check=True, stdout=subprocess.DEVNULL)


def steady_mean(times):
    """Without the first fifth, where plans and caches still fill, the mean of the middle half: what another process took from
    some transactions does not count. Finer than a median, for the log has whole microseconds."""
    times = sorted(times[len(times) // 5:])
    quarter = len(times) // 4
    middle = times[quarter:len(times) - quarter]
    return sum(middle) / len(middle)
