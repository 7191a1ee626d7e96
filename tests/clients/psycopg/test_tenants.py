"""Tests that use psycopg, as roles without superuser privileges. PGHOST, PGPORT, PGDATABASE and PGUSER (the
application's back end) come from the environment. Parameters are bound as native Python types, without casts in the SQL."""

import datetime
import json
import unittest
import uuid

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

ADMIN = "user=app_admin"


def slug():
    return f"t-{uuid.uuid4().hex[:12]}"


class Case(unittest.TestCase):
    def connect(self, conninfo="", **options):
        connection = psycopg.connect(conninfo, row_factory=dict_row, autocommit=True, **options)
        self.addCleanup(connection.close)
        return connection

    def setUp(self):
        self.server = self.connect()
        self.admin = self.connect(ADMIN)
        self.alice, self.bob = uuid.uuid4(), uuid.uuid4()

    def one(self, connection, sql, *parameters):
        rows = connection.execute(sql, parameters).fetchall()
        self.assertEqual(len(rows), 1, rows)
        return rows[0]

    def act_as(self, connection, user):
        connection.execute("SELECT set_config('fluxbase_tenant.user_id', %s, false)", [str(user)])

    def create(self, **arguments):
        return self.one(
            self.admin,
            "SELECT * FROM tenant_create(slug => %s, name => %s, metadata => %s, admin_user_id => %s)",
            arguments.get("slug", slug()),
            arguments.get("name", "Acme"),
            Jsonb(arguments.get("metadata", {})),
            self.alice,
        )

    def refused(self, connection, sql, *parameters):
        with self.assertRaises(psycopg.Error) as caught:
            connection.execute(sql, parameters)
        return caught.exception


class Roles(Case):
    def test_no_superuser_is_needed(self):
        for connection in (self.server, self.admin):
            role = self.one(connection, "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
            self.assertEqual(role, {"rolsuper": False, "rolbypassrls": False})


class Tenants(Case):
    def test_a_row_is_a_dict_of_native_types(self):
        created = self.create(slug="native-types", name="Ünïcode & 'Söhne'", metadata={"plan": "pro", "seats": [1, 2]})
        self.assertIsInstance(created["id"], uuid.UUID)
        self.assertEqual(created["slug"], "native-types")
        self.assertEqual(created["name"], "Ünïcode & 'Söhne'")
        self.assertEqual(created["schema_name"], "tenant_native_types")
        self.assertEqual(created["metadata"], {"plan": "pro", "seats": [1, 2]})
        self.assertIs(created["is_default"], False)
        self.assertIsInstance(created["created_at"], datetime.datetime)
        self.assertIsNone(created["deleted_at"])

    def test_a_tenant_is_found_by_uuid_and_by_its_text(self):
        created = self.create()
        self.act_as(self.server, self.alice)
        self.assertEqual(self.one(self.server, "SELECT * FROM tenant_get(%s)", created["id"]), created)
        self.assertEqual(self.one(self.server, "SELECT * FROM tenant_get(%s)", str(created["id"])), created)
        self.assertEqual(self.one(self.server, "SELECT * FROM tenant_get_by_slug(%s)", created["slug"]), created)

    def test_none_leaves_a_column_unchanged(self):
        created = self.create(name="Before", metadata={"kept": True})
        self.act_as(self.server, self.alice)
        update = "SELECT name, metadata FROM tenant_update(tenant_id => %s, name => %s, metadata => %s)"
        changed = self.one(self.server, update, created["id"], "After", None)
        self.assertEqual(changed, {"name": "After", "metadata": {"kept": True}})
        changed = self.one(self.server, update, created["id"], None, Jsonb({"kept": False}))
        self.assertEqual(changed, {"name": "After", "metadata": {"kept": False}})

    def test_lists(self):
        first, second = self.create(), self.create()
        self.act_as(self.server, self.alice)
        mine = self.server.execute("SELECT id, my_role FROM tenant_list_mine()").fetchall()
        self.assertEqual(
            mine, [{"id": tenant["id"], "my_role": "tenant_admin"} for tenant in (first, second)]
        )
        everything = [row["id"] for row in self.admin.execute("SELECT id FROM tenant_list()")]
        self.assertLess(everything.index(first["id"]), everything.index(second["id"]))


class Members(Case):
    def test_members_are_added_and_leave(self):
        tenant = self.create()
        self.act_as(self.server, self.alice)
        added = self.one(
            self.server,
            "SELECT * FROM tenant_add_member(tenant_id => %s, user_id => %s, role => %s)",
            tenant["id"],
            self.bob,
            "tenant_member",
        )
        self.assertEqual((added["user_id"], added["assigned_by"]), (self.bob, self.alice))
        self.assertIsNone(added["email"])
        members = self.server.execute("SELECT user_id, role FROM tenant_list_members(%s)", [tenant["id"]]).fetchall()
        self.assertEqual(
            members,
            [{"user_id": self.alice, "role": "tenant_admin"}, {"user_id": self.bob, "role": "tenant_member"}],
        )
        self.act_as(self.server, self.bob)
        self.assertEqual(self.one(self.server, "SELECT user_id FROM tenant_leave(%s)", tenant["id"])["user_id"], self.bob)

    def test_booleans(self):
        tenant = self.create()
        self.act_as(self.server, self.bob)
        answer = self.one(
            self.server,
            "SELECT tenant_has_access(%s) AS access, tenant_has_role(%s, %s) AS admin",
            tenant["id"],
            tenant["id"],
            "tenant_admin",
        )
        self.assertEqual(answer, {"access": False, "admin": False})


class Session(Case):
    def test_the_tenant_is_set_by_slug_by_uuid_and_by_its_text(self):
        tenant = self.create()
        self.act_as(self.server, self.alice)
        for name in (tenant["slug"], tenant["id"], str(tenant["id"])):
            self.one(self.server, "SELECT id FROM tenant_set_current(tenant => %s, is_local => %s)", name, False)
            self.assertEqual(self.one(self.server, "SELECT tenant_current_id() AS id"), {"id": tenant["id"]})
            self.assertEqual(
                self.one(self.server, "SHOW search_path")["search_path"].split(", ")[0], tenant["schema_name"]
            )
            self.server.execute("SELECT tenant_reset_current()")

    def test_a_pooled_connection_carries_nothing_over(self):
        """As through a transaction pooler: several callers use one connection, one after the other."""
        tenant = self.create()
        with self.server.transaction():
            self.server.execute("SELECT set_config('fluxbase_tenant.user_id', %s, true)", [str(self.alice)])
            self.one(self.server, "SELECT id FROM tenant_set_current(%s, %s)", tenant["slug"], True)
            self.assertEqual(self.one(self.server, "SELECT tenant_current_user_id() AS id"), {"id": self.alice})
        nothing = {"user": None, "tenant": None}
        who = "SELECT tenant_current_user_id() AS user, tenant_current_id() AS tenant"
        self.assertEqual(self.one(self.server, who), nothing)
        self.assertEqual(self.refused(self.server, "SELECT * FROM tenant_get(%s)", tenant["id"]).sqlstate, "28000")

        with self.assertRaises(ZeroDivisionError), self.server.transaction():
            self.server.execute("SELECT set_config('fluxbase_tenant.user_id', %s, true)", [str(self.alice)])
            raise ZeroDivisionError
        self.assertEqual(self.one(self.server, who), nothing)

    def test_prepared_statements_follow_the_current_user(self):
        tenant = self.create()
        mine = "SELECT id FROM tenant_list_mine()"
        for user, expected in [(self.alice, [tenant["id"]]), (self.bob, []), (self.alice, [tenant["id"]])]:
            self.act_as(self.server, user)
            rows = self.server.execute(mine, prepare=True).fetchall()
            self.assertEqual([row["id"] for row in rows], expected)


class Migrations(Case):
    def test_registered_and_applied(self):
        tenant = self.create()
        add = "SELECT * FROM tenant_migration_add(version => %s, name => %s, up => %s, down => %s)"
        # Percent signs and dollar quotes are stored unchanged.
        up = "CREATE TABLE notes (body text DEFAULT $$100 % 'sure'$$);\nINSERT INTO notes DEFAULT VALUES;"
        added = self.one(self.admin, add, "psycopg-1", "notes", up, None)
        self.assertEqual((added["version"], added["up"], added["down"]), ("psycopg-1", up, None))
        self.assertEqual(self.one(self.admin, add, "psycopg-1", "notes", up, None), added)
        migrated = self.one(self.admin, "SELECT * FROM tenant_migrate(tenant_id => %s)", tenant["id"])
        self.assertEqual((migrated["status"], migrated["applied"]), ("migrated", 1))

        self.act_as(self.server, self.alice)
        self.server.execute("SELECT tenant_set_current(%s)", [tenant["id"]])
        self.assertEqual(self.one(self.server, "SELECT body FROM notes"), {"body": "100 % 'sure'"})


class Errors(Case):
    def test_a_refusal_has_sqlstate_detail_and_hint(self):
        tenant = self.create()
        self.act_as(self.server, self.bob)
        error = self.refused(self.server, "SELECT * FROM tenant_get(%s)", tenant["id"])
        self.assertIsInstance(error, psycopg.errors.NoDataFound)
        self.assertEqual(error.sqlstate, "P0002")
        self.assertEqual(json.loads(error.diag.message_detail), {"status": 404, "code": "not_found"})
        self.assertTrue(error.diag.message_hint)

        unknown = self.refused(self.server, "SELECT * FROM tenant_get(%s)", uuid.uuid4())
        self.assertEqual(str(unknown), str(error))

    def test_each_code_has_its_class(self):
        tenant = self.create()
        self.act_as(self.server, self.alice)
        cases = [
            (self.server, "SELECT * FROM tenant_delete(%s)", [tenant["id"]], 403, psycopg.errors.InsufficientPrivilege),
            (
                self.server,
                "SELECT * FROM tenant_update(%s, %s, %s)",
                [tenant["id"], None, Jsonb([1])],
                400,
                psycopg.errors.InvalidParameterValue,
            ),
            (
                self.server,
                "SELECT * FROM tenant_remove_admin(%s, %s)",
                [tenant["id"], self.alice],
                409,
                psycopg.errors.ObjectNotInPrerequisiteState,
            ),
            (
                self.admin,
                "SELECT * FROM tenant_create(slug => %s, name => %s)",
                [tenant["slug"], "Another"],
                409,
                psycopg.errors.UniqueViolation,
            ),
        ]
        for connection, sql, parameters, status, error_class in cases:
            with self.subTest(sql):
                error = self.refused(connection, sql, *parameters)
                self.assertIsInstance(error, error_class)
                self.assertEqual(json.loads(error.diag.message_detail)["status"], status)


if __name__ == "__main__":
    unittest.main()
