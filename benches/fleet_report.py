"""Reports the results of the fleet benchmark: figures, tables, goals, chart."""

import os
import statistics
from pathlib import Path

from fleet_labels import OURS, OURS_TWICE, POLICIES, RAW, RAW_TWICE, SPARES
from report import bars, replace_section, table

DOCS = Path(os.environ["BENCH_DOCS"])
CREATE_GOAL, SPARES_GOAL, ONE_GOAL, TWO_GOAL, IDLE_GOAL, GROWTH_GOAL = 1.10, 0.002, 1.15, 0.65, 0.050, 1.0
# The smallest fleet for which a worker's memory is reported. A smaller run ends before the worker's caches are filled.
FEWEST_FOR_MEMORY = 1000


class Figures:
    """Seconds by size, step and variant; None in rounds in which a variant was not measured."""

    def __init__(self):
        self.times, self.memory, self.counts = {}, {}, {}

    def add(self, tenants, step, label, seconds, count):
        self.times.setdefault((tenants, step, label), []).append(seconds)
        self.counts[tenants, step, label] = count

    def has(self, step, label):
        return any(self.measured(tenants, step, label) for tenants in self.sizes())

    def sizes(self):
        return sorted({tenants for tenants, _, _ in self.times})

    def measured(self, tenants, step, label):
        return [seconds for seconds in self.times.get((tenants, step, label), []) if seconds is not None]

    def each(self, tenants, step, label):
        """Returns the median seconds for one tenant, or None if the variant was not measured."""
        found = self.measured(tenants, step, label)
        return statistics.median(found) / self.counts[tenants, step, label] if found else None

    def total(self, tenants, step, label):
        found = self.measured(tenants, step, label)
        return statistics.median(found) if found else None

    def ratio(self, tenants, step, label, to=RAW):
        """Returns the median of the rounds' ratios of the time for one tenant: 2 means that it takes twice as long."""
        counts = [self.counts.get((tenants, step, name), 1) for name in (label, to)]
        pairs = zip(self.times.get((tenants, step, label), []), self.times.get((tenants, step, to), []))
        ratios = [(mine / counts[0]) / (other / counts[1]) for mine, other in pairs if None not in (mine, other)]
        return statistics.median(ratios) if ratios else None


def report(figures, labels, section, title, where, rounds):
    shown = [label for label in labels if figures.has("alter", label) or figures.has("create", label)]
    idle = [label for label in labels if figures.has("visit", label)]
    text = "\n\n".join([
        about(title, where, rounds, SPARES in labels),
        f"![Tenants per second]({section}.svg)",
        "### Creating a tenant\n\n" + step_table(figures, "create", shown),
        "### Ten ADD COLUMNs in every tenant\n\n" + step_table(figures, "alter", shown),
        "### Nothing pending\n\n" + idle_table(figures, idle),
        "### Memory of the backend that migrates\n\n" + memory_table(figures),
        "### Goals\n\n" + goals(figures),
    ])
    print(f"\n{text}")
    DOCS.mkdir(parents=True, exist_ok=True)
    # Next to the bar of the spares, the other bars would be too short to see.
    drawn = [label for label in shown if label != SPARES]
    picture = bars(
        f"{title}: creating tenants, and changing all of them",
        "Tenants per second relative to plain DDL in one psql (dashed line = 1); medians of interleaved rounds",
        {f"{heading}, {tenants} tenants": [speed(figures.ratio(tenants, step, label)) for label in drawn]
         for tenants in figures.sizes() for step, heading in (("create", "create"), ("alter", "ten ADD COLUMNs"))},
        drawn, OURS, 1.0)
    (DOCS / f"{section}.svg").write_text(picture)
    replace_section(DOCS / "benchmarks.md", section, text)


def about(title, where, rounds, has_spares):
    counts = "\n".join(f"| {tenants} | {turns.create} | {turns.alter} | {turns.visit} | {turns.slow} |"
                       for tenants, turns in rounds.items())
    spares = "" if has_spares else "\n\nThis version of the extension has no spares."
    return f"""## {title}

Time relative to plain DDL in one psql session in the same round: 1 is as long, 2 is twice as long. The time for one
tenant is in parentheses. A tenant has ten tables with an identity key and an index. Each round applies another change,
which adds a column to each of the ten tables. Every tenant is a transaction of its own. The times are those of whole
processes, psql or Django's management command, from start to end. Figures are medians of interleaved rounds, whose
order is rotated. Each variant has its own database, which is created again for each round of creating and vacuumed
before each round of changing. The server does not wait for the disk (`fsync=off`), so that the figures compare work.
{where}.

"Raw loop" has no protection. "With policies" also creates an owner role for each tenant, and a policy on each table
that checks the membership. "One message" sends each transaction in one message, so that the client adds no time. "Two
at once" creates tenants in two psql sessions and changes them with two workers. django-tenants does not isolate tenants
from each other.{spares}

| tenants | rounds of creating | of changing | with nothing pending | of these with django-tenants |
| --- | ---: | ---: | ---: | ---: |
{counts}"""


def step_table(figures, step, labels):
    rows = []
    for label in labels:
        cells = [(figures.ratio(tenants, step, label), figures.each(tenants, step, label)) for tenants in figures.sizes()]
        if any(ratio is not None for ratio, _ in cells):
            rows.append([label] + ["" if ratio is None else f"{ratio:.2f} ({duration(each)})" for ratio, each in cells])
    return table([""] + [f"{tenants} tenants" for tenants in figures.sizes()], rows)


def idle_table(figures, labels):
    rows = [[label] + [duration(figures.total(tenants, "visit", label)) for tenants in figures.sizes()] for label in labels]
    return table([""] + [f"{tenants} tenants" for tenants in figures.sizes()], rows)


def memory_table(figures):
    rows = [[f"{label}, {tenants} tenants", f"{half:.1f} MB", f"{end:.1f} MB", f"{growth(tenants, half, end):.2f} MB"]
            for (tenants, label), (half, end) in figures.memory.items()]
    return "Private memory, without shared buffers.\n\n" + table(
        ["", "halfway", "at the end", "more per 1,000 tenants"], rows)


def growth(tenants, half, end):
    return (end - half) / (tenants / 2) * 1000


def goals(figures):
    rows = []

    def judge(what, value, shown, limit, goal):
        if value is not None:
            rows.append([what, shown(value), goal, verdict(value <= limit)])

    for tenants in figures.sizes():
        judge(f"create to raw loop, {tenants} tenants", figures.ratio(tenants, "create", OURS), times,
              CREATE_GOAL, f"at most {CREATE_GOAL:.2f}")
        beside = figures.ratio(tenants, "create", OURS, to=POLICIES)
        if beside is not None:
            rows.append([f"create to raw loop with policies, {tenants} tenants", times(beside), "", ""])
        judge(f"create from spares, {tenants} tenants", figures.each(tenants, "create", SPARES), duration,
              SPARES_GOAL, f"at most {duration(SPARES_GOAL)}")
        judge(f"change with one worker to raw loop, {tenants} tenants", figures.ratio(tenants, "alter", OURS), times,
              ONE_GOAL, f"at most {ONE_GOAL:.2f}")
        judge(f"change with two workers to raw loop, {tenants} tenants", figures.ratio(tenants, "alter", OURS_TWICE), times,
              TWO_GOAL, f"at most {TWO_GOAL:.2f}")
        beside = figures.ratio(tenants, "alter", OURS_TWICE, to=RAW_TWICE)
        if beside is not None:
            rows.append([f"change with two workers to two psql, {tenants} tenants", times(beside), "", ""])
        judge(f"nothing pending, {tenants} tenants", figures.total(tenants, "visit", OURS), duration,
              IDLE_GOAL, f"at most {duration(IDLE_GOAL)}")
        if tenants >= FEWEST_FOR_MEMORY and (tenants, OURS) in figures.memory:
            judge(f"a worker's growth per 1,000 tenants, {tenants} tenants", growth(tenants, *figures.memory[tenants, OURS]),
                  lambda megabytes: f"{megabytes:.2f} MB", GROWTH_GOAL, f"at most {GROWTH_GOAL:.0f} MB")
    return table(["fluxbase_tenant", "measured", "goal", ""], rows)


def times(ratio):
    return f"{ratio:.2f}"


def speed(ratio):
    return None if ratio is None else 1 / ratio


def duration(seconds):
    if seconds is None:
        return ""
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.{1 if seconds >= 0.1 else 2}f} ms"


def verdict(met):
    return "met" if met else "**missed**"
