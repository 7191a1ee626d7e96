-- Who may call which function, and what each is for. Runs last, when every function exists.

-- Functions: nothing to PUBLIC, everything of the SQL surface to fluxbase_tenant_user, and to owner roles, who run
-- migrations, what a policy or a column default may call.
DO $$
DECLARE
    f pg_catalog.record;
BEGIN
    -- Operators are not qualified below, and one that somebody planted in the target schema would fit better than the
    -- server's own where types are only alike.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    FOR f IN
        SELECT p.oid::pg_catalog.regprocedure AS signature, p.proname, p.prorettype, p.pronamespace::pg_catalog.regnamespace AS schema
        FROM pg_catalog.pg_proc p
        JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
        WHERE d.deptype = 'e' AND e.extname = 'fluxbase_tenant'
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f.signature);
        IF f.prorettype <> ALL ('{event_trigger,trigger,internal}'::pg_catalog.regtype[])
           AND f.proname NOT IN ('policy_tenant', 'policy_column', 'relation_in', 'relation_out') THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO fluxbase_tenant_user', f.signature);
        END IF;
        IF f.proname IN ('reachable', 'installed', 'nextval', 'tenant_current_id', 'tenant_current_user_id', 'tenant_has_access',
                         'tenant_has_role', 'tenant_is_instance_admin') THEN
            EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO fluxbase_tenant_owner', f.signature);
        END IF;
    END LOOP;
    EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %s TO fluxbase_tenant_user, fluxbase_tenant_owner', '@extschema@');
    -- Defaults of serial columns are written as their table's owner, and name fluxbase_tenant.nextval().
    GRANT USAGE ON SCHEMA fluxbase_tenant TO fluxbase_tenant_owner;
END
$$;

-- \df+ shows these. "Tenant row", "assignment row" and the words for errors are README.md's.
COMMENT ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) IS
    'Creates a tenant: its row, schema, owner role, grants and all registered migrations, in the caller''s '
    'transaction. Without slug one is made from name, which is required. The calling user or admin_user_id becomes '
    'tenant_admin. Instance admins; under create_policy authenticated any user, who may choose neither id nor another '
    'admin. Returns the new tenant row. Errors: invalid_argument, forbidden, conflict (23505 slug taken, 55000 limit '
    'reached or id in use), and those of a migration. Fluxbase: tenant.create; Nile: tenants.create.';
COMMENT ON FUNCTION @extschema@.tenant_clone(uuid, text, text, boolean) IS
    'Creates a tenant like another one: its schema by the migrations in the source''s ledger, its metadata, and with_data '
    'its rows and where its sequences are; writers of the source wait meanwhile. Without slug one is made from name, '
    'without name it is the source''s. The calling user becomes tenant_admin. Instance admins. Returns the new tenant row. '
    'Errors: not_found, forbidden, invalid_argument, conflict (23505 slug taken; 55000 source deleted, or with something '
    'that no migration makes).';
COMMENT ON FUNCTION @extschema@.tenant_spares_fill(integer) IS
    'Makes, migrates or drops spare tenants until there are n, by default fluxbase_tenant.spare_tenants, in the caller''s '
    'transaction. tenant_create() takes one and only renames it. Instance admins. Returns how many were made, migrated and '
    'dropped. Errors: forbidden, invalid_argument.';
COMMENT ON FUNCTION @extschema@.tenant_get(uuid) IS
    'The tenant row of one tenant, by default the current one. Members and instance admins. Errors: not_found, also '
    'for tenants that are not the caller''s to see. Fluxbase: tenant.get; Nile: tenants.get.';
COMMENT ON FUNCTION @extschema@.tenant_get_by_slug(text) IS
    'The tenant row of one tenant, by slug. Members and instance admins. Errors: not_found, also for tenants that are '
    'not the caller''s to see.';
COMMENT ON FUNCTION @extschema@.tenant_list() IS
    'The tenant rows of all tenants that are not deleted, oldest first. Instance admins. Errors: forbidden. Fluxbase: '
    'tenant.list.';
COMMENT ON FUNCTION @extschema@.tenant_list_mine() IS
    'The tenant rows of the calling user''s tenants that are not deleted, with my_role, oldest membership first; no '
    'rows if there are none. Errors: unauthenticated without a current user. Fluxbase: tenant.listMine; Nile: '
    'tenants.list.';
COMMENT ON FUNCTION @extschema@.tenant_update(uuid, text, jsonb) IS
    'Changes name and metadata of a tenant, by default the current one; NULL leaves as it is, metadata is replaced '
    'whole, the slug never changes. Tenant admins. Returns the tenant row. Errors: not_found, forbidden, '
    'invalid_argument, conflict if suspended. Fluxbase: tenant.update; Nile: tenants.update.';
COMMENT ON FUNCTION @extschema@.tenant_set_default(uuid) IS
    'Makes a tenant the default one, which cannot be deleted; the former default is none any more. Instance admins. '
    'Returns the tenant row. Errors: not_found, forbidden, conflict if deleted.';
COMMENT ON FUNCTION @extschema@.tenant_delete(uuid) IS
    'Deletes a tenant for good: schema, data, owner role, members. Rows of shared tables whose removal runs code or has to '
    'wait are removed after the commit, by a background worker; until then nobody reaches them. Instance admins. Returns the '
    'tenant row as it was. Errors: not_found, forbidden, conflict for the default tenant. Fluxbase: tenant.delete.';
COMMENT ON FUNCTION @extschema@.tenant_soft_delete(uuid) IS
    'Marks a tenant as deleted and keeps its data; again: the same success. Without an argument the current tenant '
    'must have been set, not just found by membership. Tenant admins. Returns the tenant row. Errors: not_found, '
    'forbidden, conflict for the default tenant. Nile: tenants.delete.';
COMMENT ON FUNCTION @extschema@.tenant_restore(uuid) IS
    'Undoes tenant_soft_delete(). Instance admins. Returns the tenant row. Errors: not_found, forbidden, conflict '
    '(23505 if the slug was reused, 55000 if not deleted or the limit is reached).';
COMMENT ON FUNCTION @extschema@.tenant_list_deleted() IS
    'The tenant rows of the soft-deleted tenants, longest deleted first. Instance admins. Errors: forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_suspend(uuid) IS
    'Keeps everybody but instance admins from a tenant''s data; again: the same success. Instance admins. Returns the '
    'tenant row. Errors: not_found, forbidden, conflict if deleted.';
COMMENT ON FUNCTION @extschema@.tenant_resume(uuid) IS
    'Undoes tenant_suspend(); again: the same success. Instance admins. Returns the tenant row. Errors: not_found, '
    'forbidden, conflict if deleted.';
COMMENT ON FUNCTION @extschema@.tenant_purge(interval) IS
    'Deletes for good what was soft-deleted longer ago than older_than, and tries again what is left of earlier deletions, in '
    'background workers and a transaction for each '
    'tenant; in the caller''s transaction where that is a block. Instance admins. Returns the tenant rows as they were. '
    'Errors: forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_repair(uuid) IS
    'Puts back a tenant''s grants, ownership, owner role and policies, and the grants and policies of the catalog. Instance '
    'admins. Returns a row for each thing repaired: object, problem. Errors: not_found, forbidden, conflict if the schema is '
    'missing.';
COMMENT ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) IS
    'Makes a user tenant_admin of a tenant; a member is promoted; again: the same row. Tenant admins. Returns the '
    'assignment row. Errors: not_found, forbidden, conflict if suspended. Fluxbase: tenant.assignAdmin.';
COMMENT ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) IS
    'Ends the membership of a tenant_admin. Tenant admins. Returns the assignment row as it was. Errors: not_found, '
    'also if the user is no admin there; forbidden; conflict for the last admin. Fluxbase: tenant.removeAdmin.';
COMMENT ON FUNCTION @extschema@.tenant_list_admins(uuid) IS
    'The assignment rows of the admins of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listAdmins.';
COMMENT ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) IS
    'Adds a user to a tenant as tenant_member or tenant_admin, or changes the role there; again: the same row. Tenant '
    'admins. Returns the assignment row. Errors: not_found, forbidden, invalid_argument, conflict if the last admin '
    'would become a member. Fluxbase: tenant.addMember, tenant.updateMember; Nile: tenants.addMember.';
COMMENT ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) IS
    'Ends a user''s membership, whatever the role. Tenant admins. Returns the assignment row as it was. Errors: '
    'not_found, forbidden, conflict for the last admin. Fluxbase: tenant.removeMember; Nile: tenants.removeMember.';
COMMENT ON FUNCTION @extschema@.tenant_list_members(uuid) IS
    'The assignment rows of all members of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listMembers; Nile: tenants.users.';
COMMENT ON FUNCTION @extschema@.tenant_leave(uuid) IS
    'Ends the calling user''s own membership. Without an argument the current tenant must have been set, not just '
    'found by membership. Returns the assignment row as it was. Errors: unauthenticated, not_found, conflict for the '
    'last admin. Nile: tenants.leaveTenant.';
COMMENT ON FUNCTION @extschema@.tenant_set_current(text, boolean) IS
    'Makes a tenant the current one, by slug or by id as text, and puts its schema first in search_path; is_local as '
    'in set_config(). Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict '
    'if suspended. Fluxbase: setTenant; Nile: withContext.';
COMMENT ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) IS
    'Makes a tenant the current one, by id, and puts its schema first in search_path; is_local as in set_config(). '
    'Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict if suspended. '
    'Fluxbase: setTenant; Nile: withContext.';
COMMENT ON FUNCTION @extschema@.tenant_reset_current() IS
    'Undoes tenant_set_current(): no current tenant, and search_path as it was, unless somebody else changed it '
    'since. Anyone.';
COMMENT ON FUNCTION @extschema@.tenant_current() IS
    'The tenant row of the current tenant; no row if there is none. Errors: not_found if it is set and not the '
    'caller''s to see.';
COMMENT ON FUNCTION @extschema@.tenant_current_id() IS
    'Id of the current tenant: the setting, else the claim, else the calling user''s oldest membership; NULL if there '
    'is none. Errors: not_found if it is set and not the caller''s to see. Fluxbase: getTenantId.';
COMMENT ON FUNCTION @extschema@.tenant_current_user_id() IS
    'Id of the current user as set or claimed; NULL if there is none. Errors: 22P02 if the setting or claim holds no '
    'uuid.';
COMMENT ON FUNCTION @extschema@.tenant_has_access(uuid) IS
    'Whether the caller may reach a tenant''s data: as member of an active tenant, as its service context, or as '
    'instance admin. Never an error for want of an identity. For policies of the application.';
COMMENT ON FUNCTION @extschema@.tenant_has_role(uuid, text) IS
    'Whether the caller may reach a tenant''s data with at least the role: tenant_member or tenant_admin. Errors: '
    'invalid_argument for another role. For policies of the application.';
COMMENT ON FUNCTION @extschema@.tenant_is_instance_admin() IS
    'Whether the caller may do everything to every tenant. For policies of the application.';
COMMENT ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) IS
    'Makes a user instance admin; again: the same row. Instance admins. Returns user_id, granted_by, created_at. '
    'Errors: forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) IS
    'Ends a user''s being instance admin. Instance admins. Returns the row as it was. Errors: not_found, forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_list_instance_admins() IS
    'The users who are instance admins, oldest first. Instance admins. Errors: forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) IS
    'Registers a migration: version, name, the SQL in up, and in down what undoes it for tenant_rollback(). transactional '
    'false: runs outside a transaction, statement by statement, in tenant_migrate_all(). Markers of goose or dbmate in up '
    'divide it into up and down, and decide about transactional where it is left out. A version that begins with R__ is '
    'repeatable: it may change, and is applied again when it has. The same again is a no-op. Changes no tenant: see '
    'tenant_migrate(). Instance admins. Returns the migration row; checksum is SHA-256 in hexadecimal. Errors: forbidden, '
    'invalid_argument, conflict for another text under a used version, 42601 for what does not parse.';
COMMENT ON FUNCTION @extschema@.tenant_migrations_load(text) IS
    'Registers the .sql files of a directory on the server, in the caller''s transaction, all or none: named and marked as '
    'golang-migrate, Flyway, dbmate or goose do, or VERSION_name.sql. Instance admins whose database role has the '
    'privileges of pg_read_server_files. Returns a row for each migration in the order of versions, status added, '
    'unchanged or changed (repeatable). Errors: forbidden, invalid_argument (directory, names, markers, duplicates, missing '
    'numbers), conflict (changed file, missing file, out of order), 42601 for what does not parse.';
COMMENT ON FUNCTION @extschema@.tenant_migration_list() IS
    'The registered migrations in the order of versions: numbers by value, then texts. Instance admins. Errors: '
    'forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_migrate(uuid, text) IS
    'Applies what is pending to one tenant, up to and including target, in the caller''s transaction. status is '
    'migrated, also if nothing was pending (applied = 0), or skipped for a soft-deleted tenant. Instance admins. '
    'Errors: not_found, forbidden, invalid_argument for an unknown target, 25001 if one pending runs outside a '
    'transaction, and the failing statement''s own with version and statement in CONTEXT. Fluxbase: tenant.migrate.';
COMMENT ON FUNCTION @extschema@.tenant_rollback(uuid, text) IS
    'Undoes what one tenant has applied behind target, newest first, by the down scripts, in the caller''s transaction; '
    'target stays applied, 0 stands for none. Instance admins. Errors: not_found, forbidden, invalid_argument for an '
    'unknown target, conflict if a down script is missing, and the failing statement''s own.';
COMMENT ON FUNCTION @extschema@.tenant_migration_remove(text) IS
    'Takes a migration back that no tenant has applied whole, and returns its row. Instance admins. Errors: forbidden, '
    'not_found, conflict (applied to a tenant).';
COMMENT ON FUNCTION @extschema@.tenant_migration_status() IS
    'How far each tenant that is not deleted has come, oldest first: version, how many migrations are pending, which of '
    'those outside a transaction is under way or stopped half way, and why tenant_migrate_all() failed at its last visit. Instance admins. Errors: forbidden.';

COMMENT ON FUNCTION @extschema@.tenant_migrate_all(text, integer, text[], interval, integer, boolean, boolean) IS
    'Applies what is pending, up to target, to all tenants that lack something or to those in tenants (slugs or ids), in '
    'background workers, one transaction a tenant. Waits lock_timeout for a lock and tries again retries times. '
    'stop_on_error: takes on no tenant after a failure; dry_run: rolls everything back. Instance admins, outside a '
    'transaction block. Returns a row for each tenant visited. Errors: forbidden, invalid_argument, not_found, 25001 in a '
    'transaction block, 53400 without a background worker.';
COMMENT ON FUNCTION @extschema@.tenant_drift(uuid) IS
    'What differs in a tenant''s schema from what its ledger says it should be, found by replaying the ledger into a scratch '
    'schema that is rolled back; NULL: of all tenants that are not deleted. Returns a row for each thing: object, problem '
    '(missing, unexpected, different, unfinished; locked where somebody else keeps a tenant of the fleet from being compared), expected, found; no rows: no drift. Instance admins. Errors: forbidden, '
    'not_found, and that of a migration that fails in an empty schema.';
COMMENT ON FUNCTION @extschema@.tenant_migration_progress() IS
    'How far each tenant_migrate_all() is that is under way, for \watch; rate in tenants per second. Instance admins. '
    'Errors: forbidden.';
COMMENT ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) IS
    'Makes a table outside the tenant schemas a shared one, each row of which belongs to a tenant: a column with the '
    'current tenant as default, NOT NULL, index, and policies, on partitions too; rows go when their tenant is deleted. Existing '
    'rows are given to existing_rows. Instance admins who own the table. Returns a row for each thing done, none the second '
    'time. Errors: unauthenticated, forbidden, invalid_argument (no table, column not uuid), conflict (rows without a tenant or '
    'of one that does not exist, table of a tenant), not_found.';
COMMENT ON FUNCTION @extschema@.tenant_unprotect(regclass) IS
    'Takes the policies and the default of tenant_protect() away; column and index stay. Instance admins who own the table. '
    'Returns a row for each thing done. Errors: unauthenticated, forbidden, invalid_argument, conflict.';
COMMENT ON FUNCTION @extschema@.tenant_check() IS
    'Audits the installation: a row for each finding with severity (error: tenants are not kept apart, or the catalog has lost '
    'something; warning: neither, by what may change), object, problem and fix, worst first; no rows: nothing found. Waits for '
    'nobody. Instance admins. Errors: forbidden.';
COMMENT ON FUNCTION fluxbase_tenant.relation_in(cstring) IS 'Input of the type relation: the relation of that name, 0 where there is none.';
COMMENT ON FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) IS 'Output of the type relation: the name, as regclass prints it.';
COMMENT ON FUNCTION fluxbase_tenant.reachable(uuid) IS
    'Whether the caller reaches the tables of a tenant now; called by the policy tenant_isolation of every such table.';
COMMENT ON FUNCTION fluxbase_tenant.reachable_tenant_ids() IS
    'The tenants whose rows of shared tables the caller reaches now; called by the policies of such tables.';
COMMENT ON FUNCTION fluxbase_tenant.visible_tenant_ids() IS
    'The tenants whose catalog rows the caller sees; called by the catalog''s policies.';
COMMENT ON FUNCTION fluxbase_tenant.reachable_support(internal) IS
    'Planner support of reachable(): true where the caller is checked when the query starts.';
COMMENT ON FUNCTION fluxbase_tenant.installed_support(internal) IS
    'Planner support of installed(): true, without a call for each policy.';
COMMENT ON FUNCTION fluxbase_tenant.installed() IS
    'True. The policy tenant_access calls it, so that DROP EXTENSION with CASCADE leaves no table open.';
COMMENT ON FUNCTION fluxbase_tenant.nextval(regclass) IS
    'nextval() for sequences of tenants within the caller''s reach, which are granted to nobody; serial columns of tenants '
    'call it. Errors: forbidden.';
COMMENT ON FUNCTION fluxbase_tenant.policy_tenant(pg_node_tree) IS
    'The tenant in a policy''s condition that is a call of reachable() and nothing else; NULL for any other condition.';
COMMENT ON FUNCTION fluxbase_tenant.policy_column(pg_node_tree) IS
    'The number of the tenant column in a policy''s condition that compares it with reachable_tenant_ids() and does nothing '
    'else; NULL for any other condition.';
COMMENT ON FUNCTION fluxbase_tenant.before_command() IS
    'Event trigger function: refuses DROP OWNED BY the extension''s roles, and GRANT and REVOKE on objects of tenants by '
    'others than their owner.';
COMMENT ON FUNCTION fluxbase_tenant.after_command() IS
    'Event trigger function: gives relations of tenants their policies, and refuses to weaken them.';
COMMENT ON FUNCTION fluxbase_tenant.after_any_command() IS
    'Event trigger: refuses objects that hang on what is in the schema of a tenant out of the caller''s reach.';
COMMENT ON FUNCTION fluxbase_tenant.after_drop() IS
    'Event trigger function: refuses to drop the policy tenant_isolation.';
COMMENT ON FUNCTION fluxbase_tenant.catalog_changed() IS
    'Trigger function: tells all sessions to forget what they know about access.';
COMMENT ON EVENT TRIGGER fluxbase_tenant_before_command IS
    'roles of the extension and objects of tenants keep their privileges, and are not locked by others';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_command IS
    'row-level security and policies for every table that comes to be in a tenant schema';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_any_command IS
    'no object of others hangs on what is in a tenant''s schema';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_drop IS
    'the policy tenant_isolation goes with its table or not at all';
