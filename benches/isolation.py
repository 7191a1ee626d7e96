"""Measures what isolation costs: the same queries without policies, with fluxbase_tenant, with the usual policies."""

import datetime
import os
import statistics
import sys
import time
from pathlib import Path

from pgbench import Session, run_file, steady_mean, take_turns
from report import bars, replace_section, table

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "21"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "0.2"))
DOCS = Path(os.environ["BENCH_DOCS"])

ACME, GLOBEX = "01920000-0000-7000-8000-00000000acce", "01920000-0000-7000-8000-0000000910be"
ANN, MALLORY = "01920000-0000-7000-8000-0000000000aa", "01920000-0000-7000-8000-0000000000bb"

JOIN = " ".join(f"JOIN t{i} ON t{i}.id = t{i - 1}.next" for i in range(2, 11))
QUERIES = {
    "point lookup": r"\set id random(1, 100000)" "\nSELECT * FROM items WHERE id = :id;",
    "100-row range": r"\set id random(1, 99900)" "\nSELECT * FROM items WHERE id BETWEEN :id AND :id + 99;",
    "full scan": "SELECT count(*) FROM items;",
    "10-way join": r"\set id random(1, 1000)" f"\nSELECT t1.name, t10.name FROM t1 {JOIN} WHERE t1.id = :id;",
}
PROTOCOLS = ["prepared", "simple"]
# The goals concern differences of a few percent. So the two variants of a goal run again, on several pairs of
# connections that take turns.
DUELS = int(os.environ.get("BENCH_DUELS", "15"))
PAIR_SECONDS, TURN_SECONDS = 2, 0.02
GOALS = {"point lookup": 0.96, "full scan": 0.98, "10-way join": 0.98}
SWITCH_GOAL = 2.0


def ours(user, schema="tenant_acme"):
    return Session("app", search_path=schema, fluxbase_tenant__user_id=user, fluxbase_tenant__tenant_id=ACME)


def usual(schema):
    """Connects with app.tenant_id, a setting that is trusted as it is. A user who is no member gets another tenant."""
    return lambda user: Session("other", search_path=schema, app__user_id=user,
                                app__tenant_id=ACME if user == ANN else GLOBEX)


PLAIN, OURS = "no policy", "fluxbase_tenant"
VARIANTS = {
    PLAIN: usual("plain"),
    "no policy, beside the extension": lambda user: ours(user, "plain"),
    OURS: ours,
    "current_setting, no membership check": usual("setting"),
    "(SELECT current_setting), no check": usual("initplan"),
    "IN (SELECT my_tenants())": usual("list"),
    "(SELECT plpgsql_is_member(tenant_id))": usual("plpgsql"),
    "sql_is_member(tenant_id)": usual("sql"),
}
UNGUARDED = [PLAIN, "no policy, beside the extension"]

SWITCHES = {
    "two set_config": [f"SELECT set_config('app.tenant_id', '{tenant}', false), "
                       f"set_config('search_path', 'tenant_{name}, public', false);"
                       for name, tenant in (("acme", ACME), ("globex", GLOBEX))],
    "tenant_set_current": [f"SELECT tenant_set_current('{tenant}'::uuid);" for tenant in (ACME, GLOBEX)],
}


class Cell:
    """One query with one protocol: the sessions that are timed in turn, and the times of each round."""

    def __init__(self, query, protocol, runs):
        self.query, self.protocol, self.runs = query, protocol, runs
        self.transactions = {}
        self.times = {name: [] for name in runs}

    def calibrate(self):
        """Determines how many transactions fill the time of a run, and fills the server's caches."""
        for name, (session, script) in self.runs.items():
            transactions, fastest = 2, 0
            while transactions * fastest < 30_000:
                fastest = min(session.time(script, self.protocol, transactions))
                transactions *= 8
            self.transactions[name] = max(1, round(SECONDS * 1e6 / fastest))

    def run(self, turn):
        names = list(self.runs)
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            self.measure(name, self.transactions[name])

    def measure(self, name, transactions):
        session, script = self.runs[name]
        self.times[name].append(steady_mean(session.time(script, self.protocol, transactions)))

    def duel(self, *among):
        """Returns a cell that compares two variants of this query. They take turns at connecting first."""
        cell = Cell(self.query, self.protocol, {name: self.runs[name] for name in among})
        for pair in range(DUELS):
            names = among if pair % 2 else among[::-1]
            times = take_turns(*(self.runs[name] for name in names), self.protocol, PAIR_SECONDS, TURN_SECONDS)
            for name, mean in zip(names, times):
                cell.times[name].append(mean)
        return cell

    def median(self, name):
        return statistics.median(self.times[name])

    def ratio(self, of, to):
        """Returns the median of the rounds' ratios, time of `to` by time of `of`: 1 is as fast, less is slower."""
        return statistics.median(self.ratios(of, to))

    def ratios(self, of, to):
        return [b / a for a, b in zip(self.times[of], self.times[to])]


def main():
    started = time.monotonic()
    # Keep this process off the cores of the server and its clients.
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    say("Creating tenants and tables")
    run_file(Path(__file__).with_name("isolation.sql"), acme=ACME, globex=GLOBEX, ann=ANN)
    prove()
    sessions = {name: session(ANN) for name, session in VARIANTS.items()}
    queries = [Cell(query, protocol, {name: (session, script) for name, session in sessions.items()})
               for query, script in QUERIES.items() for protocol in PROTOCOLS]
    switcher = Session("app", fluxbase_tenant__user_id=ANN)
    switches = [Cell("switch", protocol, {name: (switcher, "\n".join(script)) for name, script in SWITCHES.items()})
                for protocol in PROTOCOLS]
    say("Warming up")
    for cell in queries:
        cell.calibrate()
    for turn in range(ROUNDS):
        say(f"Round {turn + 1} of {ROUNDS}")
        for cell in queries:
            cell.run(turn)
    say("Duels")
    duels = [cell.duel(PLAIN, OURS) for cell in queries if cell.query in GOALS]
    switches = [cell.duel(*SWITCHES) for cell in switches]
    say(f"Done after {time.monotonic() - started:.0f} s")
    text = "\n\n".join([about(), *(results(queries, protocol) for protocol in PROTOCOLS), goals(duels, switches)])
    print(f"\n{text}")
    write(text, queries)


def prove():
    """Checks that every variant shows a member all rows and an outsider none, so that a working check is measured."""
    for name, session in VARIANTS.items():
        seen = session(ANN).query("SELECT count(*) FROM items")
        assert seen == "100000", f"{name}: a member sees {seen} rows"
        try:
            seen = session(MALLORY).query("SELECT count(*) FROM items")
        except RuntimeError as refused:
            assert "permission denied" in str(refused), refused
            seen = "0"
        assert (seen == "0") == (name not in UNGUARDED), f"{name}: an outsider sees {seen} rows"
        plan = session(ANN).query("EXPLAIN SELECT count(*) FROM items")
        assert "Seq Scan" in plan, f"{name} does not scan the table: {plan}"


def results(cells, protocol):
    cells = [cell for cell in cells if cell.protocol == protocol]
    rows = [[name] + [f"{cell.ratio(name, PLAIN):.3f} ({duration(cell.median(name))})" for cell in cells]
            for name in VARIANTS]
    return f"### Protocol: {protocol}\n\n" + table(["policy"] + [cell.query for cell in cells], rows)


def goals(duels, switches):
    rows = []
    for cell in duels:
        ratio, goal = cell.ratio(OURS, PLAIN), GOALS[cell.query]
        low, _, high = statistics.quantiles(cell.ratios(OURS, PLAIN), n=4)
        rows.append([f"{cell.query}, {cell.protocol}", f"{ratio:.3f} ({low:.3f} to {high:.3f})", f"at least {goal:.2f}",
                     verdict(ratio >= goal)])
    for cell in switches:
        low, times, high = statistics.quantiles(cell.ratios("two set_config", "tenant_set_current"), n=4)
        costs = " against ".join(duration(cell.median(name) / 2) for name in ("tenant_set_current", "two set_config"))
        rows.append([f"tenant_set_current to two set_config, {cell.protocol}: {costs}", f"{times:.2f} ({low:.2f} to {high:.2f})",
                     f"at most {SWITCH_GOAL:.1f}", verdict(times <= SWITCH_GOAL)])
    turn = f"{TURN_SECONDS * 1000:.0f}"
    note = f"""The two variants that a goal compares run each query again on {DUELS} pairs of connections. While one
of them runs, the other is stopped, in turns of {turn} ms. Figures are the medians of the pairs' ratios, with the
quartiles in parentheses. (The figures above vary by a few percent from round to round, as the two variants without a
policy show.)"""
    return f"### Goals\n\n{note}\n\n" + table(["fluxbase_tenant to no policy", "ratio", "goal", ""], rows)


def about():
    version = Session("postgres").query("SHOW server_version").split()[0]
    return f"""## Isolation

Speed relative to a table without policies in the same round: 1 is as fast, 0.5 takes twice the time. The time of one
query as the client measures it is in parentheses. One table has 100,000 rows with an int key, and ten tables for the
join have 1,000 rows each. There are 100 tenants with 100 members each. benches/isolation.sql creates them. There are
{ROUNDS} interleaved rounds with one pgbench client each on the server's core, whose order is rotated. A speed is the
median of the rounds' ratios, a time the median of the rounds' times. PostgreSQL {version}, {os.cpu_count()} cores, {datetime.date.today()}.

The sessions have not loaded the library, except those of fluxbase_tenant and of "no policy, beside the extension".
Every variant checks that the user is a member, except the two with `current_setting`, which trust the setting.
"no policy, beside the extension" runs the plan of "no policy", so their difference, above or below 1, is that of equal
work in two databases."""


def write(text, queries):
    DOCS.mkdir(parents=True, exist_ok=True)
    prepared = [cell for cell in queries if cell.protocol == "prepared"]
    shown = [name for name in VARIANTS if name not in UNGUARDED]
    picture = bars(
        "What isolation costs",
        "Speed relative to a table without policy (dashed line = 1); prepared statements, medians of interleaved rounds",
        {cell.query: [cell.ratio(name, PLAIN) for name in shown] for cell in prepared}, shown, OURS, 1.0)
    (DOCS / "isolation.svg").write_text(picture)
    image = "![Speed relative to a table without policy](isolation.svg)"
    replace_section(DOCS / "benchmarks.md", "isolation", text.replace("### Protocol", f"{image}\n\n### Protocol", 1))


def duration(microseconds):
    if microseconds < 1000:
        return f"{microseconds:.1f} µs"
    return f"{microseconds / 1000:.2f} ms" if microseconds < 100_000 else f"{microseconds / 1000:.0f} ms"


def verdict(met):
    return "met" if met else "**missed**"


def say(text):
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
