"""Runs SQL with psql and measures it with pgbench, on the server that the environment names."""

import os
import subprocess
import tempfile

# bench.sh keeps the server on the first core, so that it makes no difference where the scheduler puts the client.
BESIDE_THE_SERVER = ["taskset", "--cpu-list", str(os.cpu_count() - 1)]


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
        with tempfile.TemporaryDirectory() as folder:
            with open(f"{folder}/script", "w") as file:
                file.write(script)
            command = [*BESIDE_THE_SERVER, "pgbench", "--no-vacuum", f"--protocol={protocol}", f"--transactions={transactions + 1}",
                       "--random-seed=1", "--log", f"--log-prefix={folder}/log", f"--file={folder}/script"]
            done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
            logs = [name for name in os.listdir(folder) if name.startswith("log")]
            if done.returncode != 0 or not logs:
                raise RuntimeError(done.stderr.strip())
            with open(f"{folder}/{logs[0]}") as log:
                ends = [int(seconds) * 1_000_000 + int(rest) for *_, seconds, rest in map(str.split, log)]
        return [end - start for start, end in zip(ends, ends[1:])]


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
