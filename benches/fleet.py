"""Measures what many tenants cost: creating them, changing all of them, and finding that nothing is pending."""

import datetime
import os
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

from django_peer import Django, DjangoAlone
from fleet_labels import DJANGO, DJANGO_ALONE, DJANGO_TWICE, MESSAGES, OURS, OURS_TWICE, POLICIES, RAW, RAW_TWICE, SPARES
from fleet_report import Figures, report
from fleet_variants import ROLE_OF_USERS, TABLES, Ours, Raw, Spares, forget_tenants
from pgbench import Session
from processes import Watch, wall_time

# Slow alternatives are measured only in the last `slow` rounds, because one of their rounds takes as long as ten
# others.
Rounds = namedtuple("Rounds", "create alter visit slow")


def rounds(tenants):
    if "BENCH_ROUNDS" in os.environ:
        count = int(os.environ["BENCH_ROUNDS"])
        return Rounds(count, count, count, count if tenants <= 100 else 1)
    if tenants <= 100:
        return Rounds(7, 7, 7, 7)
    return Rounds(3, 7, 7, 1) if tenants <= 1000 else Rounds(1, 3, 7, 0)


def variants(folder, large):
    """Returns the variants in display order. A large fleet is measured without the slow and the special ones."""
    raw, ours = Raw(RAW, "fleet_raw", folder), Ours(OURS, "fleet_ours", folder)
    ours_twice = Ours(OURS_TWICE, "fleet_ours_twice", folder, parallel=2)
    spares = [Spares(SPARES, "fleet_spares", folder)] if Spares.available() else []
    if large:
        return [raw, ours, ours_twice, *spares]
    django = Django(DJANGO, "fleet_django", folder, "standard")
    return [
        raw,
        Raw(RAW_TWICE, "fleet_raw_twice", folder, processes=2),
        Raw(MESSAGES, "fleet_messages", folder, one_message=True),
        Raw(POLICIES, "fleet_policies", folder, policies=True),
        ours,
        ours_twice,
        *spares,
        django,
        Django(DJANGO_TWICE, "fleet_django_twice", folder, "multiprocessing", copy_of=django),
        DjangoAlone(DJANGO_ALONE, "fleet_django_alone", folder, "standard"),
    ]


class Fleet:
    """Measures all variants with one number of tenants."""

    def __init__(self, tenants, everyone, folder, figures):
        self.tenants, self.folder, self.figures = tenants, folder, figures
        self.rounds = rounds(tenants)
        self.everyone = [variant for variant in everyone if self.rounds.slow or not variant.slow]

    def measure(self):
        for turn in range(self.rounds.create):
            forget_tenants(self.everyone, self.folder)
            self.round("create", turn, self.rounds.create, [variant for variant in self.everyone if variant.creates])
        for variant in self.everyone:
            if not variant.creates:
                variant.make()
        for turn in range(self.rounds.alter):
            self.round("alter", turn, self.rounds.alter, [variant for variant in self.everyone if variant.alters])
        for turn in range(self.rounds.visit):
            self.round("visit", turn, self.rounds.visit, [variant for variant in self.everyone if variant.visits])
        self.watch(OURS, "fluxbase_tenant fleet")
        self.watch(RAW, "client backend")
        forget_tenants(self.everyone, self.folder)

    def round(self, step, turn, turns, among):
        """Runs each variant once, and begins with another variant in each round."""
        say(f"{self.tenants} tenants, {step}, round {turn + 1} of {turns}")
        first = turn % len(among)
        for variant in among[first:] + among[:first]:
            sits_out = variant.slow and turn < turns - self.rounds.slow
            seconds = None if sits_out else getattr(self, step)(variant, turn + 1)
            self.figures.add(self.tenants, step, variant.label, seconds,
                             variant.created(self.tenants) if step == "create" else self.tenants)

    def create(self, variant, _):
        variant.make()
        seconds = wall_time(variant.create(self.tenants))
        self.expect(variant, variant.tables(), variant.created(self.tenants))
        return seconds

    def alter(self, variant, number):
        commands = variant.alter(self.tenants, number)
        variant.tidy()
        seconds = wall_time(commands)
        self.expect(variant, variant.columns(number), self.tenants)
        return seconds

    def visit(self, variant, _):
        variant.tidy()
        return wall_time(variant.visit())

    def expect(self, variant, found, tenants):
        """Checks that the timed work was done, for every table of every tenant."""
        wanted = tenants * len(TABLES)
        assert found == wanted, f"{variant.label}: {found} tables or columns with {tenants} tenants, not {wanted}"

    def watch(self, label, backend_type):
        """Runs one more migration, and samples the memory of the backend that runs it."""
        variant = next(variant for variant in self.everyone if variant.label == label)
        commands = variant.alter(self.tenants, self.rounds.alter + 1)
        variant.tidy()
        with Watch(variant.database, backend_type) as watch:
            wall_time(commands)
        if watch.samples:
            self.figures.memory[self.tenants, label] = watch.growth()


def main(sizes="100 1000", section="fleet", title="The fleet"):
    started = time.monotonic()
    sizes = [int(size) for size in os.environ.get("BENCH_TENANTS", sizes).split()]
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        Session("postgres").query(f"CREATE ROLE {ROLE_OF_USERS}")
        everyone = variants(Path(folder), large=section != "fleet")
        for tenants in sizes:
            Fleet(tenants, everyone, Path(folder), figures).measure()
    say(f"Done after {time.monotonic() - started:.0f} s")
    version = Session("postgres").query("SHOW server_version").split()[0]
    where = f"PostgreSQL {version}, {os.cpu_count()} cores, {datetime.date.today()}"
    report(figures, [variant.label for variant in everyone], section, title, where, {size: rounds(size) for size in sizes})


def say(text):
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
