// Tests that use node-postgres, as roles without superuser privileges. PGHOST, PGPORT, PGDATABASE and PGUSER (the
// application's back end) come from the environment. Parameters are bound as native JavaScript types, without casts in
// the SQL.
"use strict";

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { after, before, beforeEach, test } = require("node:test");
const { Client, Pool } = require("pg");

let server;
let admin;
before(async () => {
  server = new Client();
  admin = new Client({ user: "app_admin" });
  await server.connect();
  await admin.connect();
});
after(async () => {
  await server.end();
  await admin.end();
});

let alice;
let bob;
beforeEach(async () => {
  alice = randomUUID();
  bob = randomUUID();
  await server.query("DISCARD ALL");
});

const newSlug = () => `t-${randomUUID().slice(0, 13)}`;
const actAs = (client, user) => client.query("SELECT set_config('fluxbase_tenant.user_id', $1, false)", [user]);

async function one(client, sql, parameters) {
  const { rows } = await client.query(sql, parameters);
  assert.equal(rows.length, 1);
  return rows[0];
}

function create({ slug = newSlug(), name = "Acme", metadata = {} } = {}) {
  const sql = "SELECT * FROM tenant_create(slug => $1, name => $2, metadata => $3, admin_user_id => $4)";
  return one(admin, sql, [slug, name, metadata, alice]);
}

/** Returns the error, whose fields are those of the server's message. */
async function refused(client, sql, parameters) {
  try {
    await client.query(sql, parameters);
  } catch (error) {
    return error;
  }
  return assert.fail(`${sql} succeeded`);
}

test("no superuser is needed", async () => {
  for (const client of [server, admin]) {
    const role = await one(client, "SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user");
    assert.deepEqual(role, { rolsuper: false, rolbypassrls: false });
  }
});

test("a row is an object of native types", async () => {
  const created = await create({ slug: "native-types", name: "Ünïcode & 'Söhne'", metadata: { plan: "pro", seats: [1, 2] } });
  assert.match(created.id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.equal(created.slug, "native-types");
  assert.equal(created.name, "Ünïcode & 'Söhne'");
  assert.equal(created.schema_name, "tenant_native_types");
  assert.deepEqual(created.metadata, { plan: "pro", seats: [1, 2] });
  assert.equal(created.is_default, false);
  assert.ok(created.created_at instanceof Date);
  assert.equal(created.deleted_at, null);
});

test("a tenant is found by id and by slug", async () => {
  const created = await create();
  await actAs(server, alice);
  assert.deepEqual(await one(server, "SELECT * FROM tenant_get($1)", [created.id]), created);
  assert.deepEqual(await one(server, "SELECT * FROM tenant_get_by_slug($1)", [created.slug]), created);
});

test("null and undefined leave a column unchanged", async () => {
  const created = await create({ name: "Before", metadata: { kept: true } });
  await actAs(server, alice);
  const update = "SELECT name, metadata FROM tenant_update(tenant_id => $1, name => $2, metadata => $3)";
  assert.deepEqual(await one(server, update, [created.id, "After", undefined]), { name: "After", metadata: { kept: true } });
  assert.deepEqual(await one(server, update, [created.id, null, { kept: false }]), { name: "After", metadata: { kept: false } });
});

test("lists", async () => {
  const first = await create();
  const second = await create();
  await actAs(server, alice);
  const mine = await server.query("SELECT id, my_role FROM tenant_list_mine()");
  assert.deepEqual(mine.rows, [first, second].map(({ id }) => ({ id, my_role: "tenant_admin" })));
  const everything = (await admin.query("SELECT id FROM tenant_list()")).rows.map(({ id }) => id);
  assert.ok(everything.indexOf(first.id) < everything.indexOf(second.id));
});

test("members are added and leave", async () => {
  const { id } = await create();
  await actAs(server, alice);
  const add = "SELECT * FROM tenant_add_member(tenant_id => $1, user_id => $2, role => $3)";
  const added = await one(server, add, [id, bob, "tenant_member"]);
  assert.deepEqual([added.user_id, added.assigned_by, added.email], [bob, alice, null]);
  const members = await server.query("SELECT user_id, role FROM tenant_list_members($1)", [id]);
  assert.deepEqual(members.rows, [
    { user_id: alice, role: "tenant_admin" },
    { user_id: bob, role: "tenant_member" },
  ]);
  await actAs(server, bob);
  assert.equal((await one(server, "SELECT user_id FROM tenant_leave($1)", [id])).user_id, bob);
  const answer = await one(server, "SELECT tenant_has_access($1) AS access, tenant_has_role($1, $2) AS admin", [id, "tenant_admin"]);
  assert.deepEqual(answer, { access: false, admin: false });
});

test("the tenant is set by slug and by id", async () => {
  const tenant = await create();
  await actAs(server, alice);
  for (const name of [tenant.slug, tenant.id]) {
    await one(server, "SELECT id FROM tenant_set_current(tenant => $1, is_local => $2)", [name, false]);
    assert.deepEqual(await one(server, "SELECT tenant_current_id() AS id"), { id: tenant.id });
    const { search_path: path } = await one(server, "SHOW search_path");
    assert.equal(path.split(", ")[0], tenant.schema_name);
    await server.query("SELECT tenant_reset_current()");
  }
});

test("a pooled connection carries nothing over", async () => {
  const tenant = await create();
  const pool = new Pool({ max: 1 });
  /** The transaction in which an application wraps each request. */
  async function asUser(user, work) {
    const client = await pool.connect();
    try {
      await client.query("BEGIN");
      await client.query("SELECT set_config('fluxbase_tenant.user_id', $1, true)", [user]);
      const result = await work(client);
      await client.query("COMMIT");
      return result;
    } catch (error) {
      await client.query("ROLLBACK");
      throw error;
    } finally {
      client.release();
    }
  }
  const who = "SELECT tenant_current_user_id() AS user, tenant_current_id() AS tenant";
  try {
    const during = await asUser(alice, async (client) => {
      await client.query("SELECT tenant_set_current($1, $2)", [tenant.slug, true]);
      return one(client, who);
    });
    assert.deepEqual(during, { user: alice, tenant: tenant.id });
    assert.deepEqual(await one(pool, who), { user: null, tenant: null });
    assert.equal((await refused(pool, "SELECT * FROM tenant_get($1)", [tenant.id])).code, "28000");

    await assert.rejects(asUser(alice, (client) => client.query("SELECT 1 / 0")), { code: "22012" });
    assert.deepEqual(await one(pool, who), { user: null, tenant: null });
    // Two users share the one connection, and each of them sees only their own tenants.
    const mine = (user) => asUser(user, (client) => client.query("SELECT id FROM tenant_list_mine()"));
    const [hers, his] = await Promise.all([mine(alice), mine(bob)]);
    assert.deepEqual([hers.rows, his.rows], [[{ id: tenant.id }], []]);
  } finally {
    await pool.end();
  }
});

test("prepared statements follow the current user", async () => {
  const { id } = await create();
  for (const [user, expected] of [[alice, [{ id }]], [bob, []], [alice, [{ id }]]]) {
    await actAs(server, user);
    const { rows } = await server.query({ name: "mine", text: "SELECT id FROM tenant_list_mine()" });
    assert.deepEqual(rows, expected);
  }
});

test("migrations are registered and applied", async () => {
  const tenant = await create();
  const add = "SELECT * FROM tenant_migration_add(version => $1, name => $2, up => $3, down => $4)";
  const up = "CREATE TABLE notes (body text DEFAULT $$it's $1$$);\nINSERT INTO notes DEFAULT VALUES;";
  const added = await one(admin, add, ["node-1", "notes", up, null]);
  assert.deepEqual([added.version, added.up, added.down], ["node-1", up, null]);
  assert.deepEqual(await one(admin, add, ["node-1", "notes", up, null]), added);
  const migrated = await one(admin, "SELECT * FROM tenant_migrate(tenant_id => $1)", [tenant.id]);
  assert.deepEqual([migrated.status, migrated.applied], ["migrated", 1]);

  await actAs(server, alice);
  await server.query("SELECT tenant_set_current($1)", [tenant.id]);
  assert.deepEqual(await one(server, "SELECT body FROM notes"), { body: "it's $1" });
});

test("a refusal has SQLSTATE, DETAIL and HINT", async () => {
  const tenant = await create();
  await actAs(server, bob);
  const error = await refused(server, "SELECT * FROM tenant_get($1)", [tenant.id]);
  assert.equal(error.code, "P0002");
  assert.deepEqual(JSON.parse(error.detail), { status: 404, code: "not_found" });
  assert.ok(error.hint);
  const unknown = await refused(server, "SELECT * FROM tenant_get($1)", [randomUUID()]);
  assert.deepEqual([unknown.message, unknown.detail, unknown.hint], [error.message, error.detail, error.hint]);

  await actAs(server, alice);
  const cases = [
    [server, "SELECT * FROM tenant_delete($1)", [tenant.id], "42501", 403],
    [server, "SELECT * FROM tenant_update($1, $2, $3)", [tenant.id, null, "[1]"], "22023", 400],
    [server, "SELECT * FROM tenant_remove_admin($1, $2)", [tenant.id, alice], "55000", 409],
    [admin, "SELECT * FROM tenant_create(slug => $1, name => $2)", [tenant.slug, "Another"], "23505", 409],
  ];
  for (const [client, sql, parameters, sqlstate, status] of cases) {
    const { code, detail } = await refused(client, sql, parameters);
    assert.deepEqual([code, JSON.parse(detail).status], [sqlstate, status], sql);
  }
});
