//! Deleting a tenant with a thousand tables succeeds, or the error names the setting that is too small.

use std::sync::Arc;

use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Cluster, Db, expect_error};

cases![a_thousand_tables_are_deleted_or_the_setting_is_named];

const TABLES: &str = "DO $$ BEGIN FOR n IN 1..1000 LOOP
    EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', n); END LOOP; END $$";

/// A thousand tables fit into PostgreSQL's default lock table. Then the test uses the smallest lock table possible.
fn a_thousand_tables_are_deleted_or_the_setting_is_named(db: &Db) {
    let cluster: Arc<Cluster> = Cluster::start(db.install(), &["max_connections = 100"]);
    let db = Db::new(&cluster);
    db.add_migration("1", TABLES);
    let large = db.new_tenant("large", new_user());
    let doomed = db.new_tenant("doomed", new_user());
    assert_eq!(tables(&db, "tenant_large"), 1000);
    run(&mut db.admin(), &format!("SELECT tenant_delete('{doomed}')"));
    assert_eq!(db.traces(doomed, "tenant_doomed"), 0);

    run(&mut db.superuser(), "ALTER SYSTEM SET max_locks_per_transaction = 10");
    run(&mut db.superuser(), "ALTER SYSTEM SET max_connections = 10");
    cluster.restart("fast");
    let mut admin = db.admin();
    for _ in 0..2 {
        let refusal = expect_error(admin.query("SELECT * FROM tenant_delete($1)", &[&large]), "53200");
        refusal.hint_has("max_locks_per_transaction");
        // The error arrives before the locks are released. The next result arrives after that.
        run(&mut admin, "SELECT 1");
    }
    assert_eq!(db.traces(large, "tenant_large"), 3);
    assert_eq!(tables(&db, "tenant_large"), 1000);
    assert_eq!(one::<Uuid>(&mut admin, "SELECT id FROM tenant_list()", &[]), large);

    // With the larger lock table the deletion succeeds.
    run(&mut db.superuser(), "ALTER SYSTEM RESET ALL");
    cluster.restart("fast");
    run(&mut db.admin(), &format!("SELECT tenant_delete('{large}')"));
    assert_eq!(db.traces(large, "tenant_large"), 0);
}

fn tables(db: &Db, schema: &str) -> i64 {
    one(&mut db.superuser(), "SELECT count(*) FROM pg_tables WHERE schemaname = $1", &[&schema])
}
