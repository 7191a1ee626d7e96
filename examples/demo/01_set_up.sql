\i examples/demo/people.psql
\echo
\echo '--- The extension, and a role for the application, which can log in, is no superuser and owns nothing.'
CREATE EXTENSION fluxbase_tenant;
CREATE ROLE app LOGIN;
GRANT fluxbase_tenant_server TO app;

\echo
\echo '--- The product: agencies track and bill their hours. Its schema is a series of migrations, which are registered once.'
SELECT version, name, left(checksum, 12) AS checksum FROM tenant_migration_add('1', 'clients and projects', $sql$
    CREATE TABLE clients (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name       text NOT NULL UNIQUE,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE projects (
        id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        client_id   bigint NOT NULL REFERENCES clients,
        name        text NOT NULL,
        hourly_rate numeric(8, 2) NOT NULL CHECK (hourly_rate > 0),
        UNIQUE (client_id, name)
    );
    CREATE TABLE tasks (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project_id bigint NOT NULL REFERENCES projects ON DELETE CASCADE,
        title      text NOT NULL,
        done       boolean NOT NULL DEFAULT false
    );
    CREATE INDEX tasks_open_idx ON tasks (project_id) WHERE NOT done;
$sql$);

SELECT version, name, left(checksum, 12) AS checksum FROM tenant_migration_add('2', 'hours and invoices', $sql$
    CREATE TYPE invoice_state AS ENUM ('draft', 'sent', 'paid');
    CREATE TABLE invoices (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project_id bigint NOT NULL REFERENCES projects,
        state      invoice_state NOT NULL DEFAULT 'draft',
        hours      numeric(8, 2) NOT NULL,
        rate       numeric(8, 2) NOT NULL,
        amount     numeric(12, 2) GENERATED ALWAYS AS (hours * rate) STORED
    );
    CREATE TABLE time_entries (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        task_id    bigint NOT NULL REFERENCES tasks,
        user_id    uuid NOT NULL DEFAULT tenant_current_user_id(),
        hours      numeric(5, 2) NOT NULL CHECK (hours > 0),
        invoice_id bigint REFERENCES invoices
    );
    CREATE INDEX time_entries_task_idx ON time_entries (task_id);
    CREATE TABLE activity (
        id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        user_id    uuid,
        happened   text NOT NULL
    );

    -- Each new invoice adds a line to the activity, written as the calling user.
    CREATE FUNCTION note_invoice() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO activity (user_id, happened)
        VALUES (tenant_current_user_id(), format('invoice %s over %s h', NEW.id, NEW.hours));
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER note_invoice AFTER INSERT ON invoices FOR EACH ROW EXECUTE FUNCTION note_invoice();

    -- Bills the hours that have not been billed.
    CREATE FUNCTION bill_project(project bigint) RETURNS invoices LANGUAGE sql BEGIN ATOMIC
        WITH open AS (
            SELECT e.id, e.hours FROM time_entries e JOIN tasks t ON t.id = e.task_id
            WHERE t.project_id = project AND e.invoice_id IS NULL
        )
        INSERT INTO invoices (project_id, hours, rate)
        SELECT p.id, (SELECT sum(hours) FROM open), p.hourly_rate FROM projects p WHERE p.id = project;
        UPDATE time_entries SET invoice_id = (SELECT max(id) FROM invoices WHERE project_id = project)
        WHERE invoice_id IS NULL AND task_id IN (SELECT id FROM tasks WHERE project_id = project);
        SELECT i FROM invoices i WHERE project_id = project ORDER BY id DESC LIMIT 1;
    END;

    -- The view checks access as its caller, not as its owner.
    CREATE VIEW project_hours WITH (security_invoker = true) AS
        SELECT c.name AS client, p.name AS project, sum(e.hours) AS hours, round(sum(e.hours * p.hourly_rate), 2) AS worth
        FROM projects p
        JOIN clients c ON c.id = p.client_id
        JOIN tasks t ON t.project_id = p.id
        JOIN time_entries e ON e.task_id = t.id
        GROUP BY c.name, p.name;
$sql$);
