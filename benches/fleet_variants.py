"""The ways to create tenants and to change all of them: plain SQL and fluxbase_tenant. Each has its own database."""

from pgbench import Session
from processes import psql, wall_time

TABLES = range(1, 11)
# Enough tenants for a figure, and as many at once as one transaction can lock.
MAX_SPARES, SPARES_AT_ONCE = 1000, 50

CREATE_TABLE = ("CREATE TABLE t{0} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, "
                "created_at timestamptz NOT NULL DEFAULT now())")
CREATE_INDEX = "CREATE INDEX ON t{0} (name)"
ADD_COLUMN = "ALTER TABLE t{0} ADD COLUMN c_{1} int"
PROTECT = ["ALTER TABLE t{0} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
           "CREATE POLICY members ON t{0} USING ((SELECT public.is_member('{1}')))"]
MEMBERS = """
    CREATE TABLE members (tenant text, user_id uuid, PRIMARY KEY (user_id, tenant));
    CREATE FUNCTION is_member(asked text) RETURNS boolean STABLE SECURITY DEFINER
        SET search_path = public, pg_temp LANGUAGE sql
        RETURN EXISTS (SELECT 1 FROM members WHERE tenant = asked
                       AND user_id = nullif(current_setting('app.user_id', true), '')::uuid);"""
ROLES_OF_TENANTS = "^(fleet_owner_|fluxbase_tenant_[0-9a-f]{32}$)"
ROLE_OF_USERS = "fleet_users"
# Replaces autovacuum, which is off because it would slow down some variants and not others.
TIDY = r"""
    SELECT 'VACUUM ANALYZE ' || string_agg(oid::regclass::text, ', ') FROM pg_class
    WHERE relkind = 'r' AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'fluxbase_tenant'))
    \gexec
    CHECKPOINT;
"""


class Variant:
    """`create`, `alter` and `visit` return the commands to be timed. What they do before returning is not timed."""

    creates, alters, visits, slow = True, True, False, False

    def __init__(self, label, database, folder):
        self.label, self.database, self.folder = label, database, folder

    def ask(self, sql):
        return Session("postgres", self.database).query(sql)

    def make(self):
        make_database(self.database)

    def tidy(self):
        script = self.folder / "tidy.sql"
        script.write_text(TIDY)
        wall_time([psql(self.database, f"--file={script}")])

    def created(self, tenants):
        """Returns how many of these tenants a run creates."""
        return tenants

    def tables(self):
        """Returns the number of tables of all tenants."""
        return int(self.ask("SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$' AND relkind = 'r'"))

    def columns(self, number):
        return int(self.ask(f"SELECT count(*) FROM pg_attribute WHERE attname = 'c_{number}'"))

    def scripts(self, transactions, processes):
        """Splits the transactions among the processes, and returns a psql command for each."""
        shares = [transactions[part * len(transactions) // processes:(part + 1) * len(transactions) // processes]
                  for part in range(processes)]
        return [self.script(f"{part}", share) for part, share in enumerate(shares)]

    def script(self, name, transactions):
        path = self.folder / f"{self.database}_{name}.sql"
        path.write_text("".join(transactions))
        return psql(self.database, f"--file={path}")


class Raw(Variant):
    """Plain DDL, in a transaction for each schema. `one_message` sends each transaction in one message, so that the
    client adds no time."""

    def __init__(self, label, database, folder, processes=1, policies=False, one_message=False):
        super().__init__(label, database, folder)
        self.processes, self.policies, self.one_message = processes, policies, one_message

    def make(self):
        super().make()
        if self.policies:
            self.ask(MEMBERS)

    def create(self, tenants):
        return self.scripts([self.transaction(self.schema(name)) for name in names(tenants)], self.processes)

    def alter(self, tenants, number):
        return self.scripts([
            self.transaction([*self.enter(name), *(ADD_COLUMN.format(table, number) for table in TABLES)])
            for name in names(tenants)], self.processes)

    def transaction(self, statements):
        between = r"\;" if self.one_message else ";\n"
        return between.join(["BEGIN", *statements, "COMMIT"]) + ";\n"

    def schema(self, name):
        if not self.policies:
            yield f"CREATE SCHEMA {name}"
        else:
            yield f"CREATE ROLE fleet_owner_{name} NOLOGIN"
            yield f"CREATE SCHEMA {name} AUTHORIZATION fleet_owner_{name}"
            yield f"GRANT USAGE ON SCHEMA {name} TO {ROLE_OF_USERS}"
        yield from self.enter(name)
        for table in TABLES:
            yield CREATE_TABLE.format(table)
            yield CREATE_INDEX.format(table)
            if self.policies:
                yield from (statement.format(table, name) for statement in PROTECT)
        if self.policies:
            yield f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name} TO {ROLE_OF_USERS}"

    def enter(self, name):
        yield f"SET LOCAL search_path TO {name}"
        if self.policies:
            yield f"SET LOCAL ROLE fleet_owner_{name}"


class Ours(Variant):
    """`parallel` is the number of fleet workers, and of psql processes that create tenants."""

    def __init__(self, label, database, folder, parallel=1):
        super().__init__(label, database, folder)
        self.parallel = parallel
        self.visits = parallel == 1

    def make(self):
        super().make()
        # As the README recommends: the library is loaded from the start of each session.
        self.ask(f"ALTER DATABASE {self.database} SET session_preload_libraries = 'fluxbase_tenant'")
        self.ask("CREATE EXTENSION fluxbase_tenant")
        self.register(1, [statement.format(table) for table in TABLES for statement in (CREATE_TABLE, CREATE_INDEX)])

    def register(self, version, statements):
        self.ask(f"SELECT FROM tenant_migration_add('{version}', 'fleet', $up${'; '.join(statements)}$up$)")

    def create(self, tenants):
        return self.scripts([f"SELECT id FROM tenant_create('{name}', '{name}');\n" for name in names(self.created(tenants))],
                            self.parallel)

    def alter(self, tenants, number):
        self.register(number + 1, [ADD_COLUMN.format(table, number) for table in TABLES])
        return [psql(self.database, f"--command=SELECT count(*) FROM tenant_migrate_all(parallel => {self.parallel})")]

    def visit(self):
        return [psql(self.database, "--command=SELECT count(*) FROM tenant_migrate_all()")]


class Spares(Ours):
    """Takes tenants from spares that were created before the clock starts. No spare is replaced while it runs."""

    alters = False

    def __init__(self, label, database, folder):
        super().__init__(label, database, folder)
        self.visits = False

    def created(self, tenants):
        return min(tenants, MAX_SPARES)

    def create(self, tenants):
        count = self.created(tenants)
        for ready in range(SPARES_AT_ONCE, count + SPARES_AT_ONCE, SPARES_AT_ONCE):
            self.ask(f"SELECT tenant_spares_fill({min(ready, count)})")
        self.tidy()
        return super().create(tenants)

    @staticmethod
    def available():
        """Reports whether this version of the extension supports spares."""
        make_database("fleet_probe")
        session = Session("postgres", "fleet_probe")
        session.query("CREATE EXTENSION fluxbase_tenant")
        found = session.query("SELECT count(*) FROM pg_proc WHERE proname = 'tenant_spares_fill'") != "0"
        drop_database("fleet_probe")
        return found


def names(tenants):
    return [f"c{number:05}" for number in range(1, tenants + 1)]


def make_database(name, template="template1"):
    drop_database(name)
    Session("postgres").query(f"CREATE DATABASE {name} TEMPLATE {template}")


def drop_database(name):
    Session("postgres").query(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def forget_tenants(variants, folder):
    """Drops the variants' databases, and the tenants' roles, which belong to the cluster."""
    for variant in variants:
        drop_database(variant.database)
    script = folder / "forget.sql"
    script.write_text("SELECT 'DROP ROLE ' || quote_ident(rolname) FROM pg_roles "
                      f"WHERE rolname ~ '{ROLES_OF_TENANTS}' \\gexec\n")
    wall_time([psql("postgres", f"--file={script}")])
